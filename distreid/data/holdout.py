"""A test set made of training identities, the way Market-1501 was made.

Of each held-out identity that two or more cameras saw, the first image of each camera with more of it is a query and the rest the
gallery: a camera's only image of a person stays there, so that every query finds its identity under another camera. Where no camera
is known, its first image is the query.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from distreid.common.errors import UserError
from distreid.common.text import plural
from distreid.data.readers.published import lonely_queries
from distreid.data.records import SPLITS, UNKNOWN, Dataset

Integers = npt.NDArray[np.int64]


def queries_of(pids: Integers, camids: Integers) -> Mapping[int, Integers]:
    """The images of each identity that would be queries if it were held out, as ascending places in the arrays, int64 [N] both.

    Of identities in ascending order, none where one image would search in vain.
    """
    order = np.lexsort((np.arange(len(pids)), pids))
    known, starts = np.unique(pids[order], return_index=True)
    known_cameras = bool((camids != UNKNOWN).any())
    return {
        int(pid): _queries(places, camids[places], known_cameras)
        for pid, places in zip(known, np.split(order, starts[1:]), strict=True)
    }


def _queries(places: Integers, camids: Integers, known_cameras: bool) -> Integers:
    if not known_cameras:
        return places[:1] if len(places) > 1 else places[:0]
    counts = Counter(camids.tolist())
    unknown = counts.pop(UNKNOWN, 0)  # each is taken for a camera of its own, as tests take it
    if len(counts) + unknown < 2:
        return places[:0]
    return np.sort([places[camids == camid][0] for camid, count in counts.items() if count > 1]).astype(np.int64)


def draw_identities(place: str, pids: Integers, camids: Integers, count: int, seed: int) -> Integers:
    """``count`` identities drawn by ``seed`` from those that have a query, ascending.

    Raises `UserError`, which begins with ``place``, unless there are as many and one identity is left to train on.
    """
    if seed < 0:
        raise UserError(f"{place}: the seed of holdout is {seed}: give 0 or more")
    queries = queries_of(pids, camids)
    if UNKNOWN in queries:
        raise UserError(f"{place}: its identities are unknown, so none can be held out; remove 'holdout'")
    able = [pid for pid, own in queries.items() if len(own)]
    most = min(len(able), len(queries) - 1)
    if not 0 < count <= most:
        needed = "two cameras, one of them with two images" if (camids != UNKNOWN).any() else "two images"
        raise UserError(
            f"{place}: holdout {count} must be from 1 to {most:,}: {len(able):,} of {plural(len(queries), 'identity')} have "
            f"{needed}, and one must be left to train on"
        )
    drawn = np.random.default_rng(seed).permutation(np.array(able, dtype=np.int64))[:count]
    return np.sort(drawn)


def hold_out(dataset: Dataset, count: int, seed: int, place: str) -> Dataset:
    """The data set with ``count`` identities, drawn by ``seed``, moved from training to query and gallery.

    Raises `UserError`, which begins with ``place``, for a set with a test set of its own and as `draw_identities`.
    """
    records = dataset.records
    if dataset.protocol.test_pids or any(record.split != "train" for record in records):
        raise UserError(f"{place}: has a query and a gallery of its own; remove 'holdout'")
    pids, camids = (np.array([getattr(record, name) for record in records], dtype=np.int64) for name in ("pid", "camid"))
    tested = draw_identities(place, pids, camids, count, seed)
    queries = queries_of(pids, camids)
    asked = set(np.concatenate([queries[int(pid)] for pid in tested]).tolist())
    held = set(tested.tolist())
    split = ["train" if record.pid not in held else "query" if row in asked else "gallery" for row, record in enumerate(records)]
    moved = [replace(record, split=own) for record, own in zip(records, split, strict=True)]
    moved.sort(key=lambda record: SPLITS.index(record.split))  # stable: within a split by path, as before
    note = (
        f"{plural(count, 'identity')} of {len(queries):,} held out by seed {seed}: {plural(len(asked), 'query')}, "
        f"{plural(split.count('gallery'), 'gallery image')}"
    )
    return replace(dataset, records=tuple(moved), notes=(*dataset.notes, note))


def forget_cameras(dataset: Dataset, place: str) -> Dataset:
    """The same data set with every camera unknown. Raises `UserError`, which begins with ``place``, where tests go by cameras."""
    if dataset.protocol.test_pids:
        raise UserError(f"{place}: its test goes by cameras; remove 'no_cameras'")
    records = tuple(replace(record, camid=UNKNOWN) for record in dataset.records)
    vain = lonely_queries(dataset.records)  # a warning that no longer holds
    notes = (*(note for note in dataset.notes if note not in vain), "cameras left out as asked", *lonely_queries(records))
    return replace(dataset, records=records, notes=notes)
