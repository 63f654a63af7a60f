"""People drawn in MSMT17's layout: its counts, read back by its reader."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from distreid.common.errors import UserError
from distreid.data.readers import read_dataset
from distreid.data.records import Record
from distreid.data.synthetic import DrawnSummary, draw_msmt17
from distreid.data.synthetic.shots import MSMT17, plan_msmt17
from tests.commands import fails

FRACTION = 0.004  # 130 training images of 4 identities, 47 queries and 329 gallery images of 12 others


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> DrawnSummary:
    return draw_msmt17(tmp_path_factory.mktemp("drawn") / "night", domain="night", fraction=FRACTION, workers=1)


@pytest.fixture(scope="module")
def records(drawn: DrawnSummary) -> tuple[Record, ...]:
    return read_dataset(drawn.root, "msmt17").records


def test_the_plan_of_all_has_the_published_counts() -> None:
    shots = list(plan_msmt17(0, "day", MSMT17))
    images = Counter(shot.split for shot in shots)
    assert (images["train"] + images["val"], images["query"], images["gallery"]) == (32_621, 11_659, 82_161)
    people = {split: {shot.identity for shot in shots if shot.split == split} for split in images}
    assert len(people["train"]) == 1_041 and people["val"] <= people["train"]
    assert people["query"] == people["gallery"] and len(people["query"]) == 3_060 and not people["query"] & people["train"]
    assert {shot.camera for shot in shots} == set(range(1, 16))
    assert len({shot.file for shot in shots}) == len(shots) == len({shot.stream for shot in shots}) == 126_441
    assert all(2_000 < count < 20_000 for count in Counter(shot.camera for shot in shots).values())


def test_its_reader_finds_what_the_summary_says(drawn: DrawnSummary, records: tuple[Record, ...]) -> None:
    images = Counter(record.split for record in records)
    assert images == {"train": drawn.train_images, "query": drawn.query_images, "gallery": drawn.gallery_images}
    assert images == {"train": 130, "query": 47, "gallery": 329} and (drawn.distractors, drawn.junk, drawn.cameras) == (0, 0, 15)
    assert len({record.pid for record in records if record.split == "train"}) == drawn.identities == 4
    assert len({record.pid for record in records if record.split == "query"}) == drawn.test_identities == 12
    assert "of 12 others" in str(drawn)
    notes = read_dataset(drawn.root, "msmt17").notes
    assert not [note for note in notes if "warning" in note or "no list" in note or "ignored" in note]


def test_a_query_is_alone_and_has_positives_elsewhere(records: tuple[Record, ...]) -> None:
    queries = [(record.pid, record.camid) for record in records if record.split == "query"]
    gallery = [(record.pid, record.camid) for record in records if record.split == "gallery"]
    assert len(set(queries)) == len(queries)
    for pid, camid in queries:
        assert [other for who, other in gallery if who == pid and other != camid]
    assert all((pid, camid) in queries for pid, camid in gallery), "a camera that sees somebody has a query of them"


def test_any_number_of_processes_draws_the_same_and_no_image_twice(drawn: DrawnSummary, tmp_path: Path) -> None:
    again = draw_msmt17(tmp_path / "night", domain="night", fraction=FRACTION, workers=2).root
    files = sorted(path.relative_to(drawn.root) for path in drawn.root.rglob("*") if path.is_file())
    contents = [(drawn.root / file).read_bytes() for file in files]
    assert len(files) == 130 + 47 + 329 + 4 and len(set(contents)) == len(contents)
    assert [(again / file).read_bytes() for file in files] == contents


@pytest.mark.parametrize("fraction", [0.001, 1.5])
def test_a_fraction_out_of_range_is_named(fraction: float, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"fraction is {fraction}: give a number from 0.002 to 1"):
        draw_msmt17(tmp_path / "out", fraction=fraction)


def test_numbers_that_the_size_decides_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert "leave out --identities" in fails(capsys, "synth", out, "--size", "msmt17", "--cameras", "6")
    assert "--fraction is of --size" in fails(capsys, "synth", out, "--fraction", "0.5")
    assert not any(tmp_path.iterdir())
