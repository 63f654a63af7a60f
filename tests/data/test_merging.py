"""Several packed sets as one, against plain loops."""

from pathlib import Path

import pytest

from distreid.common.errors import UserError
from distreid.data.merging import merge, selected, sets_of, whole
from distreid.data.selection import select
from distreid.data.store import ImageStore
from tests.data.layouts import OWN_NAMES, market, own_cameras, own_names, packed, prid, small_market


def merged(tmp_path: Path, *stores: ImageStore) -> ImageStore:
    merge([whole(store) for store in stores], tmp_path / "all.arrow", given="all of them")
    return ImageStore.open(tmp_path / "all.arrow")


def test_people_and_cameras_are_kept_apart(tmp_path: Path) -> None:
    """A set with a test set, another that has the same numbers, and one without any."""
    market = packed(small_market(tmp_path / "m"), tmp_path / "m.arrow")
    names = packed(own_names(tmp_path / "n"), tmp_path / "n.arrow", "names", pattern=OWN_NAMES)
    plain = packed(own_names(tmp_path / "p"), tmp_path / "p.arrow", "folder")
    store = merged(tmp_path, market, names, plain)
    expected = [
        (split, f"{k + 1}-{one.name}/{one.paths[row]}", one.encoded(row))
        for split in ("train", "query", "gallery")
        for k, one in enumerate((market, names, plain))
        for row in range(len(one))
        if one.splits[row] == split
    ]
    assert [(str(store.splits[row]), str(store.paths[row]), store.encoded(row)) for row in range(len(store))] == expected
    people, cameras = {}, {}
    for row in range(len(store)):
        k, path = int(str(store.paths[row])[0]), str(store.paths[row]).partition("/")[2]
        one = (market, names, plain)[k - 1]
        old = one.paths.tolist().index(path)
        if k == 3:
            assert store.pids[row] == store.camids[row] == -1
            continue
        test = store.splits[row] != "train"
        assert people.setdefault((k, test, one.pids[old]), store.pids[row]) == store.pids[row]
        assert cameras.setdefault((k, one.camids[old]), store.camids[row]) == store.camids[row]
    assert sorted(people.values()) == list(range(1, len(people) + 1)) and len(people) == 4 + 3 + 5
    assert sorted(cameras.values()) == list(range(1, len(cameras) + 1)) and len(cameras) == 3 + 3
    assert store.summary.notes[1:] == (
        "2-n: 31 images, identities 8 to 12, cameras 4 to 6",
        "3-p: 31 images, identities unknown, cameras unknown",
    )
    assert (store.name, store.shown) == ("m+n+p", "all of them")
    assert sets_of(store).tolist() == [int(name[0]) - 1 for _, name, _ in expected] and not sets_of(market).any()


def test_the_order_of_sets_and_their_labels_make_the_content(tmp_path: Path) -> None:
    one = packed(own_names(tmp_path / "n"), tmp_path / "n.arrow", "names", pattern=OWN_NAMES)
    other = packed(own_cameras(tmp_path / "c"), tmp_path / "c.arrow", "cameras")
    hashes = {merged(tmp_path, *stores).content_hash for stores in ((one, other), (other, one), (one, one))}
    assert len(hashes) == 3 and merged(tmp_path, one, other).content_hash in hashes


def test_one_number_in_training_and_in_the_test_stays_two_people(tmp_path: Path) -> None:
    """As MSMT17 has it."""
    name = "{:04d}_c{}_0015.jpg".format
    root = market(tmp_path / "m", train=[name(0, 1), name(1, 1)], query=[name(0, 1)], gallery=[name(0, 2)])
    one = packed(root, tmp_path / "m.arrow", "msmt17")
    store = merged(tmp_path, one, one)
    assert list(zip(store.splits.tolist(), store.pids.tolist(), store.camids.tolist(), strict=True)) == [
        *(("train", pid, camid) for pid, camid in ((1, 1), (2, 1), (4, 3), (5, 3))),
        *(("query", pid, camid) for pid, camid in ((3, 1), (6, 3))),
        *(("gallery", pid, camid) for pid, camid in ((3, 2), (6, 4))),
    ]


def test_what_was_selected_of_each(tmp_path: Path) -> None:
    """A test set held out of one, one camera of another, one random split's training images of a third."""
    names = packed(own_names(tmp_path / "n"), tmp_path / "n.arrow", "names", pattern=OWN_NAMES)
    splits = packed(prid(tmp_path / "p"), tmp_path / "p.arrow", "prid2011")
    domains = [select(names, holdout=2), select(names, cameras=[2], no_cameras=True), select(splits, split=1)]
    parts = [selected(store, domain) for store, domain in zip((names, names, splits), domains, strict=True)]
    merge(parts, tmp_path / "all.arrow")
    store = ImageStore.open(tmp_path / "all.arrow")
    expected = list[tuple[str, str, memoryview]]()
    for split in ("train", "query", "gallery"):
        for k, (one, domain) in enumerate(zip((names, names, splits), domains, strict=True)):
            side = getattr(domain, split)
            if k == 2 and split != "train":
                continue
            expected += [(split, f"{k + 1}-{one.name}/{one.paths[row]}", one.encoded(row)) for row in side.rows]
    assert [(str(store.splits[row]), str(store.paths[row]), store.encoded(row)) for row in range(len(store))] == expected
    assert (store.splits == "query").any() and store.protocol.name == "single_query" and sets_of(store).max() == 2
    assert set(store.camids[sets_of(store) == 1]) == {-1}
    for place in (0, 1, 2):
        own = (sets_of(store) == place) & (store.splits == "train")
        one = (names, names, splits)[place]
        old = dict(zip(one.paths.tolist(), one.pids.tolist(), strict=True))
        pairs = {(old[str(path).partition("/")[2]], pid) for path, pid in zip(store.paths[own], store.pids[own], strict=True)}
        assert len(pairs) == len({new for _, new in pairs}) == len({one for one, _ in pairs}) > 1


def test_random_splits_cannot_be_kept(tmp_path: Path) -> None:
    store = packed(prid(tmp_path / "p"), tmp_path / "p.arrow", "prid2011")
    with pytest.raises(UserError, match=f"{store.path}: has random splits of its own; to be joined .* it needs 'split'"):
        whole(store)
