"""`distreid sweep … --labels-only` as a user calls it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from distreid.cli import main
from tests.conftest import small_settings
from tests.labels.test_engine import draw_features


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
