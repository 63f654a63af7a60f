"""docs/choosing.md: its configurations train, in small; its commands and keys are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from distreid.cli import COMMANDS
from distreid.common.settings import all_keys
from distreid.config import Config, config_from_dict
from tests.training_runs import run, small_settings

PAGE = (Path(__file__).parent.parent / "docs" / "choosing.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL)
# Of each example what makes a run of seconds; all else is as it stands.
SMALL = [
    "input.height=32", "input.width=16", "input.pad=2", "model.backbone=timm/test_resnet", "model.batchnorm_group=8",
    "pretrain.batch_size=16", "adapt.batch_size=16", "adapt.rounds=1", "adapt.epochs=1", "labels.k1=8", "labels.k2=3",
    "labels.p=0.03", "labels.min_samples=3", "runtime.workers=0", "runtime.gpu=no", "runtime.precision=fp32",
]  # fmt: skip


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 3


@pytest.mark.slow
@pytest.mark.parametrize("example", range(3))
def test_an_example_trains(packed_pair: tuple[Path, Path], tmp_path: Path, example: int) -> None:
    tree: dict[str, Any] = yaml.safe_load(EXAMPLES[example])
    config_from_dict(tree)  # as it stands
    source = packed_pair[0] if "source" in tree else ""
    start = ["model.weights=none", "pretrain.epochs=1"]
    if not source:  # ImageNet's weights would be downloaded: another run's model in their place
        before = config_from_dict(
            small_settings(packed_pair, tmp_path / "before"), ["method=contrast", "pretrain.epochs=1", "adapt.rounds=0"]
        )
        run(before)
        start = [f"pretrain.checkpoint={before.output}"]
    places = [f"output={tmp_path / 'run'}", f"source.data={source}", f"target.data={packed_pair[1]}"]
    result = run(config_from_dict(tree, [*SMALL, *start, *places]))
    assert result["method"] == tree["method"] and result["rounds"][0]["clusters"] >= 2


def test_keys_and_commands_are_there() -> None:
    groups = "model|labels|adapt|pretrain|input|source|runtime|evaluate|loss"
    keys = set(re.findall(rf"`((?:{groups})\.[a-z_.]+)(?:: [^`]+)?`", PAGE))
    assert len(keys) > 7 and keys <= set(all_keys(Config))
    commands = set(re.findall(r"`distreid (\w+)", PAGE))
    assert len(commands) > 2 and commands <= {name for names in COMMANDS.values() for name in names}


def test_every_link_leads_somewhere() -> None:
    for file, _, anchor in re.findall(r"\]\(([\w-]+\.md)(#([\w-]+))?\)", PAGE):
        text = (Path(__file__).parent.parent / "docs" / file).read_text(encoding="utf-8")
        anchors = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
        assert not anchor or anchor in anchors, f"{file}#{anchor}"
