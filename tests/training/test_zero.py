"""DeepSpeed against DDP, in real processes and with gradients that clipping would change."""

import sys
from functools import partial
from typing import Any

import pytest
import torch

from distreid.common.errors import UserError
from distreid.training import zero
from distreid.training.zero_config import zero_config
from tests.processes import on_ranks
from tests.training.training import assert_same, train

STEPS, EPOCH = 36, 12
STAGES = (0, 1, 2, 3)
WAYS: tuple[dict[str, Any], ...] = (
    {"optimizer": "sgd", "precision": "fp32", "clip": 0.0, "accumulate": 1},
    {"optimizer": "sgd", "precision": "bf16", "clip": 1.0, "accumulate": 2},
    {"optimizer": "adamw", "precision": "fp32", "clip": 1.0, "accumulate": 1},
    {"optimizer": "adamw", "precision": "bf16", "clip": 0.0, "accumulate": 2},
)


def _run(way: dict[str, Any]) -> Any:
    return partial(train, epoch=EPOCH, scale=30.0, **way)


def _all(rank: int, world: int) -> list[dict[Any, Any]]:
    """For each way: DDP whole and with the clipping turned round; by stage, whole and continued after the first epoch from its own
    state and from DDP's, and by DDP from its state."""
    out = []
    for way in WAYS:
        run = _run(way)
        first = run(rank, world, EPOCH)
        results: dict[Any, Any] = {
            "ddp": run(rank, world, STEPS),
            "other": _run({**way, "clip": 1.0 - way["clip"]})(rank, world, STEPS),
        }
        for stage in STAGES:
            shared = run(rank, world, EPOCH, zero_stage=stage)
            rest = partial(run, rank, world, STEPS - EPOCH)
            results[stage] = {
                "whole": run(rank, world, STEPS, zero_stage=stage),
                "resumed": rest(zero_stage=stage, saved=shared),
                "from_ddp": rest(zero_stage=stage, saved=first),
                "to_ddp": rest(saved=shared),
            }
        out.append(results)
    return out


@pytest.fixture(scope="module")
def ranks() -> list[list[dict[Any, Any]]]:
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed (extra: deepspeed)")
    return on_ranks(2, _all)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("number", range(len(WAYS)), ids=lambda number: "-".join(map(str, WAYS[number].values())))
def test_deepspeed_trains_what_ddp_trains_and_continues_what_it_began(
    ranks: list[list[dict[Any, Any]]], number: int, stage: int
) -> None:
    for rank in ranks:
        ddp, shared = rank[number]["ddp"], rank[number][stage]
        tolerance = (
            1e-4 if WAYS[number]["precision"] == "fp32" else 2e-2
        )  # another order of sums can round a bfloat16 the other way
        for way in ("whole", "resumed", "from_ddp", "to_ddp"):
            assert_same(ddp, shared[way], tolerance)
        whole, resumed = shared["whole"]["model"], shared["resumed"]["model"]
        assert all(torch.equal(whole[name], resumed[name]) for name in whole), "a resumed run continues to the same bits"


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(WAYS)))
def test_the_gradients_are_such_that_clipping_shows(ranks: list[list[dict[Any, Any]]], number: int) -> None:
    one, other = (ranks[0][number][name] for name in ("ddp", "other"))
    clipped, free = (one, other) if WAYS[number]["clip"] else (other, one)
    assert free["norms"].min() > 1.5 and free["norms"].median() > 30
    torch.testing.assert_close(clipped["norms"], torch.ones(STEPS))
    with pytest.raises(AssertionError):
        assert_same(one, other, tolerance=5e-2)  # more than the strategies may differ by


class _Asked(dict[str, Any]):
    """A configuration whose copy, which is what DeepSpeed reads, notes the keys that it is asked for."""

    def __init__(self, tree: dict[str, Any], asked: set[str] | None = None) -> None:
        super().__init__(tree)
        self.asked: set[str] = set() if asked is None else asked

    def __copy__(self) -> "_Asked":
        self.asked.clear()  # of the keys that DeepSpeed has dropped, which it looks for before
        return _Asked(self, self.asked)

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)

    def keys(self) -> Any:
        return self


# Whole parts of DeepSpeed that stay off as long as they are not named, and other names of keys that are.
OFF = {
    "activation_checkpointing", "aio", "autotuning", "checkpoint", "comet", "comms_logger", "compile", "csv_monitor",
    "data_efficiency", "datastates_ckpt", "expert_parallel", "flops_profiler", "hybrid_engine", "optimizer", "pipeline",
    "scheduler", "tensor_parallel", "tensorboard", "use_data_before_expert_parallelism", "wandb", "weight_quantization",
    "train_batch_size", "bfloat16", "vocabulary_size",
}  # fmt: skip
ZERO_OFF = {
    "offload_param", "offload_optimizer", "zenflow", "leaf_module", "cpu_offload", "cpu_offload_param",
    "cpu_offload_use_pin_memory", "stage3_gather_fp16_weights_on_model_save",
}  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_every_setting_of_deepspeed_is_ours(stage: int) -> None:
    """It asks for no key that we leave to its default, knows each that we give, and makes of each what we mean."""
    deepspeed = pytest.importorskip("deepspeed", reason="DeepSpeed is not installed (extra: deepspeed)")
    ours = _Asked(zero_config(stage, accumulate=2, clip=0.0))
    theirs = deepspeed.DeepSpeedConfig(ours)
    assert ours.asked - OFF == set(ours)
    blocks = {
        "zero_optimization": theirs.zero_config, "fp16": theirs.float16_config, "bf16": theirs.bfloat16_config,
    }  # fmt: skip
    for name, block in blocks.items():
        resolved = block.model_dump(by_alias=True)
        assert {key: value for key, value in resolved.items() if key not in ZERO_OFF} == dict.get(ours, name)
    assert theirs.timers_config.model_dump() == dict.get(ours, "timers")["throughput"]
    dtypes = {"communication_data_type": torch.float32, "seq_parallel_communication_data_type": torch.float32}
    for key, value in dict.items(ours):
        if not isinstance(value, dict):
            assert getattr(theirs, key) == dtypes.get(key, value), key
    assert {key: getattr(theirs, key) for key in dict.get(ours, "data_types")} == dict.get(ours, "data_types")
    assert theirs.torch_autocast_enabled is False


def test_clipping_is_deepspeeds_own_key() -> None:
    assert zero_config(1, accumulate=1, clip=0.5)["gradient_clipping"] == 0.5
    assert zero_config(1, accumulate=1, clip=0.0)["gradient_clipping"] == 0.0


def test_without_deepspeed_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(UserError, match=r"pip install 'distreid\[deepspeed\]'"):
        train(0, 1, zero_stage=1)


def test_a_deepspeed_of_other_defaults_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed (extra: deepspeed)")
    monkeypatch.setattr(zero, "TESTED", ">=0.1,<0.2")
    with pytest.raises(UserError, match=r"DeepSpeed [\d.]+, whose defaults .*: pip install 'deepspeed>=0\.1,<0\.2'"):
        train(0, 1, zero_stage=1)
