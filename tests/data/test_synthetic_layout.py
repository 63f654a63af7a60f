"""A drawn domain as files: Market-1501's layout, the protocol's promises, determinism, refusals."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distreid.common.errors import UserError
from distreid.data.synthetic import DOMAINS, DrawnSummary, contact_sheet, draw_domain

NAME = re.compile(r"(-1|\d{4})_c(\d)s(\d)_(\d{6})_(\d{2})\.jpg")
FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
SMALL = {"identities": 6, "cameras": 3, "images": 3, "workers": 1}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> DrawnSummary:
    return draw_domain(tmp_path_factory.mktemp("drawn") / "day", masks=True, **SMALL)


def read(folder: Path) -> list[tuple[int, int]]:
    """(pid, camid) of every file of a folder; fails on a name that is not Market-1501's."""
    found = [NAME.fullmatch(path.name) for path in sorted(folder.iterdir())]
    assert None not in found
    return [(int(m[1]), int(m[2])) for m in found if m is not None]


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_the_summary_counts_the_files(drawn: DrawnSummary) -> None:
    test = read(drawn.root / "bounding_box_test")
    assert drawn.train_images == len(read(drawn.root / "bounding_box_train"))
    assert drawn.query_images == len(read(drawn.root / "query"))
    assert drawn.gallery_images == sum(pid > 0 for pid, _ in test)
    assert drawn.distractors == sum(pid == 0 for pid, _ in test) > 0
    assert drawn.junk == sum(pid == -1 for pid, _ in test) > 0


def test_images_are_jpeg_of_market_size(drawn: DrawnSummary) -> None:
    for folder in FOLDERS:
        for path in (drawn.root / folder).iterdir():
            with Image.open(path) as image:
                assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 128))


def test_training_and_test_people_differ(drawn: DrawnSummary) -> None:
    train = {pid for pid, _ in read(drawn.root / "bounding_box_train")}
    query = {pid for pid, _ in read(drawn.root / "query")}
    gallery = {pid for pid, _ in read(drawn.root / "bounding_box_test")} - {0, -1}
    assert len(train) == len(query) == 6
    assert query == gallery
    assert not train & query


def test_every_query_is_alone_and_has_a_positive_in_another_camera(drawn: DrawnSummary) -> None:
    gallery = read(drawn.root / "bounding_box_test")
    queries = read(drawn.root / "query")
    assert len(set(queries)) == len(queries)
    for pid, camid in queries:
        assert any(p == pid and c != camid for p, c in gallery)
        assert any(p == pid and c == camid for p, c in gallery)  # and something for the protocol to leave out


def test_not_everyone_is_seen_everywhere(tmp_path: Path) -> None:
    summary = draw_domain(tmp_path / "out", identities=12, cameras=4, images=2, workers=1)
    seen: dict[int, set[int]] = defaultdict(set)
    for pid, camid in read(summary.root / "bounding_box_train"):
        seen[pid].add(camid)
    counts = {len(cameras) for cameras in seen.values()}
    assert min(counts) >= 2 and len(counts) > 1


def test_masks_stand_beside_the_images(drawn: DrawnSummary) -> None:
    for folder in FOLDERS:
        images = {path.stem for path in (drawn.root / folder).iterdir()}
        assert images == {path.stem for path in (drawn.root / "masks" / folder).iterdir()}
    shares = []
    for path in (drawn.root / "masks" / "bounding_box_train").iterdir():
        with Image.open(path) as image:
            mask = np.asarray(image)
        assert mask.shape == (128, 64) and set(np.unique(mask)) <= {0, 255}
        shares.append((mask == 255).mean())
    assert 0.15 < np.mean(shares) < 0.5


@pytest.mark.slow
def test_same_arguments_same_bytes_for_any_number_of_workers(drawn: DrawnSummary, tmp_path: Path) -> None:
    draw_domain(tmp_path / "a", masks=True, **SMALL)
    assert contents(tmp_path / "a") == contents(drawn.root)
    big = {"identities": 7, "cameras": 3, "images": 3, "domain": "night"}
    draw_domain(tmp_path / "b", workers=1, **big)
    draw_domain(tmp_path / "c", workers=2, **big)
    assert contents(tmp_path / "b") == contents(tmp_path / "c")


def test_another_seed_draws_other_people(drawn: DrawnSummary, tmp_path: Path) -> None:
    other = contents(draw_domain(tmp_path / "out", masks=True, seed=1, **SMALL).root)
    same = contents(drawn.root)
    assert not any(other[name] == same[name] for name in other.keys() & same.keys() if name.endswith(".jpg"))


def test_no_two_images_are_equal(drawn: DrawnSummary) -> None:
    images = [data for name, data in contents(drawn.root).items() if name.endswith(".jpg")]
    assert len(set(images)) == len(images)


@pytest.mark.parametrize("domain", sorted(DOMAINS))
def test_every_domain_draws(domain: str, tmp_path: Path) -> None:
    assert draw_domain(tmp_path / "out", domain=domain, identities=2, cameras=5, images=2, workers=1).domain == domain


def test_an_unknown_domain_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'nigth'.*'night'"):
        draw_domain(tmp_path / "out", domain="nigth")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("key", "value"),
    [("identities", 0), ("identities", 5000), ("cameras", 1), ("cameras", 10), ("images", 1), ("seed", -1), ("workers", 0)],
)
def test_a_number_out_of_range_is_named(key: str, value: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{key} is {value}"):
        draw_domain(tmp_path / "out", **{**SMALL, key: value})


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="not an empty folder"):
        draw_domain(tmp_path, **SMALL)
    with pytest.raises(UserError, match="not an empty folder"):
        draw_domain(tmp_path / "thesis.txt", **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        draw_domain(tmp_path / "file" / "out", **SMALL)


def test_an_empty_folder_may_be_filled_and_a_broken_run_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_domain(out, progress=stop, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and not any(out.iterdir())
    calls: list[tuple[int, int]] = []
    draw_domain(out, progress=lambda done, total: calls.append((done, total)), **SMALL)
    assert calls[-1][0] == calls[-1][1] == sum(len(list((out / folder).iterdir())) for folder in FOLDERS)


def test_contact_sheet(drawn: DrawnSummary, tmp_path: Path) -> None:
    contact_sheet(drawn.root, tmp_path / "sheet.png", identities=3, images=4)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (4 * 68 + 4, 3 * 132 + 4)
        tile = np.asarray(sheet)[4:132, 4:68]
    first = min((drawn.root / "bounding_box_train").iterdir())
    with Image.open(first) as image:
        assert np.array_equal(tile, np.asarray(image))
    with pytest.raises(UserError, match="no images"):
        contact_sheet(tmp_path, tmp_path / "none.png")
