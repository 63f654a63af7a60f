"""The report's figures of images and features: rank lists, attention overlays, the embedding, contact sheets of clusters."""

from functools import partial

import numpy as np

from distreid.common.text import number, percent, plural
from distreid.methods.exhibits import UNKNOWN, Attended, Cloud, Cluster, Crop, Pictures, RankList
from distreid.methods.spec import PictureSpec
from distreid.report.charts import scatter
from distreid.report.images import heat, overlay, picture
from distreid.report.marks import Chart, box, label
from distreid.report.parts import Cell, Column, Figure, Strip
from distreid.report.read import Run

_SCORE = partial(number, digits=3)


def rank_lists(shown: Pictures) -> list[Figure]:
    """Each query with the start of its ranking; green frames show the query's person, red ones somebody else."""
    if not shown.rank_lists:
        return []
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
    strips = [_ranking(chosen) for chosen in shown.rank_lists]
    return [Figure("ranks", "Rank lists", caption, list(map(Column, names)), rows, strips=strips, wide=True, tabled=False)]


def _ranking(chosen: RankList) -> Strip:
    first = f"first match at rank {chosen.first_hit}" if chosen.first_hit else "no match"
    words = f"AP {percent(chosen.ap)}, {first}, {plural(chosen.positives, 'match', 'matches')} in the gallery"
    cells = [_cell(chosen.query, f"query: {_who(chosen.query)}", "query", "query")]
    for rank, (crop, similarity) in enumerate(chosen.ranked, 1):
        match = crop.pid == chosen.query.pid
        said = f"rank {rank}, {'correct' if match else 'wrong'}: {_who(crop)}, cosine similarity {similarity:.3f}"
        cells.append(_cell(crop, said, f"{rank} {'✓' if match else '✗'}", "hit" if match else "miss"))
    return Strip(cells, "ranked", chosen.kind, words)


def attention(shown: Pictures, spec: PictureSpec | None) -> list[Figure]:
    """Image, A and 1 - A side by side; one scale of colours for all."""
    if not shown.attended or spec is None:
        return []
    maps = [part for one in shown.attended for part in (one.shared_hw, one.specific_hw) if part is not None]
    low, high = min(float(part.min()) for part in maps), max(float(part.max()) for part in maps)
    h, w = maps[0].shape
    caption = f"{spec.caption} All pictures have one scale of colours; the map has {h} × {w} places, enlarged."
    rows = [
        (
            one.domain,
            one.crop.path,
            *place,
            *(None if part is None else float(part[place]) for part in (one.shared_hw, one.specific_hw)),
        )
        for one in shown.attended
        for place in np.ndindex(one.shared_hw.shape)
    ]
    columns = list(map(Column, ("domain", "image", "row", "column", "shared", "specific")))
    strips, scale = [_triple(one, low, high) for one in shown.attended], [_scale(low, high)]
    return [Figure("attention", spec.title, caption, columns, rows, scale, strips, layout="triples", wide=True, tabled=False)]


def _triple(one: Attended, low: float, high: float) -> Strip:
    who, specific = f"{one.domain} image, {_who(one.crop)}", one.specific_hw
    other = "1 − A" if specific is not None and np.allclose(one.shared_hw + specific, 1, atol=0.01) else "A′"
    cells = [_cell(one.crop, who, one.domain)]
    for name, words, part in (("A", "domain-shared", one.shared_hw), (other, "domain-specific", specific)):
        if part is not None:
            peak = np.unravel_index(int(part.argmax()), part.shape)
            most = f"most in row {peak[0] + 1}, column {peak[1] + 1}"
            said = f"{words} attention over the {who}: {part.min():.3f} to {part.max():.3f}, {most}"
            cells.append(Cell(picture(overlay(one.crop.pixels_HW3, part, low, high), said), name))
    return Strip(cells, "triple")


def _scale(low: float, high: float) -> Chart:
    """The colours of the overlays."""
    colours = [f"rgb({','.join(f'{part:.0f}' for part in heat(np.array(k / 49)))})" for k in range(50)]
    bar = [box("", 8 + 4 * k, 4, 4.2, 12, fill=colour) for k, colour in enumerate(colours)]
    words = label(216, 14, f"{low:.3f} (blue) to {high:.3f} (red)")
    return Chart("heat", "Colours of the overlays", f"Blue is {low:.3f}, red is {high:.3f}.", 20, [*bar, words])


def grids(shown: Pictures, run: Run) -> list[Figure]:
    """What the method drew over the epochs, with the losses of those epochs as data."""
    spec = run.spec.grids
    if not shown.grids or spec is None:
        return []
    cells = [
        Cell(picture(grid.pixels_HW3, f"{spec.title}: after epoch {grid.epoch}"), f"epoch {grid.epoch}") for grid in shown.grids
    ]
    losses = {line["epoch"]: line["loss"] for line in run.epochs if line["round"] == 1}
    terms = run.spec.terms((key for grid in shown.grids for key in losses.get(grid.epoch, {})), run.config)
    rows = [(grid.epoch, *(losses.get(grid.epoch, {}).get(term.key) for term in terms)) for grid in shown.grids]
    columns = [Column("epoch"), *(Column(term.key, _SCORE) for term in terms)]
    return [Figure("grids", spec.title, spec.caption, columns, rows, strips=[Strip(cells, "grids")], wide=True)]


def embedding(shown: Pictures) -> list[Figure]:
    """The same people before and after adaptation, by identity and by camera."""
    if not shown.clouds:
        return []
    kind = shown.embedding_of
    charts, rows = [], []
    for at, cloud in enumerate(shown.clouds):
        charts.append(_cloud(f"cloud-{at}-groups", cloud, kind, cloud.groups_N))
        if (cloud.camids_N != UNKNOWN).any():
            charts.append(_cloud(f"cloud-{at}-cameras", cloud, "camera", cloud.camids_N))
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
    return [Figure("embedding", "Embedding", caption, columns, rows, charts, wide=True, tabled=False)]


def _cloud(ident: str, cloud: Cloud, kind: str, groups_N: np.ndarray) -> Chart:
    known = np.unique(groups_N)
    names = {int(group): f"{kind} {group}" if kind == "camera" else str(group) for group in known}
    said = f"{len(groups_N)} points in {len(known)} groups, t-SNE of the features of the {cloud.model} model, by {kind}."
    groups = [names[int(group)] for group in groups_N]
    return scatter(ident, f"{cloud.model}, by {kind}", said, cloud.xy_N2, groups, list(names.values()))


def sheets(shown: Pictures) -> list[Figure]:
    """Images of the best and the worst clusters."""
    ordered = shown.clusters
    drawn = [cluster for cluster in ordered if cluster.crops]
    if not drawn:
        return []
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
    strips = [_sheet(cluster, titles[0], shown.known) for cluster in drawn[:half]]
    strips += [_sheet(cluster, titles[1], shown.known) for cluster in reversed(drawn[half:])]
    columns = [Column("cluster"), Column("images"), Column(measure, _SCORE), Column("identities"), Column("most frequent identity")]
    rows = [
        (one.number, one.size, one.score, one.identities, one.pid if one.pid != UNKNOWN else None)
        for one in sorted(ordered, key=lambda one: one.number)
    ]
    return [Figure("sheets", "Clusters", caption, columns, rows, strips=strips, wide=True)]


def _sheet(cluster: Cluster, title: str, known: bool) -> Strip:
    words = f"cluster {cluster.number}: {plural(cluster.size, 'image')}"
    if known:
        words += f", {plural(cluster.identities or 0, 'identity', 'identities')}, purity {percent(cluster.score)} %"
    else:
        words += f", silhouette {cluster.score:.2f}"
    cells = []
    for crop in cluster.crops:
        kind = "plain" if not known else "hit" if crop.pid == cluster.pid else "miss"
        cells.append(_cell(crop, _who(crop), "" if crop.camid == UNKNOWN else f"cam {crop.camid}", kind))
    return Strip(cells, "sheet", title, words)


def _cell(crop: Crop, alternative: str, below: str, kind: str = "plain") -> Cell:
    return Cell(picture(crop.pixels_HW3, alternative), below, kind)


def _who(crop: Crop) -> str:
    parts = [f"identity {crop.pid}"] if crop.pid != UNKNOWN else []
    parts += [f"camera {crop.camid}"] if crop.camid != UNKNOWN else []
    return ", ".join(parts) or crop.path
