"""Which gallery entries count for which query: the single-query protocol without any distance."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distreid.common.errors import UserError
from distreid.evaluation.features import JUNK, Features


@dataclass(frozen=True, eq=False)
class Pairs:
    """Gallery rows by query, as flat arrays cut by offsets [Q + 1]; ascending within a query.

    same: rows with the query's pid, whatever the camera. positives: those of them that are hits; the others were taken
    by the query's own camera and are ignored.
    """

    same: NDArray[np.int64]
    same_offsets: NDArray[np.int64]
    positives: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def block(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row (0 is query start) and column of every `same` entry of the queries start:stop."""
        offsets = self.same_offsets[start : stop + 1]
        return np.repeat(np.arange(stop - start), np.diff(offsets)), self.same[offsets[0] : offsets[-1]]


def ranked_gallery(query: Features, gallery: Features) -> tuple[Features, int]:
    """The gallery without junk, and the number of junk entries. Raises UserError where the sides cannot be compared."""
    if query.features.shape[1] != gallery.features.shape[1]:
        raise UserError(
            f"query features have {query.features.shape[1]} dimensions and gallery features "
            f"{gallery.features.shape[1]}: both must come from the same model"
        )
    junk = int((gallery.pids == JUNK).sum())
    if junk == len(gallery):
        raise UserError("the gallery holds only junk (pid -1): there is nothing to rank")
    return (gallery.take(gallery.pids != JUNK) if junk else gallery), junk


def find_pairs(query: Features, gallery: Features) -> Pairs:
    """Every (query, gallery) pair of one identity; gallery as from `ranked_gallery`."""
    by_pid = np.argsort(gallery.pids, kind="stable")
    sorted_pids = gallery.pids[by_pid]
    first = np.searchsorted(sorted_pids, query.pids, side="left")
    counts = np.searchsorted(sorted_pids, query.pids, side="right") - first
    same_offsets = np.concatenate([[0], np.cumsum(counts)])
    same = by_pid[np.repeat(first, counts) + places(same_offsets)]
    owner = np.repeat(np.arange(len(query)), counts)
    ignored = (gallery.camids[same] == query.camids[owner]) & (query.camids[owner] != -1)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner[~ignored], minlength=len(query)))])
    return Pairs(same, same_offsets, same[~ignored], offsets)


def places(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, 2, … within each of the segments that offsets cut."""
    return np.arange(offsets[-1] - offsets[0]) - np.repeat(offsets[:-1] - offsets[0], np.diff(offsets))
