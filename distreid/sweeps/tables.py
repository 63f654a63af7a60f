"""`distreid table`: a paper's table in its layout, its figures beside ours (mean ± deviation over seeds), from runs that exist or
are run now; or a comparison of our own. What the paper says and what makes a row ours stands in `distreid/sweeps/papers/*.yaml`."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from distreid.actions.demo import SOURCE, TARGET, synthetic_settings
from distreid.common.errors import UserError
from distreid.common.text import protocol_of
from distreid.config import to_dict
from distreid.sweeps.formats import FORMATS
from distreid.sweeps.layout import Cell, Pair, Row, differences, lay_out, measured
from distreid.sweeps.plan import Base, Plan, Trial, read_base, split_override
from distreid.sweeps.results import failure_file
from distreid.sweeps.run import run_plan, synthetic_folder
from distreid.training import RunDirectory

TITLES = {"mAP": "mAP", "rank1": "Rank-1", "rank10": "Rank-10"}


@dataclass(frozen=True)
class Column:
    """One transfer: its title, its runs, and those whose source is the target itself (Table 4's supervised row). reverse: it shows
    the other direction of a test between two cameras."""

    title: str
    plan: Plan
    supervised: Plan
    reverse: bool = False

    def of(self, row: Row) -> Plan:
        return self.supervised if row.supervised else self.plan


def table(
    name: str,
    overrides: Sequence[str] = (),
    *,
    synthetic: bool = False,
    base: Path | None = None,
    seeds: Sequence[int] = (0,),
    data: Path = Path("data"),
    out: Path = Path("runs/tables"),
    run: bool = False,
    form: str = "text",
) -> str:
    """The table NAME as text.

    Args:
        overrides: key=value for all of our runs.
        synthetic: ours on the synthetic pair in place of the paper's transfers.
        base: ours on the data and the settings of this configuration in place of the paper's transfers.
        data: folder of the packed data sets of the paper's transfers.
        out: where our runs lie, shared by all tables.
        run: run what is missing first.
    """
    if synthetic and base:
        raise UserError(f"--synthetic and --base {base} are two bases: leave out one")
    books = papers()
    if name not in books:
        raise UserError(f"no table '{name}': choose one of {', '.join(books)}")
    book = books[name]
    what = book["tables"][name]
    if not what["transfers"] and base is None:
        raise UserError(
            f"table {name} has no data sets of its own: name a configuration, --base FILE, such as jobs/real/market-cameras.yaml"
        )
    figures = what.get("figures", ["mAP", "rank1"])
    rows = _rows(what, synthetic)
    columns = [_own(base, overrides, out)] if base else _columns(book, what, overrides, synthetic, data, out)
    trials = [[_trials(row, what, column, seeds) for column in columns] for row in rows]
    for number, column in enumerate(columns if run else []):
        for plan in (column.plan, column.supervised):
            cells = (line[number] for row, line in zip(rows, trials, strict=True) if column.of(row) is plan)
            wanted = {trial.name: trial for cell in cells for trial in cell}
            if wanted:
                run_plan(dataclasses.replace(plan, trials=list(wanted.values())))
    paper = [book["transfers"][key]["title"] for key in what["transfers"]]
    ours = [
        [_figures(row, column, found, figures) for column, found in zip(columns, line, strict=True)]
        for row, line in zip(rows, trials, strict=True)
    ]
    titles = [TITLES[figure] for figure in figures]
    shown = [column.title for column in columns]
    head, lines = lay_out(rows, ours, shown, paper, synthetic or base is not None, titles)
    where = " --synthetic" if synthetic else f" --base {base}" if base else ""
    command = f"distreid table {shlex.join([name, *overrides])}{where} --seeds {' '.join(map(str, seeds))} --run"
    claimed = differences(rows, ours, shown, what.get("claims", []), titles)
    return FORMATS[form](head, lines, [what["title"], "\n".join([_note(rows, columns, trials, seeds, command, titles), *claimed])])


@cache
def papers() -> dict[str, dict[str, Any]]:
    """Each table's name and the file of `papers/` that it stands in."""
    files = (resources.files("distreid.sweeps") / "papers").iterdir()
    books = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted(files, key=lambda file: file.name)]
    return {name: book for book in books for name in book["tables"]}


def _rows(what: dict[str, Any], synthetic: bool) -> list[Row]:
    nothing: list[Pair | None] = [None] * len(what["transfers"])
    if "vary" in what:
        key, values = what["vary"]["key"], what["vary"].get("synthetic" if synthetic else "values", what["vary"]["values"])
        return [Row(f"{key} = {value:g}", nothing, {key: value}, "final", False) for value in values]
    return [
        Row(row["name"], row.get("paper", nothing), row.get("set"), row.get("measure", "final"), row.get("supervised", False))
        for row in what["rows"]
    ]


def _columns(
    book: dict[str, Any], what: dict[str, Any], overrides: Sequence[str], synthetic: bool, data: Path, out: Path
) -> list[Column]:
    changes = dict(split_override(text) for text in overrides)
    if synthetic:
        settings = book["synthetic"]

        def base(seed: int) -> dict[str, Any]:
            return synthetic_settings(synthetic_folder(seed), seed, settings["method"])

        title, folder = f"{SOURCE} → {TARGET} (synthetic)", out / settings["folder"]
        return [_column(title, folder, base, settings["set"] | changes, settings["concurrency"], synthetic=True)]
    columns = []
    for key in what["transfers"]:
        shown = book["transfers"][key]
        transfer, folder = book["transfers"][shown.get("runs", key)], out / shown.get("runs", key)
        tree = {
            role: transfer[role] | {"data": str(data.resolve() / Path(transfer[role]["data"]).name)}
            for role in ("source", "target")
        }
        column = _column(shown["title"], folder, partial(_same, book.get("base", {}) | tree), changes, 0)
        columns.append(dataclasses.replace(column, reverse="runs" in shown))
    return columns


def _own(base: Path, overrides: Sequence[str], out: Path) -> Column:
    """One's own configuration as the only column."""
    tree, changes = read_base(base), dict(split_override(text) for text in overrides)
    return _column(base.stem, out / base.stem, partial(_same, tree), changes, 0)


def _same(tree: dict[str, Any], seed: int) -> dict[str, Any]:
    """A base that does not depend on the seed."""
    return dict(tree)


def _column(title: str, output: Path, base: Base, settings: dict[str, Any], concurrency: int, synthetic: bool = False) -> Column:
    """Its plans have one trial each, which holds the settings that all of the column's runs have."""

    def supervised(seed: int) -> dict[str, Any]:
        tree = base(seed)
        return tree | {"source": tree["target"]}

    plan, other = (
        Plan(folder.resolve(), which, [Trial(settings)], concurrency=concurrency, synthetic=synthetic)
        for folder, which in ((output, base), (output.with_name(f"{output.name}-supervised"), supervised))
    )
    plan.config(plan.trials[0])  # checks the settings before anything runs
    return Column(title, plan, other)


def _trials(row: Row, what: dict[str, Any], column: Column, seeds: Sequence[int]) -> list[Trial]:
    """Our runs of a cell. Settings that the base has anyway are left out, so that tables share their runs."""
    if row.settings is None:
        return []
    trials = []
    for seed in seeds:
        common = column.of(row).trials[0].settings
        tree = to_dict(column.of(row).config(Trial(common | {"seed": seed})))
        settings = {key: value for key, value in (what.get("set", {}) | row.settings).items() if _value(tree, key) != value}
        trials.append(column.of(row).found(Trial(common | settings | {"seed": seed})))
    return trials


def _value(tree: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        tree = tree[part]
    return tree


def _figures(row: Row, column: Column, trials: Sequence[Trial], figures: Sequence[str]) -> Cell:
    """The table's figures of each trial."""
    files = [RunDirectory(column.of(row).output / "runs" / trial.name).result for trial in trials]
    return [
        measured(json.loads(file.read_text(encoding="utf-8")), row.measure, figures, column.reverse) if file.exists() else None
        for file in files
    ]


def _note(
    rows: Sequence[Row],
    columns: Sequence[Column],
    trials: Sequence[Sequence[Sequence[Trial]]],
    seeds: Sequence[int],
    command: str,
    figures: Sequence[str],
) -> str:
    needed = {
        (column.of(row).output, trial.name)
        for row, line in zip(rows, trials, strict=True)
        for column, cell in zip(columns, line, strict=True)
        for trial in cell
    }
    missing = sorted((out, run) for out, run in needed if not RunDirectory(out / "runs" / run).result.exists())
    failed = [file for out, run in missing if (file := failure_file(out, run)).exists()]
    listed = ", ".join(map(str, seeds))
    text = f"{' and '.join(figures)} in percent, last round{_protocols(rows, columns, trials)}; ours "
    text += f"over seeds {listed}, mean ± deviation." if len(seeds) > 1 else f"with seed {listed}."
    if failed:
        reason = failed[0].read_text(encoding="utf-8").strip()
        text += f"\n{len(failed)} of {len(needed)} runs failed, {failed[0].stem} with: {reason}"
    if len(missing) > len(failed):
        text += f"\n{len(missing) - len(failed)} of {len(needed)} runs are missing: {command} makes them."
    return text


def _protocols(rows: Sequence[Row], columns: Sequence[Column], trials: Sequence[Sequence[Sequence[Trial]]]) -> str:
    """How our runs were tested: once where it is the same for all transfers, else by transfer."""
    names = {}
    for row, line in zip(rows, trials, strict=True):
        for column, cell in zip(columns, line, strict=True):
            for trial in cell:
                file = RunDirectory(column.of(row).output / "runs" / trial.name).result
                if file.exists():
                    names[column.title] = protocol_of(json.loads(file.read_text(encoding="utf-8")))
    if len(set(names.values())) > 1:
        return "; " + ", ".join(f"{title}: {name}" for title, name in names.items() if name)
    return "".join(f", {name}" for name in set(names.values()) if name)
