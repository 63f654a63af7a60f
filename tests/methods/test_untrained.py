"""Rounds without training (adapt.epochs: 0): labels and accuracies of the model as it is; ranking is shown as what it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distreid.config import config_from_dict
from distreid.training import RunDirectory, load_checkpoint
from tests.training_runs import Silent, run, small_settings


@pytest.mark.slow
@pytest.mark.parametrize("method", ["daam", "contrast"])
def test_a_round_of_no_epochs_labels_and_measures_the_source_model(
    method: str, packed_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    settings = small_settings(packed_pair, tmp_path / "run")
    settings["method"] = method
    settings["pretrain"]["epochs"] = 1
    settings["adapt"] |= {"rounds": 1, "epochs": 0}
    reporter = Silent()
    result = run(config_from_dict(settings), reporter)
    [line] = result["rounds"]
    assert line["clusters"] >= 2 and line["mAP"] == result["direct_transfer"]["mAP"] and "train" not in line["seconds"]
    directory = RunDirectory(tmp_path / "run")
    before, after = (load_checkpoint(directory.round_checkpoint(number))["model"] for number in (0, 1))
    encoders = [name for name in before if "head" not in name]
    assert encoders and all(torch.equal(before[name], after[name]) for name in encoders)
    ranked = [title for title in reporter.titles if title.startswith(("features of the", "ranking"))]
    test_sets = ["features of the source's test set", "features of the target's test set"]
    assert ranked[:5] == [*test_sets, "features of the target", "ranking the source's test set", "ranking the target's test set"]
    assert ranked[-2:] == ["features of the target's test set", "ranking the target's test set"]
