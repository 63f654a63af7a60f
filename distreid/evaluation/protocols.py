"""The three ways to test a data set: single query, CUHK03's single gallery shot, and PRID2011's two cameras, over random splits.

Each gives trials: rankings of some query images, one or many a split. `measure` chooses the way and sums up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distreid.common.errors import UserError
from distreid.evaluation.features import JUNK, Features, apart, knows_cameras
from distreid.evaluation.hits import hit_ranks
from distreid.evaluation.metrics import AP, Hits, PerQuery, cmc_curve, per_query, summarise

Ranker = Callable[[Features, Features], Hits]
"""`hit_ranks`, `reranked_hits`, or one of them with its settings."""

PROTOCOLS = ("single_query", "single_shot", "cross_camera")
SHOTS = 10
"""Galleries drawn a split, as in the common evaluators: their mean is the same as that of one, its noise is smaller."""


@dataclass(frozen=True, eq=False)
class Trial:
    """One ranking of a protocol.

    rows: int64 [Q], the query images ranked, counted over the query images and then the gallery's (which query when PRID2011's
        cameras swap their parts). split, shot: which random split, and which gallery drawn for it, from 0.
    """

    rows: NDArray[np.int64]
    hits: Hits
    split: int = 0
    shot: int = 0


@dataclass(frozen=True, eq=False)
class SplitMetrics:
    """Figures over random splits, as fractions in [0, 1]: each the mean over the splits.

    cmc, cmc_std: float64 [50], cmc[r - 1] is rank-r, and its sample standard deviation over the splits (0 for a single one).
    mAP_hits, mAP_trapezoid, mINP: these protocols' papers report none. With one right answer in each gallery, mAP_hits and mINP
        are the mean of 1 / rank.
    queries, gallery: images a split, averaged. queries_without_positive: the same, left out of every figure.
    """

    ap: AP
    mAP_hits: float
    mAP_trapezoid: float
    mINP: float
    cmc: NDArray[np.float64]
    cmc_std: NDArray[np.float64]
    splits: int
    queries: float
    queries_without_positive: float
    gallery: float

    @property
    def mAP(self) -> float:  # noqa: N802 - the field's own name
        return self.mAP_hits if self.ap == "hits" else self.mAP_trapezoid

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        names = ("ap", "mAP", "mAP_hits", "mAP_trapezoid", "mINP", "splits", "queries", "queries_without_positive", "gallery")
        ranks = {f"rank{r}": float(self.cmc[r - 1]) for r in (1, 5, 10, 20)}
        deviations = {f"rank{r}_std": float(self.cmc_std[r - 1]) for r in (1, 5, 10, 20)}
        return {name: getattr(self, name) for name in names} | ranks | deviations | {"cmc": self.cmc.tolist()}


@dataclass(frozen=True, eq=False)
class Measured:
    """metrics: plain numbers, ready for JSON: those of `Metrics` or `SplitMetrics`, and the protocol's name. Under cross_camera
    they are those of the query images looked up in the gallery, and "reverse" holds the other direction's."""

    metrics: dict[str, Any]
    trials: list[Trial]


def measure(
    query: Features,
    gallery: Features,
    protocol: str = "single_query",
    test_pids: Sequence[Sequence[int]] = (),
    *,
    ap: AP = "hits",
    ranker: Ranker = hit_ranks,
) -> Measured:
    """Tests by the protocol named, see `PROTOCOLS`.

    query, gallery: under single_shot, usually the same images twice; under cross_camera, one camera each. Under single_query,
        where a side's cameras are all unknown (-1), nothing but the query itself is left out, and the metrics say "cameras": false.
    test_pids: the identities of each random split; without them single_shot tests all at once and cross_camera draws halves.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"unknown protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    known = knows_cameras(query) and knows_cameras(gallery)
    if protocol == "single_query":
        hits = ranker(query, gallery) if known else ranker(*apart(query, gallery))
        metrics = {"protocol": protocol} | summarise(hits, ap).as_dict() | ({} if known else {"cameras": False})
        return Measured(metrics, [Trial(np.arange(len(query)), hits)])
    if protocol == "single_shot":
        trials = single_shot(query, gallery, test_pids, ranker=ranker)
        return Measured({"protocol": protocol} | over_splits(trials, ap).as_dict(), trials)
    forth = random_identities(query, gallery, test_pids, ranker=ranker)
    back = random_identities(gallery, query, test_pids, ranker=ranker)
    metrics = {"protocol": protocol} | over_splits(forth, ap).as_dict() | {"reverse": over_splits(back, ap).as_dict()}
    return Measured(metrics, forth + [Trial(trial.rows + len(query), trial.hits, trial.split) for trial in back])


def single_shot(
    query: Features,
    gallery: Features,
    test_pids: Sequence[Sequence[int]] = (),
    *,
    shots: int = SHOTS,
    seed: int = 0,
    ranker: Ranker = hit_ranks,
) -> list[Trial]:
    """The classic CUHK03 protocol (Li et al., CVPR 2014): each shot draws one gallery image of every identity of a split.

    A query is ranked against images of cameras other than its own; queries of one camera share the draw. Junk is left out.
    Shot j of split i draws from the generator [seed, i, j].
    """
    kept = np.flatnonzero(gallery.pids != JUNK)
    everyone = np.union1d(query.pids, gallery.pids)
    trials = []
    for split, pids in enumerate([np.asarray(own) for own in test_pids] if len(test_pids) else [everyone]):
        queried = np.flatnonzero(np.isin(query.pids, pids))
        shown = kept[np.isin(gallery.pids[kept], pids)]
        for shot in range(shots):
            rng = np.random.default_rng([seed, split, shot])
            for camera in np.unique(query.camids[queried]):
                candidates = shown[(gallery.camids[shown] != camera) | (camera == -1)]
                if not len(candidates):
                    raise UserError(f"no gallery image is from another camera than {camera}: single-shot needs two views")
                shuffled = rng.permutation(candidates)
                _, first = np.unique(gallery.pids[shuffled], return_index=True)
                rows = queried[query.camids[queried] == camera]
                trials.append(Trial(rows, ranker(query.take(rows), gallery.take(np.sort(shuffled[first]))), split, shot))
    return trials


def random_identities(
    query: Features,
    gallery: Features,
    test_pids: Sequence[Sequence[int]] = (),
    *,
    test_identities: int = 100,
    splits: int = 10,
    seed: int = 0,
    ranker: Ranker = hit_ranks,
) -> list[Trial]:
    """PRID2011's protocol (Hirzer et al., SCIA 2011): half of the identities that both cameras share are tested.

    A split's query images are ranked against the gallery without the other shared identities (those would be training data), so
    PRID2011's gallery holds 749 − 100 = 649 images. Give one camera as query and the other as gallery; swap them for the other
    direction. Without ``test_pids``, split i draws ``test_identities`` from the generator [seed, i].
    """
    shared = np.intersect1d(query.pids, gallery.pids[gallery.pids != JUNK])
    if not len(test_pids):
        if len(shared) < test_identities:
            raise UserError(
                f"query and gallery share {len(shared)} identities, but a split needs {test_identities}: "
                "check that both cameras number the same people alike"
            )
        orders = [np.random.default_rng([seed, split]).permutation(shared) for split in range(splits)]
        test_pids = [order[:test_identities].tolist() for order in orders]
    trials = []
    for split, pids in enumerate(test_pids):
        rows = np.flatnonzero(np.isin(query.pids, np.intersect1d(pids, shared)))
        if not len(rows):
            raise UserError(f"split {split}: query and gallery share none of its {len(pids)} test identities")
        kept = (gallery.pids != JUNK) & ~np.isin(gallery.pids, np.setdiff1d(shared, pids))
        trials.append(Trial(rows, ranker(query.take(rows), gallery.take(kept)), split))
    return trials


def over_splits(trials: Sequence[Trial], ap: AP = "hits") -> SplitMetrics:
    """The mean over splits of the means over a split's queries. Raises UserError where a split has no query with a positive."""
    by_split: dict[int, list[Trial]] = {}
    for trial in trials:
        by_split.setdefault(trial.split, []).append(trial)
    if not by_split:
        raise UserError("there are no random splits to test")
    figures, curves, sizes = [], [], []
    for own in by_split.values():
        each = [per_query(trial.hits) for trial in own]
        first = np.concatenate([one.first_hit for one in each])
        if not first.any():
            raise UserError("a split has no query with a positive: check that pids and camids of both sides agree")
        figures.append([np.nanmean(_joined(each, name)) for name in ("ap_hits", "ap_trapezoid", "inp")])
        curves.append(cmc_curve(first[first > 0]))
        shots = len({trial.shot for trial in own})
        searched = sum(trial.hits.gallery * len(trial.rows) for trial in own) / len(first)
        sizes.append([len(first) / shots, (first == 0).sum() / shots, searched])
    ap_hits, ap_trapezoid, inp = np.mean(figures, axis=0).tolist()
    queries, without, gallery = np.mean(sizes, axis=0).tolist()
    return SplitMetrics(
        ap=ap,
        mAP_hits=ap_hits,
        mAP_trapezoid=ap_trapezoid,
        mINP=inp,
        cmc=np.mean(curves, axis=0),
        cmc_std=np.std(curves, axis=0, ddof=1) if len(curves) > 1 else np.zeros_like(curves[0]),
        splits=len(curves),
        queries=queries,
        queries_without_positive=without,
        gallery=gallery,
    )


def _joined(each: Sequence[PerQuery], name: str) -> NDArray[np.float64]:
    return np.concatenate([getattr(one, name) for one in each])
