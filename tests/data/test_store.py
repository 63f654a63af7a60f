"""Reading a packed file: decoding, resizing, and files that are no store."""

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from distreid.common.errors import UserError
from distreid.data.packing import pack
from distreid.data.store import SCHEMA, ImageStore
from tests.data.layouts import noise, packed, small_market


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of several sizes and colour modes."""
    root = tmp_path_factory.mktemp("mixed")
    noise(root / "a.jpg", 64, 128)
    noise(root / "b.png", 50, 90)
    noise(root / "c.jpg", 200, 301)
    for mode in ("L", "RGBA", "P", "CMYK", "1"):
        image = Image.open(noise(root / "b.png", 50, 90)).convert(mode)
        image.save(root / f"mode_{mode}.{'tif' if mode == 'CMYK' else 'png'}")
    pack(root, root / "mixed.arrow", format="folder")
    return root / "mixed.arrow"


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(128, 64), (40, 20), (256, 128)])
def test_read_is_pillows_decode_and_resize(mixed: Path, interpolation: str, height: int, width: int) -> None:
    store = ImageStore.open(mixed, interpolation=interpolation)
    images_BCHW = store.read(range(len(store)), height, width)
    assert images_BCHW.dtype == torch.uint8
    assert images_BCHW.shape == (8, 3, height, width)
    for path, image_CHW in zip(store.paths, images_BCHW, strict=True):
        image = Image.open(mixed.parent / path).convert("RGB")
        expected_HWC = np.asarray(image.resize((width, height), Image.Resampling[interpolation.upper()])).astype(int)
        # The two round their weights differently, which shows in few pixels.
        difference_HWC = np.abs(image_CHW.permute(1, 2, 0).numpy().astype(int) - expected_HWC)
        assert difference_HWC.max() <= 2
        assert difference_HWC.mean() < 0.02


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_images_are_upright_whatever_their_exif_orientation(suffix: str, tmp_path: Path) -> None:
    """All eight orientations of one picture give its pixels; 6 is a phone held upright."""
    picture = Image.fromarray(
        np.kron(np.random.default_rng(0).integers(0, 255, (8, 4, 3), np.uint8), np.ones((16, 16, 1), np.uint8))
    )
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # how Image.Transpose makes what the orientation describes
    root = tmp_path / "crops"
    root.mkdir()
    for orientation in range(1, 9):
        stored = picture if orientation == 1 else picture.transpose(Image.Transpose(undo[orientation]))
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored.save(root / f"{orientation}.{suffix}", exif=exif, quality=100)
    pack(root, tmp_path / "crops.arrow", format="folder")
    store = ImageStore.open(tmp_path / "crops.arrow")
    assert store.sizes_N2.tolist() == [[64, 128]] * 8
    for row in range(8):
        difference = np.asarray(store.decode(row)).astype(int) - np.asarray(picture).astype(int)
        assert np.abs(difference).mean() < (12 if suffix in ("jpg", "webp") else 0.1), row


def test_a_damaged_note_of_the_orientation_costs_no_image(tmp_path: Path) -> None:
    Image.new("RGB", (8, 16), "red").save(tmp_path / "a.jpg", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff broken")
    pack(tmp_path, tmp_path / "a.arrow", format="folder")
    assert ImageStore.open(tmp_path / "a.arrow").decode(0).size == (8, 16)


def test_threads_give_the_same_bytes(mixed: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 8, 100)
    one, four = ImageStore.open(mixed), ImageStore.open(mixed, threads=4)
    assert one.read(rows, 96, 48).equal(four.read(rows, 96, 48))


def test_rows_may_repeat_and_come_in_any_order_or_not_at_all(mixed: Path) -> None:
    store = ImageStore.open(mixed)
    everything = store.read(range(len(store)), 32, 16)
    rows = np.array([3, 0, 3, 7])
    assert store.read(rows, 32, 16).equal(everything[rows])
    assert store.read([], 32, 16).shape == (0, 3, 32, 16)


def test_a_store_travels_as_its_path(mixed: Path) -> None:
    store = ImageStore.open(mixed, threads=2, interpolation="bicubic")
    expected = store.read(range(8), 32, 16)
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    assert pickle.loads(sent).read(range(8), 32, 16).equal(expected)


def _read_sum(store: ImageStore, answer: "multiprocessing.Queue[int]") -> None:
    answer.put(int(store.read(range(8), 32, 16).sum()))


def test_a_forked_process_can_go_on_reading(mixed: Path) -> None:
    store = ImageStore.open(mixed, threads=2)
    expected = int(store.read(range(8), 32, 16).sum())  # starts this process's threads, which the child will not have
    context = multiprocessing.get_context("fork")
    answer: multiprocessing.Queue[int] = context.Queue()
    child = context.Process(target=_read_sum, args=(store, answer))
    child.start()
    try:
        assert answer.get(timeout=60) == expected
    finally:
        child.kill()
        child.join()


def refused(path: Path, *words: str) -> None:
    with pytest.raises(UserError) as error:
        ImageStore.open(path)
    message = str(error.value)
    assert "\n" not in message
    assert [word for word in (str(path), *words) if word not in message] == [], message


def test_files_that_are_no_store(tmp_path: Path) -> None:
    refused(tmp_path / "none.arrow", "no such file", "distreid pack")
    (tmp_path / "empty.arrow").touch()
    refused(tmp_path / "empty.arrow", "pack it again")
    (tmp_path / "text.arrow").write_text("hello" * 100)
    refused(tmp_path / "text.arrow", "not a packed data set")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_file_cut_short(tmp_path: Path, kept: float) -> None:
    store = packed(small_market(tmp_path / "m"), tmp_path / "m.arrow")
    data = store.path.read_bytes()
    (tmp_path / "cut.arrow").write_bytes(data[: int(len(data) * kept)])
    refused(tmp_path / "cut.arrow", "cut short", "pack it again")


def _write_arrow(path: Path, schema: pa.Schema, metadata: dict[str, str] | None) -> Path:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_pylist([], schema=schema), metadata)
    return path


def test_arrow_files_of_others(tmp_path: Path) -> None:
    other = pa.schema([("x", pa.int32())])
    refused(_write_arrow(tmp_path / "other.arrow", other, None), "not one of distreid's")
    refused(_write_arrow(tmp_path / "bare.arrow", SCHEMA, None), "not one of distreid's")
    refused(_write_arrow(tmp_path / "newer.arrow", SCHEMA, {"summary": '{"unheard": 1}'}), "not one of distreid's")
    with pa.OSFile(str(tmp_path / "none.arrow"), "wb") as file, pa.ipc.new_file(file, SCHEMA):
        pass
    refused(tmp_path / "none.arrow", "not one of distreid's")


def test_an_image_that_went_bad_after_packing_is_named(tmp_path: Path) -> None:
    root = tmp_path / "root"
    image = noise(root / "only.png").read_bytes()
    store = packed(root, tmp_path / "out.arrow", format="folder")
    data = store.path.read_bytes()
    store.path.write_bytes(data.replace(image, b"x" * len(image)))
    with pytest.raises(UserError, match=r"out\.arrow: image only\.png is damaged"):
        ImageStore.open(store.path).read([0], 16, 8)


def test_an_unknown_interpolation(mixed: Path) -> None:
    with pytest.raises(UserError, match="'nearest'; choose one of bilinear, bicubic"):
        ImageStore.open(mixed, interpolation="nearest")


@pytest.mark.parametrize(
    ("interpolation", "golden"), [("bilinear", [[102, 129, 129], [108, 135, 132]]), ("bicubic", [[99, 130, 128], [106, 138, 133]])]
)
def test_resizing_stays_as_it_is(tmp_path: Path, interpolation: str, golden: list[list[int]]) -> None:
    """A library that chose another filter or other corners would change every result."""
    y, x = np.mgrid[:16, :12]
    (tmp_path / "root").mkdir()
    Image.fromarray(((37 * x * y + 11 * x + 5 * y) % 256).astype(np.uint8)).save(tmp_path / "root" / "one.png")
    pack(tmp_path / "root", tmp_path / "one.arrow", format="folder")
    small_3HW = ImageStore.open(tmp_path / "one.arrow", interpolation=interpolation).read([0], 2, 3)[0]
    assert np.abs(small_3HW.numpy().astype(int) - golden).max() <= 1  # kernels for different CPUs round differently
