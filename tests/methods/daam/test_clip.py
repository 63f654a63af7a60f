"""`optimizer.clip` reaches the optimiser: the settings of a run are those of its engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from distreid.config import Config
from distreid.training import RunDirectory, load_tensors
from tests.training_runs import run


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretrain", "adapt"])
def test_a_clipped_run_trains_other_weights(small_config: Callable[..., Config], stage: str, tmp_path: Path) -> None:
    weights = []
    for clip in (0.0, 1e-3):
        sgd = [f"{stage}.optimizer.{key}" for key in ("name=sgd", f"clip={clip}")]  # AdamW hardly sees a gradient's length
        config = small_config(*sgd, "pretrain.epochs=1", "adapt.rounds=1", "adapt.epochs=1", output=tmp_path / str(clip))
        run(config)
        weights.append(load_tensors(RunDirectory(config.output).last)["model"])
    assert not torch.equal(weights[0]["source_head.weight"], weights[1]["source_head.weight"])
