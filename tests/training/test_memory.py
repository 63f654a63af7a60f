"""Memory that really runs out: torch's allocator is asked for more than there is."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from distreid.config import Config, config_from_dict, to_yaml
from distreid.data import ImageStore, select
from distreid.data.loader import View
from distreid.methods.networks import build_model
from distreid.models import ReIDNetwork
from distreid.training.features import extract
from distreid.training.memory import PassSize, fitting, ran_out, usual_batch
from tests.training_runs import small_settings

PIB = 1 << 50


class Hungry(ReIDNetwork):
    """Features of each image alone; more than ``most`` at once ask for a pebibyte."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.mean, self.std = (0.5,) * 3, (0.5,) * 3
        self.scale, self.most = nn.Parameter(torch.ones(1)), most
        self.sizes: list[int] = []

    @property
    def feature_channels(self) -> int:
        return 3

    def features(self, x_BCHW: Tensor) -> Tensor:
        if len(x_BCHW) > self.most:
            torch.empty(PIB, dtype=torch.uint8)
        self.sizes.append(len(x_BCHW))
        return x_BCHW.mean((2, 3)) * self.scale


def features(pair: tuple[Path, Path], model: Hungry) -> np.ndarray:
    store = ImageStore.open(str(pair[0]))
    return extract(model, View(store, select(store).train.rows), slice(0, 45), height=32, width=16, batch=20)


def test_images_pass_in_smaller_parts_where_memory_does_not_hold_them(
    packed_pair: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    plenty, little = Hungry(100), Hungry(6)
    with caplog.at_level(logging.WARNING):
        expected = features(packed_pair, plenty)
        assert not caplog.records and plenty.sizes == [20, 20, 5]
        np.testing.assert_array_equal(features(packed_pair, little), expected)
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory with 20 images in a pass, went on with 5: evaluate.batch_size=5"
    ]
    # Memory that was too small once is not asked for again.
    assert little.sizes == [5] * 9


def test_what_was_found_once_is_kept_and_not_said_again(packed_pair: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    """A run takes features many times."""
    store, model, size = ImageStore.open(str(packed_pair[0])), Hungry(6), PassSize(20)
    for _ in range(2):
        extract(model, View(store, select(store).train.rows), slice(0, 45), height=32, width=16, batch=size)
    assert len(caplog.records) == 1 and model.sizes == [5] * 18


def test_on_cpus_auto_is_what_is_fast_there(packed_pair: tuple[Path, Path]) -> None:
    store, model = ImageStore.open(str(packed_pair[0])), Hungry(100)
    extract(model, View(store, select(store).train.rows), slice(0, 45), height=32, width=16)
    assert model.sizes == [32, 13] and usual_batch(7, "cpu") == 7 and usual_batch("auto", "cuda") > 32


def test_a_gpus_free_memory_is_filled_by_half_in_powers_of_two() -> None:
    gib = 2.0**30
    assert fitting(64 * gib, gib / 16) == 512 and fitting(63 * gib, gib / 16) == 256
    assert fitting(1e15, 1.0) == 1024 and fitting(0.0, gib) == 16 and fitting(gib, 0.0) == 1024


@pytest.mark.parametrize("sizes", [(1, 32), (7, 45)])
def test_features_do_not_depend_on_the_images_beside(packed_pair: tuple[Path, Path], sizes: tuple[int, int]) -> None:
    """To float noise: kernels sum in other orders for other sizes."""
    store, config = ImageStore.open(str(packed_pair[0])), config_from_dict(small_settings(packed_pair, Path("-")))
    torch.manual_seed(0)
    model, images = build_model(config, 12), View(store, select(store).train.rows)
    first, second = (extract(model, images, slice(0, 45), height=32, width=16, batch=size) for size in sizes)
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5 * np.abs(first).max())


def test_one_image_that_does_not_fit_is_an_error(packed_pair: tuple[Path, Path]) -> None:
    with pytest.raises(RuntimeError, match="can't allocate memory") as caught:
        features(packed_pair, Hungry(0))
    assert ran_out(caught.value) and not ran_out(RuntimeError("shapes do not fit"))


PROGRAM = """
import resource, sys
from pathlib import Path
import torch
from distreid.common.errors import UserError
from distreid.config import load_config
from distreid.training.loop import Trainer
from tests.training_runs import run

torch.set_num_threads(1)
step = Trainer.train_step

def bounded(*arguments):  # all is loaded by now: little more than there is, from the first step on
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20), resource.getrlimit(resource.RLIMIT_AS)[1]))
    return step(*arguments)

Trainer.train_step = bounded
try:
    run(load_config(Path(sys.argv[1])))
except UserError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and RLIMIT_AS")
def test_a_step_that_does_not_fit_says_what_to_do(small_config: Callable[..., Config], tmp_path: Path) -> None:
    config = small_config("input.height=256", "input.width=128", "pretrain.batch_size=64", "runtime.accumulate=2")
    (tmp_path / "big.yaml").write_text(to_yaml(config))
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path / "big.yaml")], capture_output=True, text=True, timeout=300)
    assert "out of memory in a step of pre-training, 64 images of 256x128 on cpu: set runtime.accumulate=4" in done.stdout, (
        done.stderr
    )


FREED = """
import resource, sys
import torch
from distreid.training.memory import _resident, give_back, keep_freed

def cleared():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = cleared()
if keep_freed():
    cleared()
    kept, held = cleared(), _resident("VmRSS")
    give_back()
    print(usual, kept, held - _resident("VmRSS"))
"""


def test_freed_memory_serves_the_next_tensors_until_it_is_given_back() -> None:
    """Pages that the system clears while ten tensors of 64 MiB come and go."""
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    if not done.stdout:
        pytest.skip("this process's libc is not glibc")
    usual, kept, returned = map(int, done.stdout.split())
    if usual < 10_000:
        pytest.skip("pages of this machine are huge ones")
    assert kept < usual / 100
    assert returned > 60 * 2**20
