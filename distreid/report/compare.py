"""Several runs on one page: a table, their accuracies and clusters over rounds, and the settings in which they differ."""

from collections.abc import Sequence
from functools import partial
from string import ascii_uppercase

from distreid.common.text import duration, number, percent, plural, setting
from distreid.report.charts import line_chart
from distreid.report.figures import TONES
from distreid.report.marks import Line
from distreid.report.page import flat_settings
from distreid.report.parts import Column, Figure, Page, Section, Table
from distreid.report.read import Record, Run

Lettered = Sequence[tuple[str, Run]]
Curve = tuple[str, Sequence[tuple[int, float]]]  # a run's letter and its (round, value)s
_ACCURACIES = (("mAP", "mAP"), ("Rank-1", "rank1"), ("Rank-5", "rank5"), ("Rank-10", "rank10"))


def comparison_page(runs: Sequence[Run]) -> Page:
    """The runs are lettered in the order given."""
    pairs = [(ascii_uppercase[at] if at < len(ascii_uppercase) else str(at + 1), run) for at, run in enumerate(runs)]
    curves = [
        *(figure for name, key in _ACCURACIES[:2] for figure in _accuracy(pairs, name, key)),
        *_labels(pairs, "clusters", "Pseudo-identities found."),
        *_labels(pairs, "outliers", "Images of the target outside every cluster."),
    ]
    # Two targets may bear one name; their test sets seldom have one size.
    tested = {
        (run.target, run.protocol, *(m.get(key) for m in run.measured[-1:] for key in ("queries", "gallery"))) for run in runs
    }
    protocols = sorted({run.protocol for run in runs if run.protocol})
    note = (
        ("" if len(tested) == 1 else "The target test sets or protocols differ, so the accuracies do not compare. ")
        + "mAP and CMC ranks in percent, of the last round, never the best one"
        + (f"; {protocols[0]}" if len(protocols) == 1 else "")
        + "; gain: mAP points over direct transfer."
    )
    title, differing = f"{plural(len(runs), 'run')} compared", _settings(pairs)
    sections = [
        Section("Accuracy", _table(pairs, protocols), note),
        Section("Over rounds", figures=curves),
        Section("Settings that differ", differing, "" if differing else "None."),
    ]
    kind = ", ".join(sorted({run.spec.name for run in runs}))
    return Page(title, kind, title, ", ".join(sorted({f"{run.source} → {run.target}" for run in runs})), sections)


def _table(pairs: Lettered, protocols: Sequence[str]) -> Table:
    """With a column for the protocol where there are several."""
    rows = []
    for letter, run in pairs:
        last: Record = run.measured[-1] if run.measured else {}
        direct: Record = run.direct_transfer or {}
        gain = f"{100 * (last['mAP'] - direct['mAP']):+.1f}" if last and direct else "–"
        latest: Record = run.rounds[-1] if run.rounds else {}
        rows.append(
            [
                f"{letter} · {run.name}",
                *(percent(last.get(key)) for _, key in _ACCURACIES),
                gain,
                percent(direct.get("mAP")),
                *([run.protocol or "–"] if len(protocols) > 1 else []),
                f"{len(run.rounds)}{'' if run.finished else ' (unfinished)'}",
                number(latest.get("clusters")),
                number(latest.get("outliers")),
                duration(run.seconds),
                str(run.seed),
            ]
        )
    measured = ["run", *(name for name, _ in _ACCURACIES), "gain", "direct mAP", *(["protocol"] if len(protocols) > 1 else [])]
    return Table([*measured, "rounds", "clusters", "outliers", "time", "seed"], rows, "rounds")


def _accuracy(pairs: Lettered, name: str, key: str) -> list[Figure]:
    """One accuracy of every run; round 0 is direct transfer."""
    curves = []
    for letter, run in pairs:
        points = [(0, run.direct_transfer[key])] if run.direct_transfer else []
        curves.append((letter, points + [(r["round"], r[key]) for r in run.measured]))
    caption = "On the target's test set; round 0 is direct transfer. Letters as in the table."
    return _curves(key, f"{name} over rounds", caption, curves, 100.0, "percent", 1)


def _labels(pairs: Lettered, key: str, caption: str) -> list[Figure]:
    curves = [(letter, [(r["round"], r[key]) for r in run.rounds if key in r]) for letter, run in pairs]
    return _curves(key, f"{key.capitalize()} over rounds", caption, curves, 1.0, key, 0)


def _curves(ident: str, title: str, caption: str, curves: Sequence[Curve], scale: float, unit: str, digits: int) -> list[Figure]:
    known = [(letter, at, points) for at, (letter, points) in enumerate(curves) if points]
    if not known:
        return []
    lines = [Line(letter, [(at, scale * value) for at, value in points], 1 + tone % TONES) for letter, tone, points in known]
    write = partial(number, digits=digits)
    said = "; ".join(f"{line.name}: {write(line.points[0][1])} to {write(line.points[-1][1])}" for line in lines) + "."
    chart = line_chart(ident, title, said, lines, x_label="round", y_label=unit, text=write, zero=False, whole=digits == 0)
    values = [dict(points) for _, _, points in known]
    columns = [Column("round"), *(Column(letter, lambda value: write(scale * value)) for letter, _, _ in known)]
    rows = [[at, *(points.get(at) for points in values)] for at in sorted({at for points in values for at in points})]
    return [Figure(ident, title, caption, columns, rows, [chart])]


def _settings(pairs: Lettered) -> Table | None:
    """Every setting that is not the same in all runs; the output, which is the run's name, left out."""
    flats = [flat_settings(run.config) for _, run in pairs]
    keys = dict.fromkeys(key for settings in flats for key in settings if key != "output")
    rows = []
    for key in keys:
        texts = [setting(settings[key]) if key in settings else "–" for settings in flats]
        if len(set(texts)) > 1:
            rows.append([key, *texts])
    return Table(["setting", *(letter for letter, _ in pairs)], rows, "settings") if rows else None
