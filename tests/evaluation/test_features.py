from pathlib import Path

import numpy as np
import pytest

from distreid.common.errors import UserError
from distreid.evaluation import Features, load_npz, load_protocol
from tests.evaluation.sets import draw

PIDS, CAMIDS = np.arange(4), np.ones(4, int)
GOOD = np.arange(8, dtype=np.float32).reshape(4, 2)


def write(path: Path, **arrays: object) -> Path:
    np.savez(path, **{"features": GOOD, "pids": PIDS, "camids": CAMIDS} | arrays)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    ("features", "pids", "camids", "message"),
    [
        (GOOD[0], PIDS, CAMIDS, r"not \[2\]"),
        (GOOD[:0], PIDS[:0], CAMIDS[:0], r"non-empty matrix .* not \[0, 2\]"),
        (GOOD.astype(int), PIDS, CAMIDS, "not int64"),
        (GOOD, PIDS[:3], CAMIDS, "pids has shape .*3.* but there are 4 features"),
        (GOOD, PIDS, CAMIDS[:, None], "camids has shape"),
        (GOOD, PIDS.astype(float), CAMIDS, "pids must be integers, not float64"),
        (GOOD, PIDS - 2, CAMIDS, "pids holds -2"),
        (np.where(GOOD == 5, np.nan, GOOD), PIDS, CAMIDS, "features row 2 holds NaN"),
        (np.where(GOOD == 5, 1e300, GOOD.astype(float)), PIDS, CAMIDS, "features row 2 holds NaN or infinity"),
        (np.ones((4, 2), np.float32), PIDS, CAMIDS, "collapsed: all 4 rows"),
        (np.ones((4, 2)) + np.arange(4)[:, None] * 1e-7, PIDS, CAMIDS, "collapsed"),
        (np.zeros((4, 2)), PIDS, CAMIDS, "collapsed"),
    ],
)
def test_bad_values(features: np.ndarray, pids: np.ndarray, camids: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Features(features, pids, camids)


def test_a_late_nan_is_found_and_named() -> None:
    features = np.random.default_rng(0).random((9000, 3), dtype=np.float32)
    features[8999, 1] = np.inf
    with pytest.raises(UserError, match="row 8999"):
        Features(features, np.zeros(9000, int), np.zeros(9000, int))


def test_one_image_is_not_a_collapse() -> None:
    assert len(Features(GOOD[:1], PIDS[:1], CAMIDS[:1])) == 1


def test_take() -> None:
    part = Features(GOOD, PIDS, CAMIDS).take(np.array([3, 1]))
    assert part.pids.tolist() == [3, 1]
    np.testing.assert_array_equal(part.features, GOOD[[3, 1]])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_reads_what_was_written(tmp_path: Path, dtype: type) -> None:
    query, _ = draw(0)
    path = write(
        tmp_path / "q.npz",
        features=query.features.astype(dtype),
        pids=query.pids.astype(np.int32),
        camids=query.camids.astype(np.int8),
    )
    back = load_npz(path)
    np.testing.assert_array_equal(back.features, query.features)
    assert back.features.dtype == np.float32
    np.testing.assert_array_equal(back.pids, query.pids)
    np.testing.assert_array_equal(back.camids, query.camids)
    assert (back.pids.dtype, back.camids.dtype) == (np.int64, np.int64)


def test_float32_stays_memory_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", GOOD)
    mapped = np.load(tmp_path / "f.npy", mmap_mode="r")
    assert np.shares_memory(Features(mapped, PIDS, CAMIDS).features, mapped)


def test_bad_files(tmp_path: Path) -> None:
    def message(path: Path) -> str:
        with pytest.raises(UserError) as caught:
            load_npz(path)
        text = str(caught.value)
        assert text.startswith(str(path))
        assert "\n" not in text
        return text

    assert "no such file" in message(tmp_path / "absent.npz")
    np.savez(tmp_path / "keys.npz", feats=GOOD, pids=PIDS)
    assert "lacks features, camids; it holds feats, pids" in message(tmp_path / "keys.npz")
    np.save(tmp_path / "one.npy", GOOD)
    assert "not an .npz" in message(tmp_path / "one.npy")
    whole = write(tmp_path / "whole.npz", features=np.random.default_rng(0).random((4, 5000))).read_bytes()
    for size in (0, 10, 5000, len(whole) - 30):
        (tmp_path / "cut.npz").write_bytes(whole[:size])
        assert "not an .npz" in message(tmp_path / "cut.npz")
    (tmp_path / "damaged.npz").write_bytes(whole[:9000] + b"!" * 100 + whole[9100:])
    assert "not a readable .npz" in message(tmp_path / "damaged.npz")
    assert "not a readable .npz" in message(write(tmp_path / "pickled.npz", pids=np.array([{}] * 4, object)))
    assert "pids has shape" in message(write(tmp_path / "short.npz", pids=PIDS[:2]))
    assert "collapsed" in message(write(tmp_path / "flat.npz", features=np.ones((4, 2))))


def test_a_file_may_carry_its_protocol(tmp_path: Path) -> None:
    assert load_protocol(write(tmp_path / "plain.npz")) == ("single_query", [])
    carried = write(tmp_path / "prid.npz", protocol=np.array("cross_camera"), test_pids=np.array([[1, 2], [2, 3]]))
    assert load_protocol(carried) == ("cross_camera", [[1, 2], [2, 3]])
    assert load_npz(carried).pids.tolist() == PIDS.tolist()
    with pytest.raises(UserError, match=r"bad\.npz: test_pids must be integers \[splits, identities\], not float64 \[2\]"):
        load_protocol(write(tmp_path / "bad.npz", test_pids=np.array([0.5, 1])))
    with pytest.raises(UserError, match="protocol must be one text"):
        load_protocol(write(tmp_path / "bad.npz", protocol=np.array([1, 2])))
