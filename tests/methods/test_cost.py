"""What is counted without running is what a real run computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from distreid.config import Config, config_from_dict
from distreid.methods.cost import cost_of
from distreid.training.domains import open_domain
from tests.training_runs import Silent, edaan_settings, metrics, run


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet101"])
def test_the_published_multiply_adds(name: str) -> None:
    tree = {"output": "o", "source": {"data": "s"}, "target": {"data": "t"}, "input": {"height": 224, "width": 224}}
    config = config_from_dict(tree | {"model": {"backbone": name, "attention": "none", "domain_branch": False}})
    published = models.get_model_weights(name).DEFAULT.meta["_ops"]  # 1e9, with the classifier of 1000 classes
    assert cost_of(config).forward == pytest.approx(2e9 * published, rel=0.01)


def flops_of_run(config: Config) -> int:
    with FlopCounterMode(display=False) as counter:
        run(config, Silent())
    return counter.get_total_flops()


def test_a_run_of_daam(small_config: Callable[..., Config]) -> None:
    """The work of rounds 0 and 1, less that of round 0 alone: features, training, features of the test set."""
    own = ["pretrain.epochs=0", "adapt.epochs=1", "input.height=64"]
    whole = small_config("adapt.rounds=1", *own)
    cost, target = cost_of(whole), open_domain(whole.target, labelled=False)
    assert target.test is not None
    found = flops_of_run(whole) - flops_of_run(small_config("adapt.rounds=0", *own, output=Path(whole.output + "0")))
    (epoch,) = [line for line in metrics(whole) if line["event"] == "epoch"]
    steps = round(epoch["images_per_second"] * epoch["seconds"]) // whole.adapt.batch_size
    expected = (len(target.train) + len(target.test.images)) * cost.forward + steps * cost.stages[0].flops
    assert steps >= 3 and found == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("variant", ["edaan", "daan", "direct"])
def test_a_run_of_edaan(packed_pair: tuple[Path, Path], tmp_path: Path, variant: str) -> None:
    tree = edaan_settings(packed_pair, tmp_path / "run")
    tree["input"] |= {"height": 64, "width": 32}
    changes = [f"edaan.variant={variant}", "edaan.pictures_every=0", "edaan.attention_epochs=9"]
    whole = config_from_dict(tree, changes)
    source, target = open_domain(whole.source, labelled=True), open_domain(whole.target, labelled=False)
    cost = cost_of(whole, source.identities)
    assert source.test is not None and target.test is not None
    expected = (len(source.test.images) + len(target.test.images)) * cost.forward
    expected += sum(stage.steps(len(source.train)) * stage.flops for stage in cost.stages)
    assert flops_of_run(whole) == pytest.approx(expected, rel=0.01)
