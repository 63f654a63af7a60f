"""Which rows of a store a run uses: its cameras, its identities, and a test set held out of a set that brings none."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from distreid.common.errors import UserError
from distreid.common.text import plural
from distreid.data.holdout import draw_identities, queries_of
from distreid.data.records import SINGLE_QUERY, UNKNOWN, Protocol
from distreid.data.store import ImageStore

Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Split:
    """``rows`` into the store, ascending, with their ``pids`` and ``camids``; each int64 [N]."""

    rows: Integers
    pids: Integers
    camids: Integers

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Domain:
    """The three splits of one camera network, as selected, and how its queries are to be looked up.

    Under the protocol ``single_shot`` query and gallery are the same images; under ``cross_camera`` they are two cameras, and each
    protocol's ``test_pids`` say which of the identities a split tests.
    """

    train: Split
    query: Split
    gallery: Split
    protocol: Protocol = SINGLE_QUERY


def select(
    store: ImageStore,
    *,
    cameras: Sequence[int] | None = None,
    identities: tuple[int, int] | None = None,
    holdout: int | None = None,
    holdout_seed: int | None = None,
    split: int | None = None,
    no_cameras: bool = False,
) -> Domain:
    """Picks the rows of a run.

    ``cameras`` keeps these cameras in all splits; of a set that is tested between two cameras (PRID2011), in training alone.
    ``identities=(start, stop)`` keeps a half-open range of the training identities, counted over *all* of them in sorted order,
    whatever the cameras: ranges that do not overlap share nobody. ``holdout=n`` makes n selected identities a test set (see
    `distreid.data.holdout`) of a store that has none of its own: the last ones, or those that ``holdout_seed`` draws.
    ``split`` chooses one of a store's random splits, from 0; without it all of them are tested on and nobody is left to train on.
    ``no_cameras`` makes every camera of what was selected unknown.
    Raises `UserError` for a camera, range or number that the store does not have.
    """
    train, query, gallery, protocol = _roles(store, split)
    kept = np.ones(len(store), dtype=bool)
    if identities is not None:
        kept &= ~train | np.isin(store.pids, _identity_range(store, store.pids[train], identities))
    if cameras is not None:
        everywhere = protocol.name != "cross_camera"
        kept &= np.isin(store.camids, _known_cameras(store, cameras)) | ~(train | everywhere)
    if train.any() and not (train & kept).any():
        raise UserError(f"{store.shown}: no training image of these identities in cameras {_listed(cameras or ())}; choose others")
    domain = Domain(_split(store, kept & train), _split(store, kept & query), _split(store, kept & gallery), protocol)
    if protocol.test_pids and len(np.unique(np.concatenate([domain.query.camids, domain.gallery.camids]))) < 2:
        nobody = _split(store, np.zeros(len(store), dtype=bool))
        domain = Domain(domain.train, nobody, nobody)  # one camera is left: nothing to be looked up in another
    if no_cameras:
        domain = _without_cameras(store, domain)
    return domain if holdout is None else _hold_out(store, domain, holdout, holdout_seed)


def _roles(store: ImageStore, split: int | None) -> tuple[Mask, Mask, Mask, Protocol]:
    """Which rows may be trained on, queried and searched in; under what protocol."""
    protocol = store.protocol
    if not protocol.test_pids:
        if split is not None:
            raise UserError(f"{store.shown}: its test set is fixed, there are no random splits to choose from; remove 'split'")
        train, query, gallery = (store.splits == name for name in ("train", "query", "gallery"))
        return train, query, gallery, protocol
    if split is not None and not 0 <= split < len(protocol.test_pids):
        raise UserError(f"{store.shown}: no split {split}; it has splits 0 to {len(protocol.test_pids) - 1}")
    chosen = protocol.test_pids if split is None else (protocol.test_pids[split],)
    protocol = Protocol(protocol.name, chosen)
    tested = np.isin(store.pids, np.unique(np.concatenate(chosen)))
    if protocol.name == "single_shot":
        return ~tested & (split is not None), tested, tested, protocol
    cameras = np.unique(store.camids)
    views = [store.camids == camid for camid in cameras]
    shared = np.isin(store.pids, np.intersect1d(store.pids[views[0]], store.pids[views[-1]]))
    train = shared & ~tested & (split is not None)
    return train, views[0] & ~train, views[-1] & ~train, protocol


def relabel(pids: Integers) -> tuple[Integers, int]:
    """Class labels 0..n-1 in the order of the sorted pids, int64 [N], and n."""
    known, labels = np.unique(pids, return_inverse=True)
    return labels.astype(np.int64), len(known)


def _split(store: ImageStore, mask: Mask) -> Split:
    rows = np.flatnonzero(mask)
    return Split(rows, store.pids[rows], store.camids[rows])


def _listed(values: Sequence[int] | Integers) -> str:
    return ", ".join(str(value) for value in values)


def _known_cameras(store: ImageStore, cameras: Sequence[int]) -> Sequence[int]:
    present = np.unique(store.camids)
    if UNKNOWN in present:
        raise UserError(f"{store.shown}: its cameras are unknown, so none can be selected; remove 'cameras'")
    missing = sorted(set(cameras) - set(present.tolist()))
    if missing or not cameras:
        what = f"no camera {_listed(missing)}" if missing else "an empty list of cameras"
        raise UserError(f"{store.shown}: {what}; it has cameras {_listed(present)}")
    return cameras


def _identity_range(store: ImageStore, trained: Integers, identities: tuple[int, int]) -> Integers:
    known = np.unique(trained)
    if UNKNOWN in known:
        raise UserError(f"{store.shown}: its identities are unknown, so none can be selected; remove 'identities'")
    start, stop = identities
    if not 0 <= start < stop <= len(known):
        raise UserError(
            f"{store.shown}: identities {start} to {stop} do not lie in its {plural(len(known), 'training identity')} "
            f"(0 to {len(known)}, start below stop)"
        )
    return known[start:stop]


def _without_cameras(store: ImageStore, domain: Domain) -> Domain:
    if domain.protocol.test_pids:
        raise UserError(f"{store.shown}: its test goes by cameras; remove 'no_cameras'")
    train, query, gallery = (
        Split(own.rows, own.pids, np.full(len(own), UNKNOWN, dtype=np.int64))
        for own in (domain.train, domain.query, domain.gallery)
    )
    return Domain(train, query, gallery)


def _hold_out(store: ImageStore, domain: Domain, count: int, seed: int | None) -> Domain:
    """Moves ``count`` training identities, the last or those that ``seed`` draws, into query and gallery."""
    if len(domain.query) or len(domain.gallery):
        raise UserError(f"{store.shown}: has a query and a gallery of its own; remove 'holdout'")
    train = domain.train
    known = np.unique(train.pids)
    if UNKNOWN in known:
        raise UserError(f"{store.shown}: its identities are unknown, so none can be held out; remove 'holdout'")
    if not 0 < count < len(known):
        raise UserError(
            f"{store.shown}: holdout {count} must leave some of the {plural(len(known), 'selected identity')} for training"
        )
    chosen = known[-count:] if seed is None else draw_identities(store.shown, train.pids, train.camids, count, seed)
    by_pid = queries_of(train.pids, train.camids)
    queries = np.zeros(len(train), dtype=bool)
    queries[np.concatenate([by_pid[int(pid)] for pid in chosen])] = True
    if not queries.any():
        raise UserError(f"{store.shown}: none of the {count} held-out identities was seen by two selected cameras; hold out more")
    tested = np.isin(train.pids, chosen)
    left, query, gallery = (
        Split(train.rows[mask], train.pids[mask], train.camids[mask]) for mask in (~tested, queries, tested & ~queries)
    )
    return Domain(left, query, gallery)
