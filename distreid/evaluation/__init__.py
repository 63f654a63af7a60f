"""Retrieval evaluation: the single-query protocol, the random-split protocols, exact ranks, CMC, mAP and mINP."""

from distreid.evaluation.bench import bench_score
from distreid.evaluation.features import Features, load_npz
from distreid.evaluation.hits import hit_ranks, rank
from distreid.evaluation.metrics import Hits, Metrics, PerQuery, per_query, summarise
from distreid.evaluation.protocols import SplitMetrics, random_identities, single_shot
from distreid.evaluation.rerank import reranked_hits
from distreid.evaluation.translation import changed_share, color_distance, foreground_iou

__all__ = [
    "Features",
    "Hits",
    "Metrics",
    "PerQuery",
    "SplitMetrics",
    "bench_score",
    "changed_share",
    "color_distance",
    "foreground_iou",
    "hit_ranks",
    "load_npz",
    "per_query",
    "random_identities",
    "rank",
    "reranked_hits",
    "single_shot",
    "summarise",
]
