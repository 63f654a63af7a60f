"""Which engine a device gets, and what happens where CuPy, cuML or memory is lacking: one line, never a wrong label."""

import logging
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from distreid.common.errors import UserError
from distreid.labels import api, engines, make_pseudo_labels
from distreid.labels.api import LabelMemoryError
from distreid.labels.cpu.stages import CpuStages
from distreid.labels.settings import LabelSettings, label_settings
from distreid.labels.torch_engine import TorchStages
from distreid.retrieval.gpu.backend import rmm_peak
from distreid.retrieval.gpu.choice import find_backend, tried
from distreid.retrieval.gpu.launch import SOURCE, checked, real_of, signatures
from tests.features import draw_features
from tests.labels.gpu.mutants import MUTANTS
from tests.labels.gpu.shim import NumpyBackend, needs_compiler, shim_stages

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
FEATURES = draw_features("clustered", 80, 16, 0)
HOW: dict[str, Any] = {"k1": 8, "k2": 3, "p": 2e-2, "threads": 1}


@pytest.mark.slow
@needs_compiler
def test_a_backend_is_tried_before_it_is_taken() -> None:
    assert tried(NumpyBackend())
    old, new = MUTANTS["another order of the 32 sums"]
    assert not tried(NumpyBackend(source=SOURCE.read_text(encoding="utf-8").replace(old, new)))


@no_gpu
def test_without_a_working_cupy_torch_makes_the_labels(caplog) -> None:
    engines.cupy_backend.cache_clear()
    find_backend.cache_clear()
    with caplog.at_level(logging.WARNING, logger="distreid"):
        for _ in range(2):  # said once
            assert isinstance(engines.stages_of("cuda", 1, None), TorchStages)
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("labels on the GPU are made by torch, slower and the same: ") and "\n" not in line
    with pytest.raises(UserError, match=r"labels\.dbscan=cuml needs CuPy beside cuML"):
        engines.stages_of("cuda", 1, None, dbscan="cuml")


def test_cuml_needs_a_gpu() -> None:
    with pytest.raises(UserError, match=r"labels\.dbscan=cuml needs a GPU, and labels are made on the CPU: use auto"):
        make_pseudo_labels(FEATURES, dbscan="cuml", device="cpu", **HOW)
    with pytest.raises(UserError, match="dbscan=cuml needs a GPU: it does not go with device=cpu"):
        label_settings(device="cpu", dbscan="cuml")
    for kind in ("auto", "graph"):
        assert isinstance(engines.stages_of("cpu", 1, None, dbscan=kind), CpuStages)


def test_cuml_that_is_not_there() -> None:
    try:
        import cuml  # noqa: F401
    except Exception:
        assert engines.clustering_of("auto", 0).cuml is None
        with pytest.raises(UserError, match=r"labels\.dbscan=cuml: cuML cannot be imported"):
            engines.clustering_of("cuml", 0)
    assert engines.clustering_of("graph", 1.5).dense_bytes == 1_500_000_000


class Full:
    """numpy of a device on which nothing more than `room` bytes can be had at once."""

    def __init__(self, room: int) -> None:
        self.room = room

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def zeros(self, shape: Any, dtype: Any) -> np.ndarray:
        if np.prod(shape) * np.dtype(dtype).itemsize > self.room:
            raise MemoryError("out of memory")
        return np.zeros(shape, dtype)


@needs_compiler
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_too_little_memory(device, caplog, monkeypatch) -> None:
    """Where the settings name no device the CPU makes the labels; else it is one line."""
    ours, compiled = shim_stages(xp=Full(400)), CpuStages(1)
    monkeypatch.setattr(engines, "stages_of", lambda device, *_, **__: compiled if device == "cpu" else ours)
    for module in (api, engines):
        monkeypatch.setattr(module, "label_device", lambda device: "cuda" if device == "auto" else device)
    settings = LabelSettings(device=device)
    if device == "cuda":
        with pytest.raises(LabelMemoryError, match=r"too little memory for labels \(stage expansion\)"):
            make_pseudo_labels(FEATURES, settings, **HOW)
    else:
        with caplog.at_level(logging.WARNING, logger="distreid"):
            found = make_pseudo_labels(FEATURES, settings, **HOW)
        assert [record.getMessage() for record in caplog.records] == [
            "too little memory for labels (stage expansion): free some, or set labels.device to one that has more; "
            "this time the CPU makes them, slower and the same"
        ]
        np.testing.assert_array_equal(found.labels, make_pseudo_labels(FEATURES, stages=compiled, **HOW).labels)
    assert ours.backend.released >= 1 and ours._features is None


@needs_compiler
def test_the_peaks_of_all_pools_are_among_the_figures(monkeypatch) -> None:
    stats = make_pseudo_labels(FEATURES, stages=shim_stages(), **HOW).stats
    peaks = {name: stats[name] for name in stats if name.startswith("peak_") and name != "peak_process_bytes"}
    assert peaks == {"peak_cupy_bytes": 3, "peak_rmm_bytes": 0, "peak_torch_bytes": 4, "peak_device_bytes": 7}
    assert not [
        name for name in make_pseudo_labels(FEATURES, stages=CpuStages(1), **HOW).stats if "cupy" in name or "device" in name
    ]
    for counted, peak in ((None, 0), (SimpleNamespace(peak_bytes=5), 5)):  # as rmm.statistics answers: None before it counts
        monkeypatch.setitem(sys.modules, "rmm.statistics", SimpleNamespace(get_statistics=lambda answer=counted: answer))
        assert rmm_peak() == peak


@needs_compiler
def test_little_scratch_gives_the_same_labels() -> None:
    expected = make_pseudo_labels(FEATURES, stages=CpuStages(1), **HOW)
    found = make_pseudo_labels(FEATURES, stages=shim_stages(free=1), **HOW)
    assert found.labels.tobytes() == expected.labels.tobytes() and found.eps == expected.eps


def test_arguments_of_another_type_or_layout_do_not_reach_a_gpu() -> None:
    parameters = signatures(real_of(np.float16))["degrees"]
    ints, longs = np.zeros((4, 2), np.int32), np.zeros(4, np.int64)
    good = (4, ints[:2].ravel(), ints[:2].ravel(), longs, longs.astype(np.uint64))
    assert next(checked("degrees", parameters, good)).dtype == np.int64
    for at, bad in ((1, longs), (2, ints[:, 0]), (4, longs)):
        with pytest.raises(TypeError, match=f"degrees, argument {at}"):
            list(checked("degrees", parameters, (*good[:at], bad, *good[at + 1 :])))
    with pytest.raises(TypeError, match="4 arguments for 5 parameters"):
        list(checked("degrees", parameters, good[:4]))
