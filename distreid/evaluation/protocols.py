"""Protocols that draw their gallery or their test identities at random, many times: CUHK03 (classic) and PRID2011."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distreid.errors import UserError
from distreid.evaluation.features import JUNK, Features
from distreid.evaluation.hits import hit_ranks
from distreid.evaluation.metrics import cmc_curve, per_query


@dataclass(frozen=True, eq=False)
class SplitMetrics:
    """CMC over random splits, as fractions in [0, 1]; these protocols report no mAP.

    cmc: float64 [50], the mean over splits; cmc[r - 1] is rank-r. cmc_std: float64 [50], the sample standard deviation
    (0 for a single split). queries, gallery: images ranked per split, averaged.
    queries_without_positive: per split, averaged; left out of the CMC.
    """

    cmc: NDArray[np.float64]
    cmc_std: NDArray[np.float64]
    splits: int
    queries: float
    queries_without_positive: float
    gallery: float

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        names = ("splits", "queries", "queries_without_positive", "gallery")
        ranks = {f"rank{r}": float(self.cmc[r - 1]) for r in (1, 5, 10, 20)}
        deviations = {f"rank{r}_std": float(self.cmc_std[r - 1]) for r in (1, 5, 10, 20)}
        return ranks | deviations | {name: getattr(self, name) for name in names} | {"cmc": self.cmc.tolist()}


def single_shot(query: Features, gallery: Features, *, splits: int = 20, seed: int = 0) -> SplitMetrics:
    """Single-gallery-shot CMC: each split draws one gallery image of every identity from the other cameras.

    The classic CUHK03 protocol (Li et al., CVPR 2014). A query is ranked against images of cameras other than its own;
    queries of one camera share the split's draw. Junk is left out. Split i draws from the generator [seed, i].
    """
    gallery = gallery.take(gallery.pids != JUNK)
    results = []
    for split in range(splits):
        rng = np.random.default_rng([seed, split])
        firsts, size = [], 0
        for camera in np.unique(query.camids):
            candidates = np.flatnonzero((gallery.camids != camera) | (camera == -1))
            if not len(candidates):
                raise UserError(f"no gallery image is from another camera than {camera}: single-shot needs two views")
            shuffled = rng.permutation(candidates)
            _, first = np.unique(gallery.pids[shuffled], return_index=True)
            shot = np.sort(shuffled[first])
            size += len(shot) * int((query.camids == camera).sum())
            firsts.append(_first_hits(query.take(query.camids == camera), gallery.take(shot)))
        results.append((np.concatenate(firsts), size / len(query)))
    return _over_splits(results)


def random_identities(
    query: Features, gallery: Features, *, test_identities: int = 100, splits: int = 10, seed: int = 0
) -> SplitMetrics:
    """CMC on random halves of the identities that both sides share: PRID2011 (Hirzer et al., SCIA 2011).

    Each split draws `test_identities` of the shared identities; their query images are ranked against the gallery
    without the other shared ones (those would be training data), so PRID2011's gallery holds 749 − 100 = 649 images.
    Give one camera as query and the other as gallery; swap them for the other direction. Split i draws from the
    generator [seed, i].
    """
    shared = np.intersect1d(query.pids, gallery.pids[gallery.pids != JUNK])
    if len(shared) < test_identities:
        raise UserError(
            f"query and gallery share {len(shared)} identities, but a split needs {test_identities}: "
            "check that both cameras number the same people alike"
        )
    results = []
    for split in range(splits):
        test = np.random.default_rng([seed, split]).permutation(shared)[:test_identities]
        kept = (gallery.pids != JUNK) & ~np.isin(gallery.pids, np.setdiff1d(shared, test))
        firsts = _first_hits(query.take(np.isin(query.pids, test)), gallery.take(kept))
        results.append((firsts, float(kept.sum())))
    return _over_splits(results)


def _first_hits(query: Features, gallery: Features) -> NDArray[np.int64]:
    return per_query(hit_ranks(query, gallery)).first_hit


def _over_splits(results: list[tuple[NDArray[np.int64], float]]) -> SplitMetrics:
    """From (rank of each query's first hit, 0 for none; gallery size) of every split."""
    if not results:
        raise UserError("splits must be at least 1")
    if any(not first.any() for first, _ in results):
        raise UserError("a split has no query with a positive: check that pids and camids of both sides agree")
    curves = np.stack([cmc_curve(first[first > 0]) for first, _ in results])
    return SplitMetrics(
        cmc=curves.mean(axis=0),
        cmc_std=curves.std(axis=0, ddof=1) if len(curves) > 1 else np.zeros(curves.shape[1]),
        splits=len(results),
        queries=float(np.mean([len(first) for first, _ in results])),
        queries_without_positive=float(np.mean([(first == 0).sum() for first, _ in results])),
        gallery=float(np.mean([size for _, size in results])),
    )
