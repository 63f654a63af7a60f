"""What was found, as text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distreid.common.text import percent, plural, protocol_name, protocol_of, text_table
from distreid.methods.registry import report_of
from distreid.methods.stopping import kept_model

if TYPE_CHECKING:
    from distreid.labels import PseudoLabels


def metrics_text(metrics: dict[str, Any]) -> str:
    """Accuracy as a person reads it, in percent, with the protocol it was measured by and what it was measured on."""
    if metrics["protocol"] == "single_query":
        lines = _single_query_lines(metrics)
    elif metrics["protocol"] == "single_shot":
        lines = _split_lines(metrics, ": one image of each identity, from another camera than the query's")
    else:
        lines = _split_lines(metrics, ": query images looked up in the other camera")
        lines += ["", *_split_lines(metrics["reverse"] | {"protocol": metrics["protocol"]}, ": the other direction")]
    if metrics.get("flip"):
        lines.append("features averaged over each image and its mirror image")
    if metrics.get("reranked"):
        lines.append("k-reciprocal re-ranking: queries see each other, so this is no single-query figure")
    if metrics.get("camera_normalized"):
        lines.append("features normalised by camera, by what the test's images have in common: compare with figures made so")
    return "\n".join(lines)


NO_CAMERAS = "cameras unknown: nothing but the query itself is left out, so figures are higher than between cameras"
_AP_NAMES = {"hits": "precision at hits", "trapezoid": "the official trapezoid"}
_RANKS = (1, 5, 10, 20)


def _single_query_lines(metrics: dict[str, Any]) -> list[str]:
    other = "trapezoid" if metrics["ap"] == "hits" else "hits"
    lines = [
        f"mAP     {percent(metrics['mAP']):>5}   (average precision by {_AP_NAMES[metrics['ap']]}; "
        f"{percent(metrics[f'mAP_{other}'])} by {_AP_NAMES[other]})",
        *(f"{f'Rank-{rank}':<7} {percent(metrics[f'rank{rank}']):>5}" for rank in _RANKS),
        f"mINP    {percent(metrics['mINP']):>5}",
        f"{protocol_name(metrics)}: {metrics['queries']:,} queries against {metrics['gallery']:,} gallery images",
    ]
    if metrics.get("cameras") is False:
        lines.append(NO_CAMERAS)
    if metrics["junk"]:
        lines.append(f"{metrics['junk']:,} junk images (pid -1) left out of the gallery")
    if metrics["queries_without_positive"]:
        lines.append(f"{metrics['queries_without_positive']:,} queries have no match in the gallery and are left out of the means")
    return lines


def _split_lines(metrics: dict[str, Any], said: str) -> list[str]:
    """said: what follows the protocol's name."""
    splits = metrics["splits"]
    lines = [
        protocol_name(metrics) + said,
        *(
            f"{f'Rank-{rank}':<7} {percent(metrics[f'rank{rank}']):>5}"
            + (f" ± {percent(metrics[f'rank{rank}_std'])}" if splits > 1 else "")
            for rank in _RANKS
        ),
        f"mean{' ± standard deviation' if splits > 1 else ''} over {splits} split{'s' if splits > 1 else ''}; "
        f"{metrics['queries']:,.0f} queries against {metrics['gallery']:,.0f} gallery images each",
    ]
    if metrics["queries_without_positive"]:
        lines.append(
            f"{metrics['queries_without_positive']:,.1f} queries a split have no match in the gallery and are left out of the means"
        )
    return lines


def labels_text(labels: PseudoLabels) -> str:
    """A labelling as a person judges it, without knowing any true label."""
    figures = labels.quality
    lines = [
        f"{plural(len(labels.labels), 'feature')}: {plural(labels.num_clusters, 'cluster')}, "
        f"{plural(int(figures['outliers']), 'outlier')}, eps {labels.eps:.4f}"
    ]
    if labels.num_clusters:
        smallest, largest = int(figures["smallest_cluster"]), int(figures["largest_cluster"])
        fit = f"silhouette {figures['silhouette']:.3f} (1 is best)" if labels.num_clusters > 1 else "no silhouette of a single one"
        lines.append(f"clusters of {smallest:,} to {largest:,} features, median {figures['median_cluster']:g}; {fit}")
    if "recall" in labels.stats:
        lines.append(f"approximate neighbours: {percent(labels.stats['recall'])}% of the exact ones on a sample")
    return "\n".join(lines)


def stopping_text(stopping: dict[str, Any]) -> str:
    """What `adapt.stop` made of a run, in a line."""
    reason = stopping["reason"] or "nothing speaks against the last round's labels"
    return f"adapt.stop={stopping['rule']}: {reason}; kept: {kept_model(stopping['kept'])}"


def translation_text(images: Path, masks: Path | None, figures: dict[str, float]) -> str:
    """What `distreid translate` wrote, and what it measured against true masks."""
    lines = [f"images: {images}"] + ([f"masks:  {masks}"] if masks is not None else [])
    return "\n".join(lines + [f"{name.replace('_', ' '):<28}{value:.3f}" for name, value in figures.items()])


def result_table(result: dict[str, Any]) -> str:
    """The run in one table: in-domain source accuracy, direct transfer, each round, final."""
    spec = report_of(result["method"])
    head = ["", *(["eps", "clusters", "outliers"] if spec.labelled else []), "mAP", "Rank-1", "seconds"]

    def row(name: str, metrics: dict[str, Any] | None, labelling: Sequence[str] = ("", "", ""), seconds: str = "") -> list[str]:
        metrics = metrics or {}
        figures = [percent(metrics.get("mAP")), percent(metrics.get("rank1")), seconds]
        return [name, *(labelling if spec.labelled else []), *figures]

    kept = result.get("stopping", {}).get("kept")
    latest = result["rounds"][-1]["round"] if result.get("rounds") else 0
    final = spec.final if kept in (None, latest) else f"{spec.final}: {kept_model(kept)}"
    rows = [row("source, in domain", result["in_domain"])] if result.get("in_domain") else []
    if spec.before:
        rows.append(row("direct transfer", result.get("direct_transfer")))
    for figures in result.get("rounds", []):
        labelling = (f"{figures['eps']:.3f}", f"{figures['clusters']:,}", f"{figures['outliers']:,}") if spec.labelled else ()
        name = spec.title(figures["round"], figures.get("stage", ""))
        rows.append(row(name, figures, labelling, f"{sum(figures.get('seconds', {}).values()):.0f}"))
    *lines, last = text_table(head, [*rows, row(final, result.get("final"))]).split("\n")
    lines += [lines[1], last]
    if result.get("final") and result.get("direct_transfer"):
        gain = 100 * (result["final"]["mAP"] - result["direct_transfer"]["mAP"])
        lines.append(f"{gain:+.1f} mAP points over direct transfer")
    lines.append(", ".join(filter(None, ("mAP and Rank-1 in percent", protocol_of(result), "no re-ranking"))))
    return "\n".join(lines)
