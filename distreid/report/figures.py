"""The report's figures of what the run directory holds: each a chart with its text alternative, a caption and its data."""

import math
from collections.abc import Sequence
from functools import partial
from itertools import groupby, zip_longest
from statistics import median

from distreid.report.charts import Band, Line, histogram, line_chart, stacked_bars
from distreid.report.figure import Column, figure, panels
from distreid.report.read import Record, Run
from distreid.report.words import duration, number, percent, plural

STAGES = ("extract", "label", "train", "evaluate")  # of a round, in order
TERMS = ("source", "target", "domain")  # L_cro_s, L_cro_t, L_DSP
EDAAN_TERMS = ("gan", "cycle", "attention", "identity", "metric", "discriminator")
TONES = {term: place % 4 + 1 for terms in (TERMS, EDAAN_TERMS) for place, term in enumerate(terms)}
_BINS, _CMC_RANKS = 8, 20
_LOSS = partial(number, digits=4)


def accuracy(run: Run) -> str:
    """mAP and Rank-1 over the rounds; direct transfer is round 0 and a dashed reference. Nothing where there is but one point."""
    direct, measured = run.direct_transfer, run.measured
    if len(measured) + (direct is not None) < 2:
        return ""
    lines = []
    for tone, (name, key) in enumerate((("mAP", "mAP"), ("Rank-1", "rank1")), 1):
        points = [(r["round"], 100 * r[key]) for r in measured]
        if direct:
            level = 100 * direct[key]
            points.insert(0, (0, level))
            lines.append(Line(f"direct {name}", [(0, level), (measured[-1]["round"], level)], tone, dashed=True))
        lines.append(Line(name, points, tone))
    last = measured[-1]
    said = f"After round {last['round']}: mAP {percent(last['mAP'])}, Rank-1 {percent(last['rank1'])}."
    if direct:
        said += f" Direct transfer: mAP {percent(direct['mAP'])}, Rank-1 {percent(direct['rank1'])}."
    caption = "On the target's test set." + (" Round 0 and the dashed lines are direct transfer." if direct else "")
    rows = [("direct transfer", direct)] if direct else []
    rows += [(f"round {r['round']}", r) for r in measured]
    chart = line_chart(
        "accuracy", "Accuracy over rounds", said, lines, x_label="round", y_label="percent", text=lambda value: f"{value:.1f}"
    )
    columns = [Column(""), Column("mAP", percent), Column("Rank-1", percent)]
    return figure("accuracy", "Accuracy over rounds", caption, chart, columns, [(name, m["mAP"], m["rank1"]) for name, m in rows])


def cmc(run: Run) -> str:
    """Direct transfer against the last measured round."""
    curves = {"direct transfer": run.direct_transfer}
    if run.measured:
        curves["final" if run.final else f"round {run.measured[-1]['round']}"] = run.measured[-1]
    known = {name: metrics["cmc"][:_CMC_RANKS] for name, metrics in curves.items() if metrics and metrics.get("cmc")}
    if not known:
        return ""
    lines = []
    for name, shares in known.items():
        direct = name == "direct transfer"
        lines.append(Line(name, [(rank, 100 * share) for rank, share in enumerate(shares, 1)], 3 if direct else 1, dashed=direct))
    ends = (
        f"{name}: {percent(shares[0])} % at rank 1, {percent(shares[-1])} % at rank {len(shares)}" for name, shares in known.items()
    )
    said = "; ".join(ends).capitalize() + "."
    chart = line_chart(
        "cmc", "CMC curve", said, lines, x_label="rank", y_label="percent of queries", text=lambda value: f"{value:.1f}", zero=False
    )
    columns = [Column("rank"), *(Column(name, percent) for name in known)]
    rows = [(rank, *at) for rank, at in enumerate(zip_longest(*known.values()), 1)]
    return figure("cmc", "CMC curve", "Queries whose first match stands at this rank or before.", chart, columns, rows)


def labelling(run: Run) -> list[str]:
    """Clusters, outliers and eps, each on its own scale."""
    rounds = [r for r in [*run.rounds, *([run.labelled] if run.labelled else [])] if "clusters" in r]
    if not rounds:
        return []
    made = []
    for key, title, caption, tone, digits in (
        ("clusters", "Clusters", "Pseudo-identities that DBSCAN found in the target's training images.", 1, 0),
        ("outliers", "Outliers", "Training images of the target outside every cluster; they sit the round out.", 2, 0),
        ("eps", "eps", "DBSCAN's radius, in Jaccard distance.", 3, 4),
    ):
        values = [(r["round"], r[key]) for r in rounds]
        write = partial(number, digits=digits)
        name = f"{title} over rounds"
        said = f"{title} by round: {', '.join(write(value) for _, value in values)}."
        chart = line_chart(
            key,
            name,
            said,
            [Line(key, values, tone)],
            x_label="round",
            y_label=key,
            zero=digits == 0,
            whole=digits == 0,
            text=write,
        )
        rows = [(f"round {at}", value) for at, value in values]
        made.append(figure(key, name, caption, chart, [Column(""), Column(title, write)], rows))
    return made


def sizes(run: Run) -> str:
    """How many clusters of which size in the latest round."""
    if run.cluster_sizes is None:
        return ""
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
    return figure(
        "sizes", "Cluster sizes", f"In the latest round: {said}", chart, [Column("images"), Column("clusters", number)], bins
    )


def losses(run: Run) -> str:
    """Every term on an axis of its own; pre-training apart, since its loss is of another size."""
    if not run.epochs:
        return ""
    before, after = ([line for line in run.epochs if (line["round"] > 0) == late] for late in (False, True))
    terms = [term for term in TERMS if any(term in line["loss"] for line in run.epochs)]
    charts = [_loss("loss-pretraining", "source, pre-training", before, "source", 1)] if before else []
    charts += [
        _loss(f"loss-{term}", term, after, term, tone)
        for tone, term in enumerate(TERMS, 1)
        if any(term in line["loss"] for line in after)
    ]
    caption = "Means of each epoch, each term on its own axis. " + (
        "Pre-training sees the source identities alone; in the rounds each term is its share of the total (Eq. 7)."
    )
    columns = [
        Column("stage"), Column("epoch"), *(Column(term, _LOSS) for term in terms), Column("seconds", partial(number, digits=1)),
    ]  # fmt: skip
    rows = [(_stage(line["round"]), line["epoch"], *map(line["loss"].get, terms), line["seconds"]) for line in run.epochs]
    return figure("losses", "Losses over epochs", caption, panels(*charts), columns, rows, wide=True)


def _loss(ident: str, name: str, epochs: Sequence[Record], term: str, tone: int) -> str:
    """One term over some epochs; the stages are bands where there are several, and the line breaks between them."""
    points: list[tuple[float, float | None]] = []
    bands, at = [], 0
    for stage, group in groupby(epochs, key=lambda line: line["round"]):
        values = [line["loss"].get(term) for line in group]
        points += [(at, None), *((at + k, value) for k, value in enumerate(values, 1))]
        bands.append(Band(_stage(stage), at + 0.5, at + len(values) + 0.5))
        at += len(values)
    known = [value for _, value in points if value is not None]
    said = f"{name}: {plural(len(epochs), 'epoch')}, from {known[0]:.3g} to {known[-1]:.3g}."
    late = epochs[0]["round"] > 0
    return line_chart(
        ident, f"Loss: {name}", said, [Line(name, points, tone)], x_label="epoch after pre-training" if late else "epoch",
        y_label=name, zero=False, text=lambda value: f"{value:.3f}", bands=bands if late else (),
    )  # fmt: skip


def times(run: Run) -> str:
    """Seconds of each finished stage."""
    bars: list[tuple[str, list[float]]] = []
    before = pretraining_seconds(run)
    if before:
        bars.append((_stage(0), [before if stage == "train" else 0.0 for stage in STAGES]))
    bars += [(_stage(r["round"]), [r["seconds"].get(stage, 0.0) for stage in STAGES]) for r in run.rounds]
    if not bars:
        return ""
    totals = {stage: sum(values[k] for _, values in bars) for k, stage in enumerate(STAGES)}
    shares = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in totals.items() if seconds)
    said = f"{duration(sum(totals.values()))} in all: {shares}."
    rates = [line["images_per_second"] for line in run.epochs if line.get("images_per_second")]
    caption = f"{said} Median throughput in training: {number(median(rates))} images/s." if rates else said
    chart = stacked_bars("times", "Time per stage", said, STAGES, bars, duration)
    columns = [Column(""), *(Column(f"{stage} [s]", partial(number, digits=1)) for stage in STAGES)]
    return figure("times", "Time per stage", caption, chart, columns, [(label, *values) for label, values in bars])


def rates(run: Run) -> str:
    """The backbone's learning rate."""
    if not run.epochs:
        return ""
    exponent = math.floor(math.log10(max(line["lr"] for line in run.epochs) or 1.0))
    unit = f"1e{exponent:+d}"  # or the ticks would not fit beside the axis
    points = [(at, line["lr"] / 10.0**exponent) for at, line in enumerate(run.epochs, 1)]
    said = f"From {_rate(run.epochs[0]['lr'])} to {_rate(run.epochs[-1]['lr'])} over {plural(len(points), 'epoch')}."
    chart = line_chart(
        "rates", "Learning rate", said, [Line(f"× {unit}", points, 4)], x_label="epoch of the run", y_label=f"× {unit}",
        text=lambda value: f"{value:.2f} × {unit}",
    )  # fmt: skip
    rows = [(_stage(line["round"]), line["epoch"], line["lr"]) for line in run.epochs]
    columns = [Column("stage"), Column("epoch"), Column("learning rate", _rate)]
    return figure("rates", "Learning rate", "Of the backbone, in the last step of each epoch.", chart, columns, rows)


def _rate(value: float) -> str:
    return f"{value:.2e}"


def pretraining_seconds(run: Run) -> float:
    return sum(line["seconds"] for line in run.epochs if line["round"] == 0)


def _stage(number: int) -> str:
    return f"round {number}" if number else "pre-training"
