"""The report's figures of images and features: rank lists, attention overlays, the embedding, contact sheets of clusters."""

from collections.abc import Sequence
from functools import partial
from html import escape

import numpy as np

from distreid.report.charts import svg, text_at
from distreid.report.figure import Column, figure, panels
from distreid.report.images import heat, overlay, picture
from distreid.report.pictures import UNKNOWN, Attended, Cloud, Cluster, Crop, Pictures, RankList
from distreid.report.read import Run
from distreid.report.scatter import scatter
from distreid.report.words import number, percent, plural

_SCORE = partial(number, digits=3)


def rank_lists(shown: Pictures) -> str:
    """Each query with the start of its ranking; green frames show the query's person, red ones somebody else."""
    if not shown.rank_lists:
        return ""
    ranked, there = shown.ranked_among
    among = f"{ranked:,}" if ranked == there else f"a sample of {ranked:,} of the {there:,}"
    caption = (
        "Queries of the target with the best, the median and the worst average precision, each followed by the nearest of "
        f"{among} gallery images. Green frame and ✓: the query's identity; red frame and ✗: another. Images of the query's "
        "identity from its own camera are left out, as the protocol does."
    )
    rows = [
        (
            chosen.kind, chosen.query.path, chosen.query.pid, chosen.query.camid, chosen.ap, rank, crop.path, crop.pid, crop.camid,
            int(crop.pid == chosen.query.pid), similarity,
        )
        for chosen in shown.rank_lists
        for rank, (crop, similarity) in enumerate(chosen.ranked, 1)
    ]  # fmt: skip
    names = ["kind", "query", "query identity", "query camera", "AP", "rank", "image", "identity", "camera", "match", "similarity"]
    drawing = "".join(map(_ranking, shown.rank_lists))
    return figure("ranks", "Rank lists", caption, drawing, list(map(Column, names)), rows, wide=True, tabled=False)


def _ranking(chosen: RankList) -> str:
    first = f"first match at rank {chosen.first_hit}" if chosen.first_hit else "no match"
    words = f"AP {percent(chosen.ap)}, {first}, {plural(chosen.positives, 'match', 'matches')} in the gallery"
    cells = [_cell(chosen.query, f"query: {_who(chosen.query)}", "query", "query")]
    for rank, (crop, similarity) in enumerate(chosen.ranked, 1):
        match = crop.pid == chosen.query.pid
        said = f"rank {rank}, {'correct' if match else 'wrong'}: {_who(crop)}, cosine similarity {similarity:.3f}"
        cells.append(_cell(crop, said, f"{rank} {'✓' if match else '✗'}", "hit" if match else "miss"))
    return _strip(chosen.kind, words, cells, "ranked")


def attention(shown: Pictures) -> str:
    """Image, A and 1 - A side by side, as in DAAM's Figure 1; one scale of colours for all."""
    if not shown.attended:
        return ""
    maps = [part for one in shown.attended for part in (one.shared_hw, one.specific_hw) if part is not None]
    low, high = min(float(part.min()) for part in maps), max(float(part.max()) for part in maps)
    h, w = maps[0].shape
    first = shown.attended[0]
    other = "" if first.specific_hw is None else "1 − A" if np.allclose(first.shared_hw + first.specific_hw, 1, atol=0.01) else "A′"
    caption = (
        "What the network passes to its domain-shared branch (A)"
        + (f" and to its domain-specific one ({other})" if other else "")
        + ": the mean over the channels, weighted by their activation. The warmer, the larger the share. "
        f"All pictures have one scale of colours; the map has {h} × {w} places, enlarged."
    )
    triples = "".join(_triple(one, other, low, high) for one in shown.attended)
    bar = "".join(
        f'<rect x="{8 + 4 * k}" y="4" width="4.2" height="12" fill="rgb({",".join(f"{c:.0f}" for c in heat(np.array(k / 49)))})"/>'
        for k in range(50)
    )
    scale = [bar, text_at(216, 14, f"{low:.3f} (blue) to {high:.3f} (red)")]
    legend = (
        f'<div class="scale">{svg("heat", "Colours of the overlays", f"Blue is {low:.3f}, red is {high:.3f}.", 20, scale)}</div>'
    )
    rows = [
        (
            one.domain,
            one.crop.path,
            y,
            x,
            float(one.shared_hw[y, x]),
            None if one.specific_hw is None else float(one.specific_hw[y, x]),
        )
        for one in shown.attended
        for y, x in np.ndindex(one.shared_hw.shape)
    ]
    columns = list(map(Column, ("domain", "image", "row", "column", "shared", "specific")))
    drawing = f'<div class="triples">{triples}</div>{legend}'
    return figure("attention", "Attention", caption, drawing, columns, rows, wide=True, tabled=False)


def translations(shown: Pictures, run: Run) -> str:
    """EDAAN's translations over the epochs, with the losses of those epochs as data."""
    if not shown.grids:
        return ""
    caption = (
        "Left half: source images, each with its translation to the target's style, the attention mask (white is kept, black is "
        "translated) and the reconstruction. Right half: the same for target images. Without attention the masks are black."
    )
    cells = []
    for grid in shown.grids:
        said = f"Image, translation, mask and reconstruction of source and target images after epoch {grid.epoch}"
        cells.append(f'<li class="plain">{picture(grid.pixels_HW3, said)}<span>epoch {grid.epoch}</span></li>')
    losses = {line["epoch"]: line["loss"] for line in run.epochs if line["round"] == 1}
    terms = sorted({term for grid in shown.grids for term in losses.get(grid.epoch, {})})
    rows = [(grid.epoch, *(losses.get(grid.epoch, {}).get(term) for term in terms)) for grid in shown.grids]
    columns = [Column("epoch"), *(Column(term, _SCORE) for term in terms)]
    drawing = f'<ol class="grids">{"".join(cells)}</ol>'
    return figure("translations", "Translations over epochs", caption, drawing, columns, rows, wide=True)


def _triple(one: Attended, other: str, low: float, high: float) -> str:
    pixels, who = one.crop.pixels_HW3, f"{one.domain} image, {_who(one.crop)}"
    cells = [_cell(one.crop, who, one.domain, "plain")]
    for name, words, part in (("A", "domain-shared", one.shared_hw), (other, "domain-specific", one.specific_hw)):
        if part is not None:
            peak = np.unravel_index(int(part.argmax()), part.shape)
            most = f"most in row {peak[0] + 1}, column {peak[1] + 1}"
            said = f"{words} attention over the {who}: {part.min():.3f} to {part.max():.3f}, {most}"
            coloured = Crop(overlay(pixels, part, low, high), one.crop.path)
            cells.append(_cell(coloured, said, name, "plain"))
    return f'<ol class="triple">{"".join(cells)}</ol>'


def embedding(shown: Pictures) -> str:
    """The same people before and after adaptation, by identity and by camera."""
    if not shown.clouds:
        return ""
    kind = shown.embedding_of
    drawings, rows = [], []
    for at, cloud in enumerate(shown.clouds):
        drawings.append(_cloud(f"cloud-{at}-groups", cloud, kind, cloud.groups_N))
        if (cloud.camids_N != UNKNOWN).any():
            drawings.append(_cloud(f"cloud-{at}-cameras", cloud, "camera", cloud.camids_N))
        rows += [
            (cloud.model, round(float(x), 3), round(float(y), 3), int(group), int(camid))
            for (x, y), group, camid in zip(cloud.xy_N2, cloud.groups_N, cloud.camids_N, strict=True)
        ]
    groups, images = len(np.unique(shown.clouds[0].groups_N)), len(shown.clouds[0].xy_N2)
    what = f"{images:,} test images of {groups} identities of the target" if kind == "identity" else (
        f"{images:,} training images of the target in {groups} clusters, since its identities are unknown"
    )  # fmt: skip
    caption = (
        f"t-SNE of {what}, chosen at even steps, not by result. Good features bring an identity together and mix the cameras; "
        "the axes have no unit, and distances between far groups mean little."
    )
    columns = list(map(Column, ("model", "x", "y", kind, "camera")))
    return figure("embedding", "Embedding", caption, panels(*drawings), columns, rows, wide=True, tabled=False)


def _cloud(ident: str, cloud: Cloud, kind: str, groups_N: np.ndarray) -> str:
    known = np.unique(groups_N)
    names = {int(group): f"{kind} {group}" if kind == "camera" else str(group) for group in known}
    said = f"{len(groups_N)} points in {len(known)} groups, t-SNE of the features of the {cloud.model} model, by {kind}."
    groups = [names[int(group)] for group in groups_N]
    return scatter(ident, f"{cloud.model}, by {kind}", said, cloud.xy_N2, groups, list(names.values()))


def sheets(shown: Pictures) -> str:
    """Images of the best and the worst clusters."""
    ordered = shown.clusters
    drawn = [cluster for cluster in ordered if cluster.crops]
    if not drawn:
        return ""
    if shown.known:
        single = sum(cluster.identities == 1 for cluster in ordered)
        images = sum(cluster.size for cluster in ordered)
        purity = sum(cluster.score * cluster.size for cluster in ordered) / images
        caption = (
            f"Pseudo-labels of round {shown.labels_round}: {single} of {plural(len(ordered), 'cluster')} hold one identity only; "
            f"{percent(purity)} % of the clustered images belong to the most frequent identity of their cluster (green frames). "
            "The target's identities are used here to judge the clusters; training never saw them."
        )
        titles, measure = ("purest", "most mixed"), "purity"
    else:
        caption = (
            f"Pseudo-labels of round {shown.labels_round}. The target's identities are unknown, so clusters are ordered by their "
            "mean silhouette: how much nearer an image is to its own cluster's centre than to the next (1: far nearer, 0: as near)."
        )
        titles, measure = ("tightest", "loosest"), "silhouette"
    half = -(-len(drawn) // 2)
    drawing = "".join(_sheet(cluster, titles[0], shown.known) for cluster in drawn[:half])
    drawing += "".join(_sheet(cluster, titles[1], shown.known) for cluster in reversed(drawn[half:]))
    columns = [Column("cluster"), Column("images"), Column(measure, _SCORE), Column("identities"), Column("most frequent identity")]
    rows = [
        (one.number, one.size, one.score, one.identities, one.pid if one.pid != UNKNOWN else None)
        for one in sorted(ordered, key=lambda one: one.number)
    ]
    return figure("sheets", "Clusters", caption, drawing, columns, rows, wide=True)


def _sheet(cluster: Cluster, title: str, known: bool) -> str:
    words = f"cluster {cluster.number}: {plural(cluster.size, 'image')}"
    if known:
        words += f", {plural(cluster.identities or 0, 'identity', 'identities')}, purity {percent(cluster.score)} %"
    else:
        words += f", silhouette {cluster.score:.2f}"
    cells = []
    for crop in cluster.crops:
        kind = "plain" if not known else "hit" if crop.pid == cluster.pid else "miss"
        cells.append(_cell(crop, _who(crop), "" if crop.camid == UNKNOWN else f"cam {crop.camid}", kind))
    return _strip(title, words, cells, "sheet")


def _strip(title: str, words: str, cells: Sequence[str], kind: str) -> str:
    heading = f'<p class="strip"><b>{escape(title)}</b> {escape(words)}</p>'
    return f'<div class="row">{heading}<ol class="{kind}">{"".join(cells)}</ol></div>'


def _cell(crop: Crop, alternative: str, below: str, kind: str) -> str:
    return f'<li class="{kind}">{picture(crop.pixels_HW3, alternative)}<span>{escape(below)}</span></li>'


def _who(crop: Crop) -> str:
    parts = [f"identity {crop.pid}"] if crop.pid != UNKNOWN else []
    parts += [f"camera {crop.camid}"] if crop.camid != UNKNOWN else []
    return ", ".join(parts) or crop.path
