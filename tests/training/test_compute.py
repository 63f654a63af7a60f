"""How a run computes: one decision, the same in all processes, printed, recorded and kept."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distreid.common.errors import UserError
from distreid.common.machine import bf16_in_hardware, look
from distreid.config import Config, config_from_dict, to_dict, to_yaml
from distreid.training import ProcessGroup, RunDirectory, load_tensors
from distreid.training.compute import settle
from tests.processes import on_ranks
from tests.training_runs import Silent, run

Make = Callable[..., Config]
AUTO = ("runtime.precision=auto", "runtime.channels_last=auto")


def settled(rank: int, world: int, settings: dict[str, Any], limits: list[str]) -> tuple[str, bool, list[str]]:
    """Precision, layout and notes of a process whose oneDNN is limited to an instruction set."""
    os.environ["ONEDNN_MAX_CPU_ISA"] = limits[rank]  # read at oneDNN's first use
    reporter, config = Silent(), config_from_dict(settings)
    how = settle(config, ProcessGroup(rank, world), RunDirectory(config.output), reporter).runtime
    return how.precision, how.channels_last is True, reporter.notes


def begin(config: Config, *, resume: bool = False) -> RunDirectory:
    directory = RunDirectory(config.output)
    directory.create(to_yaml(config), resume=resume)
    return directory


def begun(config: Config, compute: dict[str, Any] | None = None) -> RunDirectory:
    """A run that has a checkpoint, and ended; without one it would start over."""
    directory = begin(config)
    if compute is not None:
        directory.keep_compute(compute)
    directory.save({"format": 1, "config": to_dict(config)})
    directory.close()
    return directory


def recorded(config: Config) -> dict[str, Any]:
    return json.loads((Path(config.output) / "environment.json").read_text())["compute"]


@pytest.mark.slow
def test_a_mixed_cluster_takes_what_all_can_and_the_leader_says_it_once(small_config: Make) -> None:
    config = small_config(*AUTO)
    begin(config)
    (precision, layout, notes), other = on_ranks(2, settled, to_dict(config), ["", "AVX2"])
    assert (precision, layout) == other[:2] == ("fp32", True)
    assert other[2] == [] and len(notes) == 1
    # A machine that has no bf16 of its own needs no limit, and names none.
    limit = " (ONEDNN_MAX_CPU_ISA=AVX2)" if bf16_in_hardware(look(), "cpu")[0] else ""
    assert notes[0].startswith(f"precision fp32 (oneDNN has no bf16 here{limit}")
    assert notes[0].endswith(", channels_last, 1 thread")
    assert recorded(config)["precision"] == "fp32"


@pytest.mark.slow
def test_forced_and_emulated_bf16_is_one_warning_with_its_measured_factor(small_config: Make) -> None:
    config = small_config("runtime.precision=bf16", "runtime.channels_last=auto")
    begin(config)
    (precision, _, notes), other = on_ranks(2, settled, to_dict(config), ["AVX2", "AVX2"])
    assert precision == other[0] == "bf16" and other[2] == []
    assert notes[0].startswith("precision bf16 (as set)")
    assert len(notes) == 2 and "this CPU emulates bf16" in notes[1] and "runtime.precision=auto takes fp32" in notes[1]
    factor = float(notes[1].partition("takes ")[2].partition(" times")[0])
    assert factor > 1.5 or "avx512_bf16" not in look().instructions  # slower than ours, if ours has it


@pytest.mark.slow
def test_a_run_goes_on_as_it_began_on_another_machine(small_config: Make) -> None:
    config = small_config(*AUTO)
    begun(config, {"precision": "bf16", "channels_last": False, "threads": 8, "reason": "AMX"})
    begin(config, resume=True)
    [(precision, layout, notes)] = on_ranks(1, settled, to_dict(config), ["AVX2"])
    assert (precision, layout) == ("bf16", False)
    assert notes[0] == "precision bf16 (as this run began), contiguous, 1 thread"
    assert len(notes) == 2 and "it is kept" in notes[1]
    assert recorded(config) == {"precision": "bf16", "channels_last": False, "threads": 8, "reason": "AMX"}


@pytest.mark.slow
def test_a_run_of_010_goes_on_with_what_its_file_fixed(small_config: Make) -> None:
    """It wrote its settings into config.yaml and its checkpoints, and nothing into environment.json."""
    old = small_config("runtime.precision=bf16", "runtime.channels_last=true")
    begun(old)
    for same in (old, small_config(*AUTO)):
        begin(same, resume=True)
        [(precision, layout, _)] = on_ranks(1, settled, to_dict(same), [""])
        assert (precision, layout) == ("bf16", True)


def test_what_was_decided_may_be_written_out_but_not_changed(small_config: Make) -> None:
    config = small_config(*AUTO)
    begun(config, {"precision": "bf16", "channels_last": True, "threads": 2, "reason": "AMX"})
    with pytest.raises(UserError, match=r"other settings \(runtime\.precision: bf16 -> fp32\)"):
        begin(small_config("runtime.precision=fp32", "runtime.channels_last=auto"), resume=True)
    begin(small_config("runtime.precision=bf16", "runtime.channels_last=true"), resume=True)


def test_a_runs_checkpoints_hold_what_it_computed_in(small_config: Make) -> None:
    config = small_config(*AUTO, "adapt.rounds=0", "pretrain.epochs=1", "runtime.cpus_per_worker=1")
    reporter, threads = Silent(), torch.get_num_threads()
    try:
        run(config, reporter)
    finally:
        torch.set_num_threads(threads)
    expected = "bf16" if bf16_in_hardware(look(), "cpu")[0] else "fp32"
    directory = RunDirectory(config.output)
    for file in (directory.last, directory.round_checkpoint(0)):
        how = load_tensors(file)["config"]["runtime"]
        assert how["precision"] == expected and how["channels_last"] is True
    assert recorded(config) == {"precision": expected, "channels_last": True, "threads": 1} | {"reason": recorded(config)["reason"]}
    assert [note for note in reporter.notes if note.startswith("precision")] == [
        f"precision {expected} ({recorded(config)['reason']}), channels_last, 1 thread"
    ]
    assert "precision: auto" in directory.config.read_text()
