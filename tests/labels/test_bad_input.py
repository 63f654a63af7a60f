"""Input that cannot be labelled gives one clear line; input that only looks odd is labelled."""

import numpy as np
import pytest

from distreid.common.errors import UserError
from distreid.labels import PseudoLabels, load_features, make_pseudo_labels, save_labels
from tests.features import draw_features


def broken(change) -> np.ndarray:
    features_ND = draw_features("clustered", 100, 8, 0)
    return change(features_ND)


def put(value, rows):
    def change(features_ND):
        features_ND[rows] = value
        return features_ND

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(np.nan, 7), "1 of 100 features hold NaN or inf.*row 7"),
        (put(np.inf, [3, 9]), "2 of 100 features hold NaN or inf.*row 3"),
        (put(0, slice(5, 15)), "10 of 100 features are zero vectors.*row 5"),
        (put(1.5, slice(None)), "all 100 features are identical"),
        (lambda f: f[:30], "30 features are too few for k1 = 30"),
        (lambda f: f[:1], "1 features are too few"),
        (lambda f: f[0], "must be an array"),
        (lambda f: f[:, :0], "must be an array"),
        (lambda f: f.astype(np.int64), "must be float16, float32 or float64, not int64"),
        (lambda f: f.astype(np.float64) * 1e200, "too large to square"),
    ],
)
def test_features(change, message) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make_pseudo_labels(broken(change), p=0.01)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k1": 0}, "k1=0 must be greater than 0"),
        ({"k1": 10, "k2": 11}, "k2=11 must not be above k1=10"),
        ({"k2": 0}, "k2=0 must"),
        ({"min_samples": 0}, "min_samples=0 must"),
        ({"p": 0.0}, "p=0.0 must be greater than 0"),
        ({"p": 1.5}, "p=1.5 must not be above 1"),
        ({"p": float("nan")}, "p=nan must be a finite number"),
        ({"p": 1e-5}, "asks for none of the 4,950 pairs.*p ≥ 2.0e-04"),
        ({"p": 0.9, "k1": 5, "k2": 2}, "p asks for the 4,455 nearest pairs but only"),
        ({"eps": 1.0}, "eps=1.0 must be below 1"),
        ({"eps": float("nan")}, "eps=nan must"),
        ({"device": "tpu"}, "device = tpu"),
        ({"k1": 2.5}, "k1=2.5 must be a whole number"),
        ({"neighbours": "hsnw"}, "neighbours='hsnw' must be one of exact, ivf, hnsw .did you mean 'hnsw'"),
        ({"min_sample": 3}, r"unknown key 'min_sample' \(did you mean 'min_samples'\?\)"),
        ({"camera_aware": True}, "camera_aware=true needs the features' cameras"),
        ({"camera_normalize": True}, "camera_normalize=true needs the features' cameras"),
        ({"previous_labels": np.zeros(3, np.int64)}, "3 previous labels for 100 features"),
    ],
)
def test_settings(settings, message) -> None:
    with pytest.raises(UserError, match=message):
        make_pseudo_labels(draw_features("clustered", 100, 8, 0), **settings)


def test_half_copies_are_one_cluster() -> None:
    features_ND = draw_features("random", 200, 16, 0)
    features_ND[::2] = features_ND[0]
    labels_N = make_pseudo_labels(features_ND).labels
    assert (labels_N[::2] == 0).all() and (labels_N[1::2] != 0).all()


def test_features_from_files(tmp_path) -> None:
    features_ND = draw_features("random", 20, 4, 0)
    np.save(tmp_path / "a.npy", features_ND)
    np.savez(tmp_path / "a.npz", features=features_ND.astype(np.float16))
    mapped = load_features(tmp_path / "a.npy")
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, features_ND)
    np.testing.assert_array_equal(load_features(str(tmp_path / "a.npz")), features_ND.astype(np.float16))


def damaged_files(folder):
    good = folder / "good.npy"
    np.save(good, np.ones((50, 8), np.float32))
    np.savez(folder / "good.npz", features=np.ones((50, 8), np.float32))
    (folder / "empty.npy").touch()
    (folder / "empty.npz").touch()
    (folder / "short.npy").write_bytes(good.read_bytes()[:300])
    (folder / "header.npy").write_bytes(good.read_bytes()[:20])
    (folder / "short.npz").write_bytes((folder / "good.npz").read_bytes()[:200])
    (folder / "text.npy").write_text("1 2 3\n")
    (folder / "features.csv").write_text("1,2\n")
    np.save(folder / "objects.npy", np.array([{}], dtype=object))
    np.savez(folder / "unnamed.npz", x=np.ones(3))
    np.save(folder / "flat.npy", np.ones(9, np.float32))
    np.save(folder / "whole.npy", np.ones((9, 2), np.int32))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.npy", "no such file"),
        ("empty.npy", "empty"),
        ("empty.npz", "empty"),
        ("short.npy", "truncated or damaged"),
        ("header.npy", "truncated or damaged"),
        ("short.npz", "truncated or damaged"),
        ("text.npy", "truncated or damaged"),
        ("features.csv", ".npy or .npz"),
        ("objects.npy", "pickle"),
        ("unnamed.npz", "no array named 'features'.*found: x"),
        ("flat.npy", "must be \\[N, D\\]"),
        ("whole.npy", "not int32"),
    ],
)
def test_files(tmp_path, name, message) -> None:
    damaged_files(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        load_features(tmp_path / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_labels_are_written_whole(tmp_path) -> None:
    result = PseudoLabels(np.array([0, -1, 0]), np.ones((1, 2), np.float32), 0.5)
    save_labels(tmp_path / "labels.npz", result)
    with np.load(tmp_path / "labels.npz", allow_pickle=False) as written:
        assert sorted(written) == ["centers", "eps", "labels"]
        assert written["labels"].dtype == np.int64 and written["centers"].dtype == np.float32 and float(written["eps"]) == 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["labels.npz"]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        save_labels(tmp_path / "file" / "labels.npz", result)
