"""The report's figures of what the run directory holds: each with a text alternative, a caption and its data.

A function gives a list, which is empty where the run has nothing (yet) to draw.
"""

import math
from collections.abc import Sequence
from functools import partial
from itertools import groupby, zip_longest
from statistics import median

from distreid.common.text import duration, number, percent, plural
from distreid.methods.spec import LossTerm
from distreid.report.charts import Band, histogram, line_chart, stacked_bars
from distreid.report.marks import Chart, Line
from distreid.report.parts import Column, Figure
from distreid.report.read import Record, Run

TONES = 8  # colours of lines; further ones share them
_BINS, _CMC_RANKS = 8, 20
_LOSS = partial(number, digits=4)


def accuracy(run: Run) -> list[Figure]:
    """mAP and Rank-1 over the rounds; direct transfer is round 0 and a dashed reference. Nothing where there is but one point."""
    direct, measured = run.direct_transfer, run.measured
    if len(measured) + (direct is not None) < 2:
        return []
    lines = []
    for tone, (name, key) in enumerate((("mAP", "mAP"), ("Rank-1", "rank1")), 1):
        points = [(r["round"], 100 * r[key]) for r in measured]
        if direct:
            level = 100 * direct[key]
            points.insert(0, (0, level))
            lines.append(Line(f"direct {name}", [(0, level), (measured[-1]["round"], level)], tone, dashed=True))
        lines.append(Line(name, points, tone))
    last = measured[-1]
    said = f"After {run.stage(last['round'])}: mAP {percent(last['mAP'])}, Rank-1 {percent(last['rank1'])}."
    if direct:
        said += f" Direct transfer: mAP {percent(direct['mAP'])}, Rank-1 {percent(direct['rank1'])}."
    caption = f"On the target's test set{f', {run.protocol}' if run.protocol else ''}."
    caption += " Round 0 and the dashed lines are direct transfer." if direct else ""
    rows = [("direct transfer", direct)] if direct else []
    rows += [(run.stage(r["round"]), r) for r in measured]
    chart = line_chart(
        "accuracy", f"Accuracy over {run.spec.round}s", said, lines, x_label=run.spec.round, y_label="percent", text="{:.1f}".format
    )
    columns = [Column(""), Column("mAP", percent), Column("Rank-1", percent)]
    data = [(name, m["mAP"], m["rank1"]) for name, m in rows]
    return [Figure("accuracy", f"Accuracy over {run.spec.round}s", caption, columns, data, [chart])]


def cmc(run: Run) -> list[Figure]:
    """Direct transfer against the last measured round."""
    curves = {"direct transfer": run.direct_transfer}
    if run.measured:
        line = next((line for line in run.measured if line["round"] == run.kept), run.measured[-1])
        curves["final" if run.final and run.kept else run.stage(line["round"])] = line
    known = {name: metrics["cmc"][:_CMC_RANKS] for name, metrics in curves.items() if metrics and metrics.get("cmc")}
    if not known:
        return []
    lines = []
    for name, shares in known.items():
        direct = name == "direct transfer"
        lines.append(Line(name, [(rank, 100 * share) for rank, share in enumerate(shares, 1)], 3 if direct else 1, dashed=direct))
    ends = (
        f"{name}: {percent(shares[0])} % at rank 1, {percent(shares[-1])} % at rank {len(shares)}" for name, shares in known.items()
    )
    said = "; ".join(ends).capitalize() + "."
    chart = line_chart(
        "cmc", "CMC curve", said, lines, x_label="rank", y_label="percent of queries", text="{:.1f}".format, zero=False
    )
    columns = [Column("rank"), *(Column(name, percent) for name in known)]
    rows = [(rank, *at) for rank, at in enumerate(zip_longest(*known.values()), 1)]
    caption = "Queries whose first match stands at this rank or before."
    return [Figure("cmc", "CMC curve", caption, columns, rows, [chart])]


def labelling(run: Run) -> list[Figure]:
    """Clusters, outliers and eps, each on its own scale."""
    rounds = [r for r in [*run.rounds, *([run.labelled] if run.labelled else [])] if "clusters" in r]
    made = []
    for key, title, caption, tone, digits in (
        ("clusters", "Clusters", "Pseudo-identities that DBSCAN found in the target's training images.", 1, 0),
        ("outliers", "Outliers", "Training images of the target outside every cluster; they sit the round out.", 2, 0),
        ("eps", "eps", "DBSCAN's radius, in Jaccard distance.", 3, 4),
    ):
        values = [(r["round"], r[key]) for r in rounds]
        if not values:
            continue
        write = partial(number, digits=digits)
        name = f"{title} over rounds"
        said = f"{title} by round: {', '.join(write(value) for _, value in values)}."
        line, whole = Line(key, values, tone), digits == 0
        chart = line_chart(key, name, said, [line], x_label="round", y_label=key, zero=whole, whole=whole, text=write)
        rows = [(run.stage(at), value) for at, value in values]
        made.append(Figure(key, name, caption, [Column(""), Column(title, write)], rows, [chart]))
    return made


def sizes(run: Run) -> list[Figure]:
    """How many clusters of which size in the latest round."""
    if run.cluster_sizes is None:
        return []
    values = [int(size) for size in run.cluster_sizes]
    low, high = min(values), max(values)
    width = -(-(high - low + 1) // _BINS)
    bins = []
    for start in range(low, high + 1, width):
        stop = min(start + width - 1, high)
        label = str(start) if start == stop else f"{start}–{stop}"
        bins.append((label, sum(start <= size <= stop for size in values)))
    said = f"{plural(len(values), 'cluster')} of {low} to {high} images; the median is {median(values):g}."
    chart = histogram("sizes", "Cluster sizes", said, bins, x_label="images in a cluster", y_label="clusters")
    columns = [Column("images"), Column("clusters", number)]
    return [Figure("sizes", "Cluster sizes", f"In the latest round: {said}", columns, bins, [chart])]


def losses(run: Run) -> list[Figure]:
    """Every term on an axis of its own; what comes before the rounds apart, since its loss is of another size."""
    before, after = ([line for line in run.epochs if (line["round"] > 0) == late] for late in (False, True))
    terms = run.spec.terms((key for line in run.epochs for key in line["loss"]), run.config)
    charts = [
        _loss(run, epochs, term, 1 + tone % TONES)
        for epochs in (before, after)
        for tone, term in enumerate(terms)
        if any(term.key in line["loss"] for line in epochs)
    ]
    if not charts:
        return []
    caption = f"Means of each epoch, each term on its own axis. {run.spec.losses_caption}".strip()
    columns = [Column("stage"), Column("epoch"), *(Column(term.key, _LOSS) for term in terms), Column("seconds", "{:.1f}".format)]
    rows = [
        (run.stage(line["round"]), line["epoch"], *(line["loss"].get(term.key) for term in terms), line["seconds"])
        for line in run.epochs
    ]
    return [Figure("losses", "Losses over epochs", caption, columns, rows, charts, wide=True)]


def _loss(run: Run, epochs: Sequence[Record], term: LossTerm, tone: int) -> Chart:
    """One term over some epochs; the stages are bands where there are several, and the line breaks between them."""
    points: list[tuple[float, float | None]] = []
    bands, at, late = list[Band](), 0, epochs[0]["round"] > 0
    for stage, group in groupby(epochs, key=lambda line: line["round"]):
        values = [line["loss"].get(term.key) for line in group]
        points += [(at, None), *((at + k, value) for k, value in enumerate(values, 1))]
        bands.append(Band(run.stage(stage), at + 0.5, at + len(values) + 0.5))
        at += len(values)
    name = term.key if late else f"{term.key}, {run.spec.before}"
    known = [value for _, value in points if value is not None]
    said = f"{name}: {plural(len(known), 'epoch')}, from {known[0]:.3g} to {known[-1]:.3g}."
    return line_chart(
        f"loss-{term.key}" if late else f"loss-before-{term.key}", f"Loss: {name}", said, [Line("loss", points, tone)],
        x_label=f"epoch after {run.spec.before}" if late and run.spec.before else "epoch",
        y_label="loss", zero=False, text="{:.3f}".format, bands=bands if late and len(bands) + bool(run.spec.before) > 1 else (),
        name=name, words=term.caption,
    )  # fmt: skip


def times(run: Run) -> list[Figure]:
    """Seconds of each finished stage."""
    bars: list[tuple[str, list[float]]] = []
    steps = run.spec.steps
    if run.seconds_before:
        bars.append((run.stage(0), [run.seconds_before if step == "train" else 0.0 for step in steps]))
    bars += [(run.stage(r["round"]), [r["seconds"].get(step, 0.0) for step in steps]) for r in run.rounds]
    if not bars:
        return []
    totals = {step: sum(values[k] for _, values in bars) for k, step in enumerate(steps)}
    shares = ", ".join(f"{step} {duration(seconds)}" for step, seconds in totals.items() if seconds)
    said = f"{duration(sum(totals.values()))} in all: {shares}."
    rates = [line["images_per_second"] for line in run.epochs if line.get("images_per_second")]
    caption = f"{said} Median throughput in training: {number(median(rates))} images/s." if rates else said
    chart = stacked_bars("times", "Time per stage", said, steps, bars, duration)
    columns = [Column(""), *(Column(f"{step} [s]", partial(number, digits=1)) for step in steps)]
    return [Figure("times", "Time per stage", caption, columns, [(name, *values) for name, values in bars], [chart])]


def rates(run: Run) -> list[Figure]:
    """The learning rate; the backbone's, where the new layers have another."""
    if not run.epochs:
        return []
    exponent = math.floor(math.log10(max(line["lr"] for line in run.epochs) or 1.0))
    unit = f"1e{exponent:+d}"  # or the ticks would not fit beside the axis
    points = [(at, line["lr"] / 10.0**exponent) for at, line in enumerate(run.epochs, 1)]
    said = f"From {_rate(run.epochs[0]['lr'])} to {_rate(run.epochs[-1]['lr'])} over {plural(len(points), 'epoch')}."
    chart = line_chart(
        "rates", "Learning rate", said, [Line(f"× {unit}", points, 4)], x_label="epoch of the run", y_label=f"× {unit}",
        text=lambda value: f"{value:.2f} × {unit}",
    )  # fmt: skip
    rows = [(run.stage(line["round"]), line["epoch"], line["lr"]) for line in run.epochs]
    columns = [Column("stage"), Column("epoch"), Column("learning rate", _rate)]
    return [Figure("rates", "Learning rate", "In the last step of each epoch.", columns, rows, [chart])]


def _rate(value: float) -> str:
    return f"{value:.2e}"
