"""Several runs on one page: a table, their accuracies and clusters over rounds, and the settings in which they differ."""

from collections.abc import Sequence
from functools import partial
from html import escape
from string import ascii_uppercase

from distreid.report.charts import Line, line_chart
from distreid.report.figure import Column, figure
from distreid.report.page import document, flat_settings, pretraining_seconds
from distreid.report.read import Record, Run
from distreid.report.words import duration, number, percent, plural, setting, table

Lettered = Sequence[tuple[str, Run]]
_TONES = 8  # colours of lines; further runs share them
_ACCURACIES = (("mAP", "mAP"), ("Rank-1", "rank1"), ("Rank-5", "rank5"), ("Rank-10", "rank10"))


def render_comparison(runs: Sequence[Run]) -> str:
    """The runs as one HTML document, lettered in the order given."""
    pairs = [(ascii_uppercase[at] if at < len(ascii_uppercase) else str(at + 1), run) for at, run in enumerate(runs)]
    curves = [_accuracy(pairs, name, key) for name, key in _ACCURACIES[:2]] + [
        _labels(pairs, key) for key in ("clusters", "outliers")
    ]
    transfers = sorted({f"{run.source} → {run.target}" for run in runs})
    # Two targets may bear one name; their test sets seldom have one size.
    tested = {(run.target, *(m.get(key) for m in run.measured[-1:] for key in ("queries", "gallery"))) for run in runs}
    differ = "" if len(tested) == 1 else "The target test sets differ, so the accuracies do not compare. "
    note = f"{differ}mAP and CMC ranks in percent, of the last round, never the best one; gain: mAP points over direct transfer."
    title = f"{plural(len(runs), 'run')} compared"
    drawn = "".join(made for made in curves if made)
    parts = [
        f"<header><p class=kind>{escape(', '.join(sorted({run.method.upper() for run in runs})))}</p>",
        f"<h1>{escape(title)}</h1><p class=headline>{escape(', '.join(transfers))}</p></header>",
        f"<section><h2>Accuracy</h2>{_table(pairs)}<p class=note>{escape(note)}</p></section>",
        f"<section><h2>Over rounds</h2><div class=figures>{drawn}</div></section>" if drawn else "",
        f"<section><h2>Settings that differ</h2>{_settings(pairs)}</section>",
    ]
    return document(title, "".join(parts))


def _table(pairs: Lettered) -> str:
    rows = []
    for letter, run in pairs:
        last: Record = run.measured[-1] if run.measured else {}
        direct: Record = run.direct_transfer or {}
        gain = f"{100 * (last['mAP'] - direct['mAP']):+.1f}" if last and direct else "–"
        latest: Record = run.rounds[-1] if run.rounds else {}
        seconds = pretraining_seconds(run) + sum(sum(r["seconds"].values()) for r in run.rounds)
        rows.append(
            [
                f"{letter} · {run.name}",
                *(percent(last.get(key)) for _, key in _ACCURACIES),
                gain,
                percent(direct.get("mAP")),
                f"{len(run.rounds)}{'' if run.finished else ' (unfinished)'}",
                number(latest.get("clusters")),
                number(latest.get("outliers")),
                duration(seconds),
                str(run.seed),
            ]
        )
    head = ["run", *(name for name, _ in _ACCURACIES), "gain", "direct mAP", "rounds", "clusters", "outliers", "time", "seed"]
    return table(head, rows, kind="rounds")


def _accuracy(pairs: Lettered, name: str, key: str) -> str:
    """One accuracy of every run; round 0 is direct transfer."""
    curves = []
    for letter, run in pairs:
        points = [(0, run.direct_transfer[key])] if run.direct_transfer else []
        curves.append((letter, points + [(r["round"], r[key]) for r in run.measured]))
    caption = "On the target's test set; round 0 is direct transfer. Letters as in the table."
    return _curves(key, f"{name} over rounds", caption, curves, 100.0, "percent", 1)


def _labels(pairs: Lettered, key: str) -> str:
    curves = [(letter, [(r["round"], r[key]) for r in run.rounds]) for letter, run in pairs]
    caption = {"clusters": "Pseudo-identities found.", "outliers": "Images of the target outside every cluster."}[key]
    return _curves(key, f"{key.capitalize()} over rounds", caption, curves, 1.0, key, 0)


def _curves(
    ident: str,
    title: str,
    caption: str,
    curves: Sequence[tuple[str, Sequence[tuple[int, float]]]],
    scale: float,
    unit: str,
    digits: int,
) -> str:
    known = [(letter, at, points) for at, (letter, points) in enumerate(curves) if points]
    if not known:
        return ""
    lines = [Line(letter, [(at, scale * value) for at, value in points], 1 + tone % _TONES) for letter, tone, points in known]
    write = partial(number, digits=digits)
    said = "; ".join(f"{line.name}: {write(line.points[0][1])} to {write(line.points[-1][1])}" for line in lines) + "."
    chart = line_chart(ident, title, said, lines, x_label="round", y_label=unit, text=write, zero=False)
    values = [dict(points) for _, _, points in known]
    rounds = sorted({at for points in values for at in points})
    columns = [Column("round"), *(Column(letter, lambda value: write(scale * value)) for letter, _, _ in known)]
    return figure(ident, title, caption, chart, columns, [[at, *(points.get(at) for points in values)] for at in rounds])


def _settings(pairs: Lettered) -> str:
    """Every setting that is not the same in all runs; the output, which is the run's name, left out."""
    flats = [flat_settings(run.config) for _, run in pairs]
    keys = dict.fromkeys(key for settings in flats for key in settings if key != "output")
    rows = []
    for key in keys:
        texts = [setting(settings[key]) if key in settings else "–" for settings in flats]
        if len(set(texts)) > 1:
            rows.append([key, *texts])
    return table(["setting", *(letter for letter, _ in pairs)], rows, kind="settings") if rows else "<p>None.</p>"
