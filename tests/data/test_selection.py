"""Cameras, identities and held-out identities, against plain loops."""

import re
from pathlib import Path

import numpy as np
import pytest

from distreid.common.errors import UserError
from distreid.data.selection import Domain, relabel, select
from distreid.data.store import ImageStore
from tests.data.layouts import OWN_NAMES, market, market_name, noise, own_cameras, own_names, packed, prid, small_market

# Images per (pid, camid): identity 6 has one image in each of two cameras, 8 is in camera 2 only.
COUNTS = {(1, 1): 2, (1, 2): 1, (4, 1): 3, (4, 3): 2, (6, 1): 1, (6, 2): 1, (8, 2): 3, (10, 1): 2, (10, 2): 3, (10, 3): 1}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    root = tmp_path_factory.mktemp("full")
    return packed(small_market(root / "m"), root / "m.arrow")


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    """A training half, as people have of Market-1501."""
    root = tmp_path_factory.mktemp("half")
    names = [market_name(pid, camid, frame) for (pid, camid), count in COUNTS.items() for frame in range(count)]
    return packed(market(root / "m", train=names), root / "half.arrow")


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    root = tmp_path_factory.mktemp("plain")
    noise(root / "m" / "1.jpg")
    return packed(root / "m", root / "plain.arrow", format="folder")


def check(store: ImageStore, domain: Domain) -> None:
    """The labels are the rows' labels, and rows ascend and serve once."""
    for split in (domain.train, domain.query, domain.gallery):
        assert np.array_equal(split.pids, store.pids[split.rows])
        assert np.array_equal(split.camids, store.camids[split.rows])
        assert (np.diff(split.rows) > 0).all()
        assert split.rows.dtype == split.pids.dtype == split.camids.dtype == np.int64
    rows = np.concatenate([domain.train.rows, domain.query.rows, domain.gallery.rows])
    assert len(set(rows.tolist())) == len(rows)


def test_everything(full: ImageStore) -> None:
    domain = select(full)
    check(full, domain)
    assert (len(domain.train), len(domain.query), len(domain.gallery)) == (24, 4, 6)


def test_cameras_in_all_splits(full: ImageStore) -> None:
    domain = select(full, cameras=[3, 1])
    check(full, domain)
    assert set(domain.train.camids) == {1, 3}
    assert set(domain.query.camids) == set(domain.gallery.camids) == {1}
    assert (len(domain.train), len(domain.query), len(domain.gallery)) == (16, 2, 3)


def test_identities_count_over_the_sorted_training_ones(full: ImageStore) -> None:
    domain = select(full, identities=(1, 3))
    check(full, domain)
    assert set(domain.train.pids) == {7, 9}
    assert (len(domain.query), len(domain.gallery)) == (4, 6)


def test_ranges_that_do_not_overlap_share_nobody_whatever_the_cameras(half: ImageStore) -> None:
    first, rest = select(half, identities=(0, 2), cameras=[2]), select(half, identities=(2, 5), cameras=[1])
    assert set(first.train.pids) == {1}  # 4 is the second identity; camera 2 did not see it
    assert set(rest.train.pids) == {6, 10}


@pytest.mark.parametrize("cameras", [None, [1, 2], [1, 3]])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_holdout_against_loops(half: ImageStore, cameras: list[int] | None, count: int) -> None:
    rows = [row for row in range(len(half)) if cameras is None or half.camids[row] in cameras]
    tested = sorted({half.pids[row] for row in rows})[-count:]
    query = []
    for pid in tested:
        seen = {camid: [row for row in rows if (half.pids[row], half.camids[row]) == (pid, camid)] for camid in (1, 2, 3)}
        seen = {camid: found for camid, found in seen.items() if found}
        if len(seen) >= 2:
            query += [min(found, key=lambda row: half.paths[row]) for found in seen.values() if len(found) > 1]
    domain = select(half, cameras=cameras, holdout=count)
    check(half, domain)
    assert sorted(query) == domain.query.rows.tolist()
    assert domain.train.rows.tolist() == [row for row in rows if half.pids[row] not in tested]
    assert domain.gallery.rows.tolist() == [row for row in rows if half.pids[row] in tested and row not in query]


def test_every_held_out_query_has_a_positive_in_another_camera(half: ImageStore) -> None:
    domain = select(half, holdout=4)
    gallery = list(zip(domain.gallery.pids, domain.gallery.camids, strict=True))
    for pid, camid in zip(domain.query.pids, domain.query.camids, strict=True):
        assert any(other == pid and camera != camid for other, camera in gallery)
    assert {4, 10} == set(domain.query.pids)
    assert {6, 8} <= set(domain.gallery.pids)


def test_holdout_comes_after_the_range(half: ImageStore) -> None:
    domain = select(half, identities=(0, 2), holdout=1)
    assert set(domain.train.pids) == {1}
    assert set(domain.query.pids) == {4}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cameras": [1, 4, 9]}, "no camera 4, 9; it has cameras 1, 2, 3"),
        ({"cameras": []}, "empty list of cameras"),
        ({"identities": (3, 3)}, "5 training identities"),
        ({"identities": (0, 6)}, "5 training identities"),
        ({"identities": (-1, 2)}, "5 training identities"),
        ({"identities": (1, 2), "cameras": [2]}, "no training image"),
        ({"holdout": 5}, "must leave some of the 5 selected identities"),
        ({"holdout": 0}, "holdout 0"),
        ({"holdout": 1, "identities": (0, 4)}, "seen by two selected cameras"),
    ],
)
def test_impossible_selections(half: ImageStore, settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        select(half, **settings)
    assert str(half.path) in str(error.value)


def test_a_set_with_its_own_query_holds_nobody_out(full: ImageStore) -> None:
    with pytest.raises(UserError, match="a query and a gallery of its own"):
        select(full, holdout=1)


def test_unlabelled_images_can_only_be_taken_whole(unlabelled: ImageStore) -> None:
    domain = select(unlabelled)
    assert (domain.train.pids.tolist(), domain.train.camids.tolist()) == ([-1], [-1])
    for settings in ({"cameras": [1]}, {"identities": (0, 1)}, {"holdout": 1}):
        with pytest.raises(UserError, match="unknown"):
            select(unlabelled, **settings)  # type: ignore[arg-type]


def test_relabel() -> None:
    labels, count = relabel(np.array([7, 3, 7, 1500, 3]))
    assert labels.tolist() == [1, 0, 1, 2, 0]
    assert labels.dtype == np.int64
    assert count == 3


def drawn_by_loops(store: ImageStore, count: int, seed: int) -> tuple[list[int], list[int]]:
    """Query and gallery rows when ``count`` identities are drawn from all training rows; every unknown camera is one of its own."""
    able, queries = [], {}
    for pid in sorted(set(store.pids.tolist())):
        rows = [row for row in range(len(store)) if store.pids[row] == pid]
        cameras: dict[object, list[int]] = {}
        for row in rows:
            cameras.setdefault(int(store.camids[row]) if store.camids[row] >= 0 else ("unknown", row), []).append(row)
        first = [own[0] for own in cameras.values() if len(own) > 1] if len(cameras) > 1 else []
        if (store.camids < 0).all() and len(rows) > 1:
            first = rows[:1]
        if first:
            able.append(pid)
            queries[pid] = first
    tested = np.random.default_rng(seed).permutation(able)[:count].tolist()
    query = sorted(row for pid in tested for row in queries[pid])
    return query, [row for row in range(len(store)) if store.pids[row] in tested and row not in query]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("cameras", ["known", "some", "none"])
def test_drawn_holdout_against_loops(tmp_path: Path, cameras: str, seed: int) -> None:
    """In a selection, and in a packed file."""
    root = own_names(tmp_path / "m")
    pattern = {"known": OWN_NAMES, "some": r"p(?P<pid>\d+)-cam(?P<camid>[12])?", "none": r"p(?P<pid>\d+)-"}[cameras]
    store = packed(root, tmp_path / "m.arrow", "names", pattern=pattern)
    query, gallery = drawn_by_loops(store, 3, seed)
    domain = select(store, holdout=3, holdout_seed=seed)
    check(store, domain)
    assert (domain.query.rows.tolist(), domain.gallery.rows.tolist()) == (query, gallery)
    held = packed(root, tmp_path / "held.arrow", "names", pattern=pattern, holdout=3, seed=seed)
    for split, own in (("train", domain.train), ("query", domain.query), ("gallery", domain.gallery)):
        assert held.paths[held.splits == split].tolist() == store.paths[own.rows].tolist()
    assert f"3 identities of 5 held out by seed {seed}: {len(query)} " in held.summary.notes[-1]
    searched = {pid: set(domain.gallery.camids[domain.gallery.pids == pid].tolist()) for pid in domain.query.pids.tolist()}
    for pid, camid in zip(domain.query.pids.tolist(), domain.query.camids.tolist(), strict=True):
        assert searched[pid] - ({camid} - {-1}), "each query finds its person under another camera"


def test_seeds_differ(tmp_path: Path) -> None:
    store = packed(own_names(tmp_path / "m"), tmp_path / "m.arrow", "names", pattern=OWN_NAMES)
    assert len({tuple(select(store, holdout=2, holdout_seed=seed).query.rows.tolist()) for seed in range(8)}) > 2


def test_cameras_that_are_taken_for_unknown(half: ImageStore, tmp_path: Path) -> None:
    """Chosen by their numbers first; the last held-out identity needs no second camera any more."""
    domain = select(half, cameras=[2], no_cameras=True, holdout=1)
    assert set(domain.train.camids) == set(domain.gallery.camids) == {-1}
    assert domain.query.rows.tolist() == [np.flatnonzero((half.pids == 10) & (half.camids == 2))[0]]
    assert len(domain.gallery) == 2 and set(domain.train.pids) == {1, 6, 8}
    store = packed(own_names(tmp_path / "m"), tmp_path / "m.arrow", "names", pattern=OWN_NAMES, no_cameras=True, holdout=2)
    assert set(store.camids) == {-1} and "cameras left out as asked" in store.summary.notes


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"holdout": 5}, "holdout 5 must be from 1 to 4: 4 of 5 identities have two cameras, one of them with two images, and one"),
        ({"holdout": 0}, "holdout 0 must be from 1 to 4"),
        ({"holdout": 5, "no_cameras": True}, "holdout 5 must be from 1 to 4: 5 of 5 identities have two images, and one"),
    ],
)
def test_more_held_out_than_there_is(tmp_path: Path, settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / 'm'}: {words}")):
        packed(own_names(tmp_path / "m"), tmp_path / "m.arrow", "names", pattern=OWN_NAMES, **settings)
    assert not (tmp_path / "m.arrow").exists()


def test_what_cannot_be_held_out_or_made_unknown(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a query and a gallery of its own"):
        packed(small_market(tmp_path / "m"), tmp_path / "m.arrow", holdout=1)
    with pytest.raises(UserError, match="its identities are unknown"):
        packed(own_cameras(tmp_path / "c"), tmp_path / "c.arrow", "cameras", holdout=1)
    for settings, words in (({"no_cameras": True}, "its test goes by cameras"), ({"holdout": 1}, "of its own")):
        with pytest.raises(UserError, match=words):
            packed(prid(tmp_path / "p"), tmp_path / "p.arrow", "prid2011", **settings)
    store = packed(tmp_path / "p", tmp_path / "p.arrow", "prid2011")
    with pytest.raises(UserError, match=f"{store.path}: its test goes by cameras; remove 'no_cameras'"):
        select(store, no_cameras=True)
