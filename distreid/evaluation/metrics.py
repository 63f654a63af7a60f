"""From the ranks of the positives to CMC, mAP and mINP. Every fraction is in [0, 1]."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from distreid.common.errors import UserError

CMC_RANKS = 50
AP = Literal["hits", "trapezoid"]


@dataclass(frozen=True, eq=False)
class Hits:
    """Where each query's positives stand in its ranking.

    ranks: int64 [T], 1-based, ascending within a query; junk and same-camera images are not counted.
    offsets: int64 [Q + 1]; ranks[offsets[q]:offsets[q + 1]] belong to query q (none: the query has no positive).
    gallery: ranked gallery entries, junk left out; junk: how many were left out.
    """

    ranks: NDArray[np.int64]
    offsets: NDArray[np.int64]
    gallery: int
    junk: int

    @property
    def positives(self) -> NDArray[np.int64]:
        """int64 [Q], the number of positives of every query."""
        return np.diff(self.offsets)


@dataclass(frozen=True, eq=False)
class PerQuery:
    """One entry a query, in the order given; NaN (and 0 for first_hit) where a query has no positive.

    ap_hits, ap_trapezoid, inp: float64 [Q] in [0, 1]; positives: int64 [Q]; first_hit: int64 [Q], 1-based rank.
    """

    ap_hits: NDArray[np.float64]
    ap_trapezoid: NDArray[np.float64]
    inp: NDArray[np.float64]
    positives: NDArray[np.int64]
    first_hit: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Metrics:
    """Retrieval figures, as fractions in [0, 1]; means run over the queries that have a positive.

    mAP_hits: precision at each hit, averaged (the common Python evaluators). mAP_trapezoid: area under the
    precision-recall curve by the trapezoid rule (the official Market-1501 code; lower). `ap` names the one in `mAP`.
    mINP: positives / rank of the last positive (Ye et al., TPAMI 2021). cmc: float64 [50], cmc[r - 1] is rank-r.
    queries: all queries given, queries_without_positive of them left out of every mean.
    gallery: entries ranked; junk: entries with pid -1, dropped before.
    """

    ap: AP
    mAP_hits: float
    mAP_trapezoid: float
    mINP: float
    cmc: NDArray[np.float64]
    queries: int
    queries_without_positive: int
    gallery: int
    junk: int

    @property
    def mAP(self) -> float:  # noqa: N802 - the field's own name
        return self.mAP_hits if self.ap == "hits" else self.mAP_trapezoid

    @property
    def rank1(self) -> float:
        return float(self.cmc[0])

    @property
    def rank5(self) -> float:
        return float(self.cmc[4])

    @property
    def rank10(self) -> float:
        return float(self.cmc[9])

    @property
    def rank20(self) -> float:
        return float(self.cmc[19])

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        names = ["ap", "mAP", "mAP_hits", "mAP_trapezoid", "rank1", "rank5", "rank10", "rank20", "mINP"]
        names += ["queries", "queries_without_positive", "gallery", "junk"]
        return {name: getattr(self, name) for name in names} | {"cmc": self.cmc.tolist()}


def per_query(hits: Hits) -> PerQuery:
    """Both average precisions, INP and the first hit of every query."""
    positives_Q = hits.positives
    found_Q = positives_Q > 0
    starts, lasts = hits.offsets[:-1][found_Q], hits.offsets[1:][found_Q] - 1
    counts = positives_Q[found_Q]
    earlier_T = np.arange(len(hits.ranks)) - np.repeat(starts, counts)  # hits before this one
    precision_T = (earlier_T + 1) / hits.ranks
    # The official code's "old precision" is the one at the rank just above the hit, and 1 before the first rank.
    above_T = np.where(hits.ranks > 1, earlier_T / np.maximum(hits.ranks - 1, 1), 1.0)

    def mean(values_T: NDArray[np.float64]) -> NDArray[np.float64]:
        out_Q = np.full(len(positives_Q), np.nan)
        if len(starts):
            out_Q[found_Q] = np.add.reduceat(values_T, starts) / counts
        return out_Q

    inp_Q, first_Q = np.full(len(positives_Q), np.nan), np.zeros(len(positives_Q), np.int64)
    inp_Q[found_Q] = counts / hits.ranks[lasts]
    first_Q[found_Q] = hits.ranks[starts]
    return PerQuery(mean(precision_T), mean((precision_T + above_T) / 2), inp_Q, positives_Q, first_Q)


def cmc_curve(first_hit: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64 [50]: the share of queries whose first hit is at rank r or before; first_hit int64 [Q], 1-based."""
    counts = np.bincount(np.minimum(first_hit, CMC_RANKS + 1), minlength=CMC_RANKS + 2)[1 : CMC_RANKS + 1]
    return np.cumsum(counts) / len(first_hit)


def summarise(hits: Hits, ap: AP = "hits") -> Metrics:
    """The means over queries. Raises UserError where no query has a positive, or `ap` is no known definition."""
    if ap not in ("hits", "trapezoid"):
        raise UserError(f"ap: {ap!r} is unknown; choose 'hits' or 'trapezoid'")
    each = per_query(hits)
    found_Q = each.positives > 0
    if not found_Q.any():
        raise UserError(
            "no query has a positive: the gallery holds none of their pids under another camera; "
            "check that pids and camids of both sides follow the same numbering"
        )
    return Metrics(
        ap=ap,
        mAP_hits=float(each.ap_hits[found_Q].mean()),
        mAP_trapezoid=float(each.ap_trapezoid[found_Q].mean()),
        mINP=float(each.inp[found_Q].mean()),
        cmc=cmc_curve(each.first_hit[found_Q]),
        queries=len(found_Q),
        queries_without_positive=int((~found_Q).sum()),
        gallery=hits.gallery,
        junk=hits.junk,
    )
