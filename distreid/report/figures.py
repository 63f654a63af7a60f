"""The report's figures: each a chart with its text alternative, a caption and its data as a table."""

from functools import partial
from html import escape
from itertools import groupby, zip_longest
from statistics import median

from distreid.report.charts import Band, Line, histogram, line_chart, stacked_bars
from distreid.report.read import Run
from distreid.report.words import details, duration, number, percent, plural, table

STAGES = ("extract", "label", "train", "evaluate")  # of a round, in order
TERMS = ("source", "target", "domain")  # L_cro_s, L_cro_t, L_DSP
EDAAN_TERMS = ("gan", "cycle", "attention", "identity", "metric", "discriminator")
TONES = {term: place % 4 + 1 for terms in (TERMS, EDAAN_TERMS) for place, term in enumerate(terms)}
_BINS, _CMC_RANKS = 8, 20


def figures(run: Run) -> list[str]:
    """Those for which the run holds data."""
    made = [accuracy(run), cmc(run), *labelling(run), sizes(run), losses(run), times(run)]
    return [figure for figure in made if figure]


def accuracy(run: Run) -> str:
    """mAP and Rank-1 over the rounds; direct transfer is round 0 and a dashed reference."""
    direct, measured = run.direct_transfer, run.measured
    if not measured:
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
    data = table(["", "mAP", "Rank-1"], [(name, percent(m["mAP"]), percent(m["rank1"])) for name, m in rows])
    chart = line_chart(
        "accuracy", "Accuracy over rounds", said, lines, x_label="round", y_label="percent", text=lambda value: f"{value:.1f}"
    )
    return _figure("Accuracy over rounds", caption, chart, data)


def cmc(run: Run) -> str:
    """Direct transfer against the last measured round."""
    curves = {"direct transfer": run.direct_transfer}
    if run.measured:
        curves["adapted" if run.final else f"round {run.measured[-1]['round']}"] = run.measured[-1]
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
    rows = [[str(rank), *map(percent, at)] for rank, at in enumerate(zip_longest(*known.values()), 1)]
    data = table(["rank", *known], rows)
    chart = line_chart(
        "cmc", "CMC curve", said, lines, x_label="rank", y_label="percent of queries", text=lambda value: f"{value:.1f}"
    )
    return _figure("CMC curve", "Queries whose first match stands at this rank or before.", chart, data)


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
        written = [number(value, digits) for _, value in values]
        data = table(["", title], [(f"round {at}", text) for (at, _), text in zip(values, written, strict=True)])
        name = f"{title} over rounds"
        said = f"{title} by round: {', '.join(written)}."
        chart = line_chart(
            key, name, said, [Line(key, values, tone)], x_label="round", y_label=key, zero=digits == 0, whole=digits == 0,
            text=partial(number, digits=digits),
        )  # fmt: skip
        made.append(_figure(name, caption, chart, data))
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
    data = table(["images", "clusters"], [(label, str(count)) for label, count in bins])
    return _figure("Cluster sizes", f"In the latest round: {said}", chart, data)


def losses(run: Run) -> str:
    """Every term over all epochs of the run, pre-training first."""
    if not run.epochs:
        return ""
    terms = [term for term in TONES if any(term in line["loss"] for line in run.epochs)]
    lines = []
    for term, tone in TONES.items():
        points: list[tuple[float, float | None]] = []
        for at, line in enumerate(run.epochs, 1):
            if at > 1 and line["round"] != run.epochs[at - 2]["round"]:
                points.append((at, None))  # another stage: another loss
            points.append((at, line["loss"].get(term)))
        if term in terms:
            lines.append(Line(term, points, tone))
    bands, at = [], 0
    for stage, group in groupby(run.epochs, key=lambda line: line["round"]):
        count = len(list(group))
        bands.append(Band(_stage(stage), at + 0.5, at + count + 0.5))
        at += count
    ends = ", ".join(f"{term} {last:.3g}" for term, last in run.epochs[-1]["loss"].items())
    said = f"{plural(len(run.epochs), 'epoch')} in {plural(len(bands), 'stage')}; the last epoch's means: {ends}."
    caption = "Mean of an epoch, each term with its weight."
    if run.method != "edaan":
        caption = (
            "Mean of an epoch. Pre-training sees the source identities alone; in the rounds each term is its share of the total."
        )
    rows = []
    for line in run.epochs:
        means = [f"{line['loss'][term]:.4f}" if term in line["loss"] else "–" for term in terms]
        rows.append([_stage(line["round"]), str(line["epoch"]), *means, f"{line['lr']:.2e}", duration(line["seconds"])])
    chart = line_chart(
        "losses", "Losses over epochs", said, lines, x_label="epoch of the run", y_label="loss", bands=bands,
        text=lambda value: f"{value:.3f}",
    )  # fmt: skip
    return _figure("Losses over epochs", caption, chart, table(["stage", "epoch", *terms, "learning rate", "time"], rows))


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
    rows = [(label, *(number(value, 1) for value in values)) for label, values in bars]
    return _figure("Time per stage", caption, chart, table(["", *(f"{stage} [s]" for stage in STAGES)], rows))


def pretraining_seconds(run: Run) -> float:
    return sum(line["seconds"] for line in run.epochs if line["round"] == 0)


def _stage(number: int) -> str:
    return f"round {number}" if number else "pre-training"


def _figure(title: str, caption: str, chart: str, data: str) -> str:
    heading = f"<figcaption><strong>{escape(title)}</strong> {escape(caption)}</figcaption>"
    return f"<figure>{heading}{chart}{details('Data', data, of=title)}</figure>"
