"""Tests on features normalised by camera, against the dense form; what cannot be is one line."""

from pathlib import Path

import numpy as np
import pytest

from distreid.actions.evaluate import score
from distreid.common.errors import UserError
from distreid.evaluation import Features, compared_by_camera, measure
from distreid.labels import reference
from tests.commands import fails


def shifted(seed: int = 0) -> tuple[Features, Features]:
    """Query and gallery of 30 people, whose features each of three cameras shifts its own way; junk and distractors too."""
    random = np.random.default_rng(seed)
    pids, camids = np.repeat(np.arange(1, 31), 12), np.tile(np.arange(3), 120)
    features_ND = random.standard_normal((31, 24))[pids] + 3 * random.standard_normal((3, 24))[camids]
    features_ND += 0.6 * random.standard_normal((360, 24))
    pids[5], pids[7] = -1, 0
    queries = np.arange(360) % 12 == 3
    return tuple(Features(features_ND[side], pids[side], camids[side]) for side in (queries, ~queries))  # type: ignore[return-value]


def test_statistics_are_those_of_both_sides_together(tmp_path: Path) -> None:
    query, gallery = shifted()
    both_ND, camids_N = np.concatenate([query.features, gallery.features]), np.concatenate([query.camids, gallery.camids])
    expected_ND = reference.normalized_by_camera(both_ND, camids_N)
    np.testing.assert_allclose(compared_by_camera(both_ND, camids_N), expected_ND, atol=1e-5)
    parts = np.split(expected_ND, [len(query)])
    sides = [Features(part, side.pids, side.camids) for part, side in zip(parts, (query, gallery), strict=True)]
    files = []
    for name, side in (("q", query), ("g", gallery)):
        np.savez(tmp_path / f"{name}.npz", features=side.features, pids=side.pids, camids=side.camids)
        files.append(tmp_path / f"{name}.npz")
    found, plain = score(*files, camera_normalize=True), score(*files)
    assert found["camera_normalized"] and not plain["camera_normalized"]
    assert found["mAP"] == pytest.approx(measure(*sides).metrics["mAP"], abs=1e-9)
    assert found["mAP"] > plain["mAP"] + 0.2


def test_zero_vectors_stay_finite() -> None:
    _, gallery = shifted()
    features_ND = gallery.features.copy()
    features_ND[4] = 0
    assert np.isfinite(compared_by_camera(features_ND, gallery.camids)).all()


def test_cameras_that_will_not_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query, gallery = shifted()
    with pytest.raises(UserError, match="1 of 30 test images are of unknown cameras"):
        compared_by_camera(query.features, np.where(np.arange(30) == 2, -1, query.camids))
    with pytest.raises(UserError, match="of one camera"):
        compared_by_camera(query.features, np.zeros(30, int))
    np.savez(tmp_path / "q.npz", features=query.features, pids=query.pids)
    file = str(tmp_path / "q.npz")
    assert "60 of 60 test images" in fails(capsys, "score", file, file, "--no-cameras", "--camera-normalize")
    np.savez(tmp_path / "g.npz", features=gallery.features[:, :7], pids=gallery.pids, camids=gallery.camids)
    np.savez(tmp_path / "q.npz", features=query.features, pids=query.pids, camids=query.camids)
    line = fails(capsys, "score", file, str(tmp_path / "g.npz"), "--camera-normalize")
    assert "24" in line and "7" in line, "the dimensions"
