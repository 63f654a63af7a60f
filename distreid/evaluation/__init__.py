"""Retrieval evaluation: the single-query protocol, the random-split protocols, exact ranks, CMC, mAP and mINP."""

from distreid.evaluation.bench import bench_score
from distreid.evaluation.cameras import compared_by_camera
from distreid.evaluation.features import Features, load_npz, load_protocol
from distreid.evaluation.hits import hit_ranks, rank
from distreid.evaluation.lists import first_ranked
from distreid.evaluation.metrics import Hits, Metrics, PerQuery, per_query, summarise
from distreid.evaluation.protocols import (
    PROTOCOLS,
    Measured,
    SplitMetrics,
    Trial,
    measure,
    over_splits,
    random_identities,
    single_shot,
)
from distreid.evaluation.rerank import reranked_hits
from distreid.evaluation.table import write_per_query
from distreid.evaluation.translation import changed_share, color_distance, foreground_iou

__all__ = [
    "PROTOCOLS",
    "Features",
    "Hits",
    "Measured",
    "Metrics",
    "PerQuery",
    "SplitMetrics",
    "Trial",
    "bench_score",
    "changed_share",
    "color_distance",
    "compared_by_camera",
    "first_ranked",
    "foreground_iou",
    "hit_ranks",
    "load_npz",
    "load_protocol",
    "measure",
    "over_splits",
    "per_query",
    "random_identities",
    "rank",
    "reranked_hits",
    "single_shot",
    "summarise",
    "write_per_query",
]
