"""A run's steps made for real: each event of the run is timed, nothing is written, and the memory is that of a real run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from distreid.actions.plan.inputs import sized
from distreid.config import Config, config_from_dict, to_yaml
from distreid.methods.rehearsal import Pass, Stretch, rehearse
from distreid.methods.trial import try_out
from distreid.training.domains import open_pair
from tests.training_runs import edaan_settings

CPU = torch.device("cpu")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["daam", "edaan"])
def test_every_event_of_a_run_is_timed(
    small_config: Callable[..., Config], packed_pair: tuple[Path, Path], tmp_path: Path, method: str
) -> None:
    edaan = method == "edaan"
    config = config_from_dict(edaan_settings(packed_pair, tmp_path / "run")) if edaan else small_config("adapt.rounds=2")
    before, pair = sorted(tmp_path.iterdir()), open_pair(config)
    tried, found = try_out(config, *pair, CPU, budget=0.0), rehearse(config, *pair)
    timed = tried.given_to(found)
    assert [event is not None for event in tried.seconds] == [isinstance(event, Stretch | Pass) for event in found.events]
    assert all(event.seconds > 0 for event in timed.events if isinstance(event, Stretch | Pass))  # type: ignore[operator]
    assert [type(event) for event in timed.events] == [type(event) for event in found.events]
    assert timed.stretches[0].work == found.stretches[0].work and timed.channels == found.channels
    assert tried.pictured and sorted(tmp_path.iterdir()) == before
    assert not try_out(config, pair[0], sized("t", 40), CPU, budget=0.0).pictured


# Read by other means than what is tested, and from outside of the training loop.
RUN = """
import sys
from pathlib import Path
import torch
from distreid.config import load_config
from distreid.methods import local
from distreid.training import RunDirectory
from distreid.training.domains import open_pair
from tests.training_runs import Silent

def mebibytes(name):
    (line,) = [line for line in open("/proc/self/status") if line.startswith(name)]
    return int(line.split()[1]) / 1024

class Reader(Silent):
    def stage(self, title, total, done=0):
        super().stage(title, total, done)
        self.before = mebibytes("VmRSS")

config, reader = load_config(sys.argv[1]), Reader()
run = RunDirectory(Path(config.output))
run.create(Path(sys.argv[1]).read_text(), resume=False)
local.train(config, *open_pair(config), run, reader)
peak = mebibytes("VmHWM")
weights = sum(tensor.nbytes for tensor in torch.load(run.last, weights_only=True)["model"].values())
print(peak - reader.before + weights / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from Linux' /proc")
def test_memory_is_that_of_a_real_run(small_config: Callable[..., Config], tmp_path: Path) -> None:
    """Tensors, oneDNN's scratch memory and the gaps between them; the tensors alone are two thirds of it."""
    config = small_config(
        "model.backbone=resnet18", "adapt.rounds=0", "pretrain.epochs=1", "input.height=96", "input.width=48",
        "pretrain.batch_size=32", "adapt.batch_size=32", "evaluate.source=false", "evaluate.target=false",
        "runtime.cpus_per_worker=1", "runtime.channels_last=true",
    )  # fmt: skip
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(config), encoding="utf-8")
    command = [sys.executable, "-c", RUN, str(file)]
    real = float(subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout.splitlines()[-1])
    planned = subprocess.run(
        [sys.executable, "-m", "distreid", "plan", str(file), "--device", "here", "--json"],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    found = json.loads(planned.stdout)["memory"]["worker"] / 2**20
    (stretch,) = rehearse(config, *open_pair(config)).stretches
    assert found == pytest.approx(real, rel=0.2)
    assert stretch.memory.peak / 2**20 < 0.85 * found  # what a plan without a trial says is less
