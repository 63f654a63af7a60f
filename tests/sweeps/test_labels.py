"""`distreid sweep … --labels-only` as a user calls it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from distreid.cli import main
from distreid.labels import make_pseudo_labels
from tests.commands import fails
from tests.data.layouts import cuhk03_mat, prid
from tests.features import draw_features
from tests.training_runs import small_settings


def test_features_with_identities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features_ND = draw_features("clustered", 240, 12, 1)
    np.savez(tmp_path / "f.npz", features=features_ND, pids=np.arange(240) % 20)
    arguments = ["--labels-only", "--p", "0.03", "0.01", "0.9", "--min-samples", "3", "5", "--k1", "10", "--k2", "3"]
    main(["sweep", str(tmp_path / "f.npz"), *arguments])
    out = capsys.readouterr().out
    assert "6 cells" in out and "chosen without labels: p=" in out and "oracle (true identities, for judging only)" in out
    folder = tmp_path / "f-labels-sweep"
    rows = pq.read_table(folder / "grid.parquet").to_pylist()
    assert [(row["p"], row["min_samples"]) for row in rows] == [(p, m) for p in (0.01, 0.03, 0.9) for m in (3, 5)]
    assert rows[0]["oracle_f"] is not None and "p asks for" in rows[-1]["reason"] and rows[-1]["eps"] is None
    page = (folder / "grid.html").read_text()
    assert page.count("<svg") == 4 and "p asks for" in page and "Oracle" in page


def test_a_configuration_and_the_run_it_makes(
    packed_pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(small_settings(packed_pair, tmp_path / "run")))
    main(["sweep", str(file), "pretrain.epochs=1", "--labels-only", "--p", "0.03", "--min-samples", "2", "3"])
    rows = pq.read_table(tmp_path / "run" / "labels-sweep" / "grid.parquet").to_pylist()
    assert len(rows) == 2 and 0 <= rows[0]["oracle_f"] <= 1
    main(
        [
            "sweep",
            str(tmp_path / "run"),
            "--labels-only",
            "--p",
            "0.03",
            "--min-samples",
            "2",
            "3",
            "--out",
            str(tmp_path / "again"),
        ]
    )
    assert pq.read_table(tmp_path / "again" / "grid.parquet").to_pylist() == rows, "the run's source model gives the same features"
    assert "night by run/round-00" in capsys.readouterr().out


@pytest.mark.parametrize("layout", ["cuhk03", "prid2011"])
def test_targets_with_random_splits(packed_pair: tuple[Path, Path], tmp_path: Path, layout: str) -> None:
    """0.1.0 selected without a split, which leaves nobody to train on."""
    if layout == "cuhk03":
        cuhk03_mat(tmp_path / "d" / "cuhk-03.mat", people=(30, 20), testsets=3, tested=16)
    else:
        prid(tmp_path / "d", shared=60, only_a=3, only_b=5)
    main(["pack", str(tmp_path / "d"), str(tmp_path / "d.arrow"), "--format", layout])
    settings = small_settings(packed_pair, tmp_path / "run") | {"target": {"data": str(tmp_path / "d.arrow"), "split": 1}}
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(settings))
    main(["sweep", str(file), "pretrain.epochs=0", "--labels-only", "--p", "0.05", "--min-samples", "2"])
    (row,) = pq.read_table(tmp_path / "run" / "labels-sweep" / "grid.parquet").to_pylist()
    assert 0 <= row["oracle_f"] <= 1


@pytest.mark.parametrize("key", ["camera_aware", "camera_normalize"])
def test_labels_by_camera_of_a_configuration(
    packed_pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    """What a round of training would label with: 0.1.0 made plain distances."""
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(small_settings(packed_pair, tmp_path / "run")))
    own = ["pretrain.epochs=0", f"labels.{key}=true", "labels.k1_intra=3", "labels.k1_inter=9"]
    main(["sweep", str(file), *own, "--labels-only", "--p", "0.03", "--min-samples", "3"])
    (row,) = pq.read_table(tmp_path / "run" / "labels-sweep" / "grid.parquet").to_pylist()
    main(["embed", str(tmp_path / "run"), "--data", str(packed_pair[1]), "--split", "train", "--out", str(tmp_path / "f.npz")])
    with np.load(tmp_path / "f.npz") as embedded:
        lists = {"k1": 8, "k2": 3, "k1_intra": 3, "k1_inter": 9, key: True}
        alone = make_pseudo_labels(embedded["features"], p=0.03, min_samples=3, camids=embedded["camids"], **lists)
        plain = make_pseudo_labels(embedded["features"], k1=8, k2=3, p=0.03, min_samples=3)
    assert (row["eps"], row["clusters"]) == (pytest.approx(alone.eps, abs=1e-9), alone.num_clusters) and alone.eps != plain.eps
    assert "makes no pseudo-labels" in fails(
        capsys, "sweep", str(file), "--labels-only", "method=edaan", "edaan.instances=2", "input.erase=0", "input.pad=0"
    )
