"""Cameras, identities and held-out identities, against plain loops."""

import numpy as np
import pytest

from distreid.common.errors import UserError
from distreid.data.selection import Domain, relabel, select
from distreid.data.store import ImageStore
from tests.data.layouts import market, market_name, noise, packed, small_market

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
