"""From folder to Arrow file: what is stored, what is refused, and that nothing half-written stays."""

import hashlib
import os
import resource
import shlex
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distreid.common.errors import UserError
from distreid.data import packing
from distreid.data.decode_cache import DecodeCache
from distreid.data.packing import pack
from distreid.data.readers import read_dataset
from distreid.data.store import ImageStore
from tests.data.layouts import market, market_name, noise, packed, small_market


def refused(src: Path, out: Path, *words: str, **settings: bool) -> None:
    """Packing stops with one line that holds all the words, and leaves the output's folder as it was."""
    before = seen(out.parent)
    with pytest.raises(UserError) as error:
        pack(src, out, format="folder", **settings)
    message = str(error.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message
    assert seen(out.parent) == before


def seen(folder: Path) -> list[str]:
    """What is in a folder, but for the hidden list of images that need not be decoded again."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".verified")


def test_every_record_is_stored_in_order(tmp_path: Path) -> None:
    root = small_market(tmp_path / "Market")
    records = read_dataset(root, "market1501").records
    store = packed(root, tmp_path / "market.arrow")
    assert (store.name, store.format) == ("Market", "market1501")
    assert store.paths.tolist() == [record.path.relative_to(root).as_posix() for record in records]
    assert store.pids.tolist() == [record.pid for record in records]
    assert store.camids.tolist() == [record.camid for record in records]
    assert store.splits.tolist() == [record.split for record in records]
    assert store.sizes_N2.tolist() == [[8, 16]] * len(records)
    for row, record in enumerate(records):
        assert np.array_equal(np.asarray(store.decode(row)), np.asarray(Image.open(record.path)))


def test_the_hash_covers_bytes_and_labels_in_order(tmp_path: Path) -> None:
    root = small_market(tmp_path / "Market")
    expected = hashlib.sha256()
    for record in read_dataset(root, "market1501").records:
        split = ["train", "query", "gallery"].index(record.split)
        expected.update(hashlib.sha256(record.path.read_bytes()).digest() + struct.pack("<iib", record.pid, record.camid, split))
    summary = pack(root, tmp_path / "market.arrow", format="market1501")
    assert summary.content_hash == expected.hexdigest()
    assert ImageStore.open(tmp_path / "market.arrow").content_hash == expected.hexdigest()


def test_threads_batches_and_place_do_not_change_the_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = [small_market(tmp_path / name) for name in ("one", "two")]
    hashes = {pack(roots[0], tmp_path / "1.arrow", format="market1501", workers=4).content_hash}
    monkeypatch.setattr(packing, "BATCH", 5)
    hashes.add(pack(roots[1], tmp_path / "2.arrow", format="market1501", workers=1).content_hash)
    assert len(hashes) == 1
    first, second = ImageStore.open(tmp_path / "1.arrow"), ImageStore.open(tmp_path / "2.arrow")
    assert first.read(range(len(first)), 16, 8).equal(second.read(range(len(second)), 16, 8))


def test_progress_counts_up_to_the_number_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "BATCH", 10)
    calls: list[tuple[int, int]] = []
    pack(small_market(tmp_path / "m"), tmp_path / "m.arrow", format="market1501", progress=lambda *call: calls.append(call))
    assert calls == [(10, 34), (20, 34), (30, 34), (34, 34)]


@pytest.fixture
def spoiled(tmp_path: Path) -> Path:
    """Two good images and one each of the ways to be bad."""
    root = tmp_path / "spoiled"
    noise(root / "good1.jpg", 64, 128)
    noise(root / "good2.png", 64, 128)
    whole = noise(root / "truncated.jpg", 64, 128).read_bytes()
    (root / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    whole = noise(root / "cut.png", 64, 128).read_bytes()
    (root / "cut.png").write_bytes(whole[:-40])
    (root / "empty.jpg").touch()
    (root / "page.jpg").write_text("<html>404</html>")
    (root / "dangling.jpg").symlink_to(tmp_path / "gone.jpg")
    return root


def test_bad_images_are_listed_together(tmp_path: Path, spoiled: Path) -> None:
    refused(spoiled, tmp_path / "out.arrow", "5 of 7 images cannot be decoded", "and 2 more", "--skip-bad", str(spoiled))
    for name in ("cut.png", "dangling.jpg", "empty.jpg"):
        (spoiled / name).unlink()
    refused(spoiled, tmp_path / "out.arrow", "page.jpg (not an image)", "truncated.jpg (", "truncated")


def test_bad_images_can_be_left_out(tmp_path: Path, spoiled: Path) -> None:
    summary = pack(spoiled, tmp_path / "out.arrow", format="folder", skip_bad=True)
    reasons = dict(line.split(" ", 1) for line in summary.bad)
    assert list(reasons) == ["cut.png", "dangling.jpg", "empty.jpg", "page.jpg", "truncated.jpg"]
    assert reasons["empty.jpg"] == "(empty file)"
    assert "No such file" in reasons["dangling.jpg"]
    assert summary.images == 2
    store = ImageStore.open(tmp_path / "out.arrow")
    assert store.paths.tolist() == ["good1.jpg", "good2.png"]
    assert any(note.startswith("5 bad images left out: cut.png (") for note in store.summary.notes)


def test_nothing_but_bad_images(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "x.jpg").write_text("x")
    refused(tmp_path / "root", tmp_path / "out.arrow", "not one of 1 image can be decoded", skip_bad=True)


def test_identical_images_are_noted(tmp_path: Path) -> None:
    root = market(tmp_path / "m", train=[market_name(2, 1, 1)])
    folder = root / "bounding_box_train"
    for name in (market_name(2, 1, 2), market_name(3, 1, 2)):
        (folder / name).write_bytes((folder / market_name(2, 1, 1)).read_bytes())
    notes = pack(root, tmp_path / "m.arrow", format="market1501").notes
    assert "warning: 2 images byte for byte the same as another, 1 of them with another identity" in notes
    root = small_market(tmp_path / "leak")
    trained = next((root / "bounding_box_train").iterdir())
    noise(root / "bounding_box_test" / market_name(3, 1, 999)).write_bytes(trained.read_bytes())
    notes = pack(root, tmp_path / "leak.arrow", format="market1501").notes
    assert "warning: 1 image byte for byte the same as another, 1 of them both trained and tested on" in notes


KILLED = """
import os, signal, sys
from distreid.data import packing
packing.BATCH = 5
def progress(done, total):
    if done >= 20:
        os.kill(os.getpid(), signal.SIGKILL)
packing.pack(sys.argv[1], sys.argv[2], format="market1501", workers=1, progress=progress)
"""


@pytest.mark.slow
def test_a_killed_pack_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = small_market(tmp_path / "m"), tmp_path / "out" / "m.arrow"
    expected = packed(root, tmp_path / "straight.arrow").path.read_bytes()
    out.parent.mkdir()
    assert subprocess.run([sys.executable, "-c", KILLED, root, out], timeout=280).returncode == -signal.SIGKILL
    assert not out.exists() and len(DecodeCache(out)) == 20
    (half_written,) = out.parent.glob(".m.arrow.*.tmp")
    os.utime(half_written, (0, 0))  # long ago: of a pack that is at work no more
    decoded = []
    opened = Image.open
    monkeypatch.setattr(packing.Image, "open", lambda file: decoded.append(file) or opened(file))
    pack(root, out, format="market1501", workers=1)
    assert len(decoded) == 34 - 20, "only what the killed pack had not decoded"
    assert out.read_bytes() == expected
    assert [path.name for path in out.parent.iterdir()] == ["m.arrow"], "nothing is left of the killed one"


def test_images_that_were_mended_are_decoded_again(tmp_path: Path) -> None:
    root, out = small_market(tmp_path / "m"), tmp_path / "m.arrow"
    victim = sorted((root / "query").iterdir())[0]
    good = victim.read_bytes()
    victim.write_bytes(good[:200])
    with pytest.raises(UserError, match="1 of 34 images cannot be decoded"):
        pack(root, out, format="market1501")
    assert len(DecodeCache(out)) == 33
    with pytest.raises(UserError, match="1 of 34 images cannot be decoded"):
        pack(root, out, format="market1501")
    victim.write_bytes(good)
    assert pack(root, out, format="market1501").images == 34
    assert not len(DecodeCache(out))


def test_a_torn_list_of_verified_images_is_mended(tmp_path: Path) -> None:
    decoded = DecodeCache(tmp_path / "x.arrow")
    decoded.add([(bytes([number]) * 32, number, 2 * number) for number in (1, 2)])
    with (tmp_path / ".x.arrow.verified").open("ab") as file:
        file.write(b"torn")
    again = DecodeCache(tmp_path / "x.arrow")
    again.add([(b"3" * 32, 3, 6)])
    assert [DecodeCache(tmp_path / "x.arrow").size(digest) for digest in (b"\1" * 32, b"\2" * 32, b"3" * 32, b"4" * 32)] == [
        (1, 2), (2, 4), (3, 6), None,
    ]  # fmt: skip


def test_another_file_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    first, second = noise(tmp_path / "a" / "1.jpg").parent, noise(tmp_path / "b" / "2.jpg").parent
    out = tmp_path / "out.arrow"
    pack(first, out, format="folder")
    assert pack(first, out, format="folder").images == 1  # the same again is fine
    refused(second, out, str(out), "already holds another data set")
    assert ImageStore.open(out).paths.tolist() == ["1.jpg"]
    pack(second, out, format="folder", overwrite=True)
    assert ImageStore.open(out).paths.tolist() == ["2.jpg"]
    out.write_text("my diary")
    refused(first, out, str(out), "is not a packed data set")
    assert out.read_text() == "my diary"
    refused(first, first, "is a folder")


def test_a_full_disk_leaves_no_file(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number in range(40):
        noise(root / f"{number}.png", 64, 128)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        refused(root, tmp_path / "out.arrow", "out.arrow", "cannot be written", "free some space")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_output_folder_that_cannot_be_made(tmp_path: Path) -> None:
    root = noise(tmp_path / "root" / "1.jpg").parent
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        pack(root, tmp_path / "file" / "out.arrow", format="folder")


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    root = noise(tmp_path / "root" / "1.jpg").parent
    try:
        (root / "1.jpg").rename(root / os.fsdecode(b"caf\xe9.jpg"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    pack(root, tmp_path / "out.arrow", format="folder")
    assert ImageStore.open(tmp_path / "out.arrow").paths.tolist() == ["caf\\udce9.jpg"]


def test_the_next_command_survives_a_shell(tmp_path: Path) -> None:
    """What a line proposes is pasted: a folder's name may have blanks, quotes and letters of any language."""
    folder = tmp_path / "Tür 2, Peter's"
    (folder / "cam1").mkdir(parents=True)
    (folder / "cam1" / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError) as error:
        pack(folder, tmp_path / "out.arrow", format="cameras")
    command = str(error.value).partition("leave them out with: ")[2]
    assert shlex.split(command) == ["distreid", "pack", str(folder), "OUT.arrow", "--format", "cameras", "--skip-bad"]
    for place, words in (
        (folder, ["distreid", "pack", str(folder), f"{folder.name}.arrow", "--format", "FORMAT"]),
        (folder / "no such.arrow", ["distreid", "pack", "SRC", str(folder / "no such.arrow"), "--format", "FORMAT"]),
    ):
        with pytest.raises(UserError) as error:
            ImageStore.open(place)
        assert shlex.split(str(error.value)[str(error.value).index("distreid pack") :]) == words


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.PARQUET"])
def test_a_packed_file_is_not_named_like_a_table(tmp_path: Path, name: str) -> None:
    """It would be read as one, and could not be opened again."""
    noise(tmp_path / "in" / "a.png", 16, 32)
    (tmp_path / "out").mkdir()
    refused(tmp_path / "in", tmp_path / "out" / name, "NAME.arrow")


def test_a_seed_below_zero_is_refused(tmp_path: Path) -> None:
    for person in "ab":
        for number in range(2):
            noise(tmp_path / "in" / person / f"{number}.png", 16, 32)
    with pytest.raises(UserError, match="seed of holdout is -1: give 0 or more"):
        pack(tmp_path / "in", tmp_path / "x.arrow", format="identities", holdout=1, seed=-1)
