"""A paper's table from runs that exist."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from distreid.common.errors import UserError
from distreid.sweeps.plan import Trial
from distreid.sweeps.tables import FORMATS, papers, table


def cells(text: str, row: str) -> dict[str, str]:
    lines = list(csv.reader(io.StringIO(text)))
    return dict(zip(lines[0], next(line for line in lines if line[0] == row), strict=True))


def result(out: Path, settings: dict, direct: tuple[float, float], *rounds: tuple[float, float]) -> None:
    folder = out / "drawn" / "runs" / Trial(settings).name
    folder.mkdir(parents=True)
    lines = [{"round": number, "mAP": a, "rank1": b} for number, (a, b) in enumerate(rounds, 1)]
    final = {key: lines[-1][key] for key in ("mAP", "rank1")}
    direct_transfer = {"mAP": direct[0], "rank1": direct[1]}
    (folder / "result.json").write_text(json.dumps({"direct_transfer": direct_transfer, "rounds": lines, "final": final}))


def test_without_runs_it_is_the_papers(tmp_path: Path) -> None:
    found = table("daam-4", out=tmp_path, form="csv")
    row = cells(found, "Soft label")
    assert row["Duke → Market, paper mAP"] == "63.9" and row["Market → Duke, paper Rank-1"] == "73.3"
    assert row["Duke → Market, ours mAP"] == "–" and len(found.splitlines()) == 10
    # Direct transfer is the soft-label run before its first round; the supervised row has a source of its own.
    assert "16 of 16 runs are missing: distreid table daam-4 --seeds 0 --run" in table("daam-4", out=tmp_path)


def test_mean_and_deviation_over_seeds_and_every_measure(tmp_path: Path) -> None:
    common = papers()["daam-2"]["synthetic"]["set"]
    result(tmp_path, common | {"seed": 0}, (0.2, 0.4), (0.3, 0.5), (0.5, 0.6))
    result(tmp_path, common | {"seed": 1}, (0.3, 0.4), (0.4, 0.5), (0.7, 0.8))
    made = table("daam-2", synthetic=True, seeds=[0, 1], out=tmp_path, form="csv")
    ours = "day → night (synthetic), ours"
    assert cells(made, "DAAM U")[f"{ours} mAP"] == "60.0 ± 14.1" and cells(made, "DAAM U")[f"{ours} Rank-1"] == "70.0 ± 14.1"
    assert cells(made, "DAAM D")[f"{ours} mAP"] == "25.0 ± 7.1" and cells(made, "DAAM G")[f"{ours} mAP"] == "35.0 ± 7.1"
    assert cells(made, "SSG G")["Market → Duke, paper Rank-1"] == "42.5" and cells(made, "SSG G")[f"{ours} mAP"] == "–"
    # The full model is one run for all tables, whatever else they vary: p = 0.015 is the synthetic base's own.
    assert cells(table("daam-4", synthetic=True, out=tmp_path, form="csv"), "+DSH+DSP+DAAM")[f"{ours} mAP"] == "50.0"
    assert cells(table("daam-figure-5", synthetic=True, out=tmp_path, form="csv"), "labels.p = 0.015")[f"{ours} mAP"] == "50.0"
    six = common | {"adapt.rounds": 6, "seed": 0}
    result(tmp_path, six, (0.1, 0.1), (0.31, 0.5), (0.52, 0.6))
    figure = table("daam-figure-4", synthetic=True, out=tmp_path, form="csv")
    assert cells(figure, "iteration 2")[f"{ours} mAP"] == "52.0" and cells(figure, "iteration 3")[f"{ours} mAP"] == "–"


def test_a_failed_run_is_said_with_its_reason_and_is_not_missing(tmp_path: Path) -> None:
    common = papers()["daam-figure-6"]["synthetic"]["set"]
    for seed in (0, 1):
        result(tmp_path, common | {"labels.min_samples": 14, "seed": seed}, (0.2, 0.4), (0.5 + 0.2 * seed, 0.6))
    failed = Trial(common | {"labels.min_samples": 14, "seed": 2}).name
    (tmp_path / "drawn" / "failures").mkdir()
    (tmp_path / "drawn" / "failures" / f"{failed}.txt").write_text("round 1: no cluster\n")
    text = table("daam-figure-6", synthetic=True, seeds=[0, 1, 2], out=tmp_path)
    assert "60.0 ± 14.1 (2 of 3)" in text
    assert f"1 of 21 runs failed, {failed} with: round 1: no cluster\n18 of 21 runs are missing" in text


def test_one_run_fills_both_directions_of_table_3(tmp_path: Path) -> None:
    folder = tmp_path / "edaan-market-to-prid" / "runs" / Trial({"target.cameras": [1], "seed": 0}).name
    folder.mkdir(parents=True)
    final = {"mAP": 0.9, "rank1": 0.3, "rank10": 0.5, "reverse": {"mAP": 0.9, "rank1": 0.2, "rank10": 0.4}}
    (folder / "result.json").write_text(json.dumps({"rounds": [], "final": final}))
    made = table("edaan-3", out=tmp_path, form="csv")
    row = cells(made, "EDAAN (cam1)")
    assert [row[f"Market → PRID cam1/cam2, {whose} Rank-1"] for whose in ("paper", "ours")] == ["34.2", "30.0"]
    assert [row[f"Market → PRID cam2/cam1, {whose} Rank-10"] for whose in ("paper", "ours")] == ["54.0", "40.0"]
    assert cells(made, "EDAAN (cam2)")["Market → PRID cam1/cam2, ours Rank-1"] == "–"
    assert "Rank-1 and Rank-10 in percent" in (text := table("edaan-3", out=tmp_path)) and "5 of 6 runs are missing" in text


@pytest.mark.parametrize("name", papers())
@pytest.mark.parametrize("form", FORMATS)
def test_every_table_in_every_format(name: str, form: str, tmp_path: Path) -> None:
    base = tmp_path / "shop.yaml"
    base.write_text("source: {data: a.arrow}\ntarget: {data: b.arrow}\n")
    transfers = papers()[name]["tables"][name]["transfers"]
    synthetic = form == "text" and bool(transfers)
    text = table(name, synthetic=synthetic, base=None if transfers else base, out=tmp_path, form=form)
    assert text.count("\n") >= 4 and ("runs are missing" in text or form == "csv")


def test_ones_own_configuration_and_what_the_paper_claims(tmp_path: Path) -> None:
    """Differences are of one seed's runs: a seed that one of the two rows lacks takes no part."""
    base = tmp_path / "shop.yaml"
    base.write_text("source: {data: a.arrow}\ntarget: {data: b.arrow}\nlabels: {p: 0.01}\n")
    plain = {"model.attention": "none", "model.domain_branch": False}
    for seed, mAP in enumerate((0.5, 0.8, 0.9)):
        write_run(tmp_path / "out" / "shop", plain | {"seed": seed}, mAP)
        if seed < 2:
            write_run(tmp_path / "out" / "shop", plain | {"loss.target": "hard", "seed": seed}, mAP - 0.1 - 0.2 * seed)
    text = table("daam-4", base=base, seeds=[0, 1, 2], out=tmp_path / "out", form="markdown")
    assert "shop, ours mAP" in text and "Market → Duke, paper Rank-1" in text
    # 10 and 30 points: mean 20, deviation 14.1; the seeds' own deviation is in neither.
    assert "Soft label − Hard label: mAP +20.0 ± 14.1 (2 of 3), Rank-1 +20.0 ± 14.1 (2 of 3)" in text
    assert "LSR − Hard label" not in text, "no run of LSR"
    assert f"distreid table daam-4 adapt.rounds=5 --base {base} --seeds 0 --run" in table(
        "daam-4", ["adapt.rounds=5"], base=base, out=tmp_path
    )


def test_our_own_comparison(tmp_path: Path) -> None:
    base = tmp_path / "shop.yaml"
    base.write_text("source: {data: a.arrow}\ntarget: {data: b.arrow}\n")
    folder = write_run(tmp_path / "shop", {"method": "contrast", "seed": 0}, 0.5)
    rounds = [{"round": n, "mAP": a, "rank1": 0.5} for n, a in enumerate((0.3, 0.6, 0.5), 1)]
    (folder / "result.json").write_text(json.dumps({"direct_transfer": rounds[0], "rounds": rounds, "final": rounds[-1]}))
    found = table("methods", base=base, out=tmp_path, form="csv")
    assert [cells(found, f"contrast{more}")["shop, ours mAP"] for more in ("", ", decline")] == ["50.0", "-10.0"]
    assert cells(found, "DAAM")["shop, ours mAP"] == "–"


def write_run(out: Path, settings: dict, accuracy: float) -> Path:
    folder = out / "runs" / Trial(settings).name
    folder.mkdir(parents=True)
    figures = {"mAP": accuracy, "rank1": accuracy}
    (folder / "result.json").write_text(json.dumps({"direct_transfer": figures, "rounds": [figures], "final": figures}))
    return folder


def test_claims_name_rows_of_their_table() -> None:
    for name, book in papers().items():
        what = book["tables"][name]
        rows = {row["name"] for row in what.get("rows", [])}
        assert all(row in rows for claim in what.get("claims", []) for row in claim), name


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="table methods has no data sets of its own: name a configuration"):
        table("methods", out=tmp_path)
    with pytest.raises(UserError, match=r"base .*gone\.yaml cannot be read"):
        table("daam-4", base=tmp_path / "gone.yaml", out=tmp_path)
    with pytest.raises(UserError, match="two bases: leave out one"):
        table("daam-4", base=tmp_path / "a.yaml", synthetic=True, out=tmp_path)
    with pytest.raises(UserError, match=r"'adapt\.rounds' is not an override"):
        table("daam-4", ["adapt.rounds"], out=tmp_path)
    with pytest.raises(UserError, match="choose one of daam-1"):
        table("daam-9", out=tmp_path)
    with pytest.raises(UserError, match=r"adapt\.rounds"):
        table("daam-1", ["adapt.round=1"], out=tmp_path)


def test_the_protocol_of_our_runs_is_said(tmp_path: Path) -> None:
    for transfer, protocol in (("market-to-duke", {"protocol": "single_query"}), ("duke-to-market", {"protocol": "single_query"})):
        write_tested(tmp_path / transfer, protocol)
    assert "in percent, last round, single query; ours with seed 0." in table("daam-1", out=tmp_path)
    write_tested(tmp_path / "duke-to-market", {"protocol": "single_shot", "splits": 20})
    text = table("daam-1", out=tmp_path)
    assert "Duke → Market: single gallery shot, 20 splits, Market → Duke: single query; ours" in text


def write_tested(out: Path, protocol: dict) -> None:
    folder = out / "runs" / Trial({"seed": 0}).name
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"mAP": 0.5, "rank1": 0.6}
    rounds = [{"round": 1, **figures, **protocol}]
    (folder / "result.json").write_text(json.dumps({"direct_transfer": None, "rounds": rounds, "final": figures}))
