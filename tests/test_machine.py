"""Decisions from the facts of machines that are not here, and the facts of the one that is."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from distreid.common.machine import GPU, Machine, bf16_in_hardware, bf16_speed, choose, common, look, usable
from distreid.training import Compute

ZEN2 = Machine("x86_64", 2, ("avx2",), onednn_bf16=False)
SKYLAKE = Machine("x86_64", 8, ("avx2", "avx512f"), onednn_bf16=True)  # oneDNN says yes: it emulates
ZEN5 = Machine("x86_64", 2, ("avx2", "avx512f", "avx512_bf16"), onednn_bf16=True)
SAPPHIRE = Machine("x86_64", 56, ("avx2", "avx512f", "avx512_bf16", "amx_bf16"), onednn_bf16=True)
GRAVITON3 = Machine("aarch64", 4, ("asimd", "bf16", "sve", "svebf16"), onednn_bf16=True, bf16_speed=2.6)
RASPBERRY = Machine("aarch64", 4, ("asimd",), onednn_bf16=None, bf16_speed=0.2)
T4 = Machine("x86_64", 8, ("avx2",), gpus=(GPU("Tesla T4", "7.5", False),))
H100 = Machine("x86_64", 16, ("avx2",), gpus=(GPU("NVIDIA H100", "9.0", True),))


@pytest.mark.parametrize(
    ("machine", "device", "precision", "channels_last", "reason"),
    [
        (ZEN2, "cpu", "fp32", True, "oneDNN has no bf16 here"),
        (SKYLAKE, "cpu", "fp32", True, "this CPU has neither AVX512-BF16 nor AMX"),
        (ZEN5, "cpu", "bf16", True, "AVX512-BF16"),
        (SAPPHIRE, "cpu", "bf16", True, "AVX512-BF16 and AMX"),
        (Machine("x86_64", 2, ZEN5.instructions, limit="AVX2", onednn_bf16=False), "cpu", "fp32", True, "ONEDNN_MAX_CPU_ISA=AVX2"),
        (Machine("x86_64", 2, ZEN5.instructions, limit="AVX512_CORE", onednn_bf16=True), "cpu", "fp32", True, "neither"),
        (Machine("x86_64", 2, SAPPHIRE.instructions, limit="AVX512_CORE_BF16"), "cpu", "bf16", True, "AVX512-BF16"),
        (Machine("x86_64", 2, ZEN5.instructions, onednn=False), "cpu", "fp32", False, "without oneDNN"),
        (GRAVITON3, "cpu", "bf16", True, "measured at 2.6 times the speed of fp32"),
        (RASPBERRY, "cpu", "fp32", True, "measured at 0.2 times the speed of fp32"),
        (T4, "cuda", "fp32", False, "Tesla T4, compute capability 7.5, has no bf16"),
        (T4, "cpu", "fp32", True, "neither"),
        (H100, "cuda", "bf16", True, "NVIDIA H100"),
    ],
)
def test_auto_takes_what_is_in_hardware(machine: Machine, device: str, precision: str, channels_last: bool, reason: str) -> None:
    chosen = choose(machine, device)
    assert (chosen.precision, chosen.channels_last) == (precision, channels_last)
    assert reason in chosen.reason


def test_what_is_set_stays() -> None:
    assert choose(ZEN2, "cpu", precision="bf16", channels_last=False) == Compute("bf16", False, 1, "as set")
    assert choose(H100, "cuda", precision="fp32").channels_last is False
    assert choose(T4, "cuda", precision="fp16").channels_last is True


def test_a_mixed_cluster_takes_what_all_can() -> None:
    fast, slow = (choose(machine, "cpu", threads=machine.cores) for machine in (SAPPHIRE, ZEN2))
    assert common([fast, fast]) == fast
    assert str(common([fast, slow, fast])) == (
        "precision fp32 (oneDNN has no bf16 here; 2 of 3 workers have bf16), channels_last, 2 threads"
    )
    assert common([choose(H100, "cuda"), choose(T4, "cuda")]).channels_last is False


def test_a_trained_network_is_used_in_fp32_where_its_format_is_emulated() -> None:
    assert [usable("bf16", machine, "cpu") for machine in (ZEN2, ZEN5)] == ["fp32", "bf16"]
    assert [usable("fp16", T4, device) for device in ("cuda", "cpu")] == ["fp16", "fp32"]
    assert usable("fp32", ZEN5, "cpu") == "fp32"


def test_this_machines_facts() -> None:
    machine = look()
    assert 1 <= machine.cores <= (os.cpu_count() or 1)
    assert machine.architecture and isinstance(json.loads(json.dumps(machine.to_json()))["instructions"], list)
    assert machine.bf16_speed is None or machine.bf16_speed > 0
    if hasattr(torch.cpu, "_is_avx512_bf16_supported"):  # torch's own word, from another library
        assert ("avx512_bf16" in machine.instructions) == torch.cpu._is_avx512_bf16_supported()


def test_a_measured_product_leaves_the_threads_as_they_were() -> None:
    before = torch.get_num_threads()
    assert 0 < bf16_speed(torch.device("cpu")) < 100
    assert torch.get_num_threads() == before


LIMITED = """
import torch
from distreid.common.machine import bf16_in_hardware, bf16_speed, look
print(bf16_in_hardware(look(), "cpu")[0], bf16_speed(torch.device("cpu")) < 1)
"""


@pytest.mark.slow
@pytest.mark.skipif(not bf16_in_hardware(look(), "cpu")[0], reason="this CPU has no bf16 that could be taken away")
def test_onednns_limit_is_seen_and_emulation_is_measured_to_be_slower() -> None:
    limited = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    said = subprocess.run([sys.executable, "-c", LIMITED], env=limited, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "True"]
