"""How good a round's clusters are, for the report: purity where the target's identities are known, else their silhouette."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from typing import Any

import numpy as np

from distreid.common.layout import round_files, round_number
from distreid.methods.exhibits import Cluster
from distreid.methods.thumbnails import store_of, subsample, thumbnails
from distreid.training import RunDirectory
from distreid.training.domains import DomainData

SHOWN, IMAGES = 4, 12  # of the best and of the worst clusters; of each


def score_clusters(run: RunDirectory, target: DomainData) -> tuple[dict[str, Any], np.ndarray | None]:
    """The latest round's clusters, best first, the best and worst with some of their images.

    Returns what `distreid.report.Pictures` holds of clusters, and their labels; nothing and None where there are none to read.
    """
    files = round_files(run.labels)
    if not files:
        return {}, None
    number = round_number(files[-1].name) or 0
    try:
        kept = run.load_labels(number)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return {}, None  # the page can do without
    labels_N = kept["labels"]
    pids_N = store_of(target.train).pids[target.train.rows]
    known = bool((pids_N >= 0).all())
    if known:
        found = purities(labels_N, pids_N)
    else:
        score_K = silhouettes(labels_N, kept["features_ND"], kept["centers"])
        found = [Cluster(k, int((labels_N == k).sum()), float(score)) for k, score in enumerate(score_K)]
    found.sort(key=lambda one: (-one.score, -one.size, one.number))
    few = min(SHOWN, len(found) // 2)
    for at in [*range(few), *range(len(found) - few, len(found))]:
        one = found[at]
        members = np.flatnonzero(labels_N == one.number)
        # The most frequent person first, then the others, so that a mixed cluster shows both.
        members = subsample(members[np.lexsort((pids_N[members], pids_N[members] != one.pid))], IMAGES)
        found[at] = replace(one, crops=thumbnails(target.train, members))
    return {"clusters": found, "labels_round": number, "known": known}, labels_N


def purities(labels_N: np.ndarray, pids_N: np.ndarray) -> list[Cluster]:
    """Each cluster's share of its most frequent identity, the smaller pid where two are as frequent."""
    found = []
    for k in range(int(labels_N.max(initial=-1)) + 1):
        pids, counts = np.unique(pids_N[labels_N == k], return_counts=True)
        found.append(Cluster(k, int(counts.sum()), float(counts.max() / counts.sum()), len(pids), int(pids[counts.argmax()])))
    return found


def silhouettes(labels_N: np.ndarray, features_ND: np.ndarray, centers_KD: np.ndarray, block: int = 4096) -> np.ndarray:
    """Each cluster's mean of (b - a) / max(a, b) over its images, float64 [K].

    a: Euclidean distance of the L2-normalised feature to the own centre, b: to the nearest other one (the simplified silhouette).
    """
    clusters = len(centers_KD)
    sums_K, counts_K = np.zeros(clusters), np.zeros(clusters)
    centers_KD = centers_KD / np.maximum(np.linalg.norm(centers_KD, axis=1, keepdims=True), 1e-12)
    clustered = np.flatnonzero(labels_N >= 0)
    for start in range(0, len(clustered), block):
        index = clustered[start : start + block]
        own_B = labels_N[index]
        unit_BD = features_ND[index] / np.maximum(np.linalg.norm(features_ND[index], axis=1, keepdims=True), 1e-12)
        distance_BK = np.sqrt(np.maximum(2 - 2 * (unit_BD @ centers_KD.T), 0))
        at = np.arange(len(index)), own_B
        a_B = distance_BK[at]
        distance_BK[at] = np.inf
        b_B = distance_BK.min(axis=1)
        np.add.at(sums_K, own_B, (b_B - a_B) / np.maximum(np.maximum(a_B, b_B), 1e-12))
        np.add.at(counts_K, own_B, 1)
    return sums_K / counts_K
