"""Which engine makes the labels: compiled code on a CPU; on a GPU the kernels by CuPy, or plain torch where CuPy cannot be had."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import torch

from distreid.common.errors import UserError
from distreid.common.text import first_line
from distreid.labels.settings import DbscanKind, LabelSettings
from distreid.retrieval.blocks import Progress

if TYPE_CHECKING:  # these bring numba
    from distreid.labels.gpu import Clustering
    from distreid.labels.stages import Stages
    from distreid.labels.torch_engine.tensors import Features
    from distreid.retrieval.gpu import CupyBackend
    from distreid.retrieval.prepare import Prepared

log = logging.getLogger(__name__)


def label_device(device: str) -> str:
    """Where labels are made: "auto" is the GPU where there is one. UserError when there is no such device on this machine."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device != "cpu" and not device.startswith("cuda"):
        raise UserError(f"device = {device}: use auto, cpu or cuda")
    if device != "cpu" and not torch.cuda.is_available():
        raise UserError(f"device = {device}: torch sees no CUDA device on this machine; use cpu")
    return device


def require_numba() -> None:
    """UserError when the compiled stages cannot be."""
    try:
        import numba  # noqa: F401
    except ImportError as error:
        raise UserError("pseudo-labels need the package numba: pip install 'numba>=0.60'") from error


@contextmanager
def engine_of(settings: LabelSettings, device: str | None, threads: int, progress: Progress | None = None) -> Iterator["Stages"]:
    """The engine of the device, by default the settings' one; what it keeps of a GPU's memory is given back at the end."""
    device = label_device(device or settings.device)
    stages = stages_of(device, threads, progress, dbscan=settings.dbscan, dense_gb=settings.dense_gb)
    try:
        yield stages
    finally:
        stages.release()


def stages_of(
    device: str, threads: int, progress: Progress | None, *, dbscan: DbscanKind = "auto", dense_gb: float = 0.0
) -> "Stages":
    """The engine of a device (as `label_device` returns it). dbscan, dense_gb: as in `LabelSettings`.

    A GPU without CuPy, or with one that does not work, gets the torch engine and a logged line. UserError for dbscan="cuml" where
    there is none.
    """
    require_numba()
    if device == "cpu":
        if dbscan == "cuml":
            raise UserError("labels.dbscan=cuml needs a GPU, and labels are made on the CPU: use auto")
        from distreid.labels.cpu.stages import CpuStages

        return CpuStages(threads, progress)
    backend = cupy_backend(torch.device(device))
    if backend is None:
        if dbscan == "cuml":
            raise UserError("labels.dbscan=cuml needs CuPy beside cuML: pip install 'distreid[gpu]', or use auto")
        from distreid.labels.torch_engine import TorchStages

        return TorchStages(torch.device(device), progress)
    from distreid.labels.gpu import KernelStages

    return KernelStages(backend, clustering_of(dbscan, dense_gb), progress)


@cache
def cupy_backend(device: torch.device) -> "CupyBackend | None":
    """CuPy's backend after a trial on the device; None, and once a process a line that says why, where it cannot be."""
    from distreid.retrieval.gpu.choice import find_backend

    backend, reason = find_backend(device)
    if backend is None:
        log.warning("labels on the GPU are made by torch, slower and the same: %s", reason)
    return backend


def features_on(device: torch.device, prepared: "Prepared") -> "Features":
    """The features on a GPU, as the neighbour search of its engine wants them (`distreid.labels.torch_engine.neighbours`)."""
    from distreid.labels.gpu import KernelFeatures
    from distreid.labels.torch_engine.tensors import Features

    backend = cupy_backend(device)
    return Features.of(prepared, device) if backend is None else KernelFeatures.by(backend, prepared)


def clustering_of(kind: DbscanKind, dense_gb: float) -> "Clustering":
    from distreid.labels.gpu import Clustering
    from distreid.retrieval.gpu.backend import count_rmm

    found = None
    if kind != "graph":
        try:
            from cuml.cluster import DBSCAN

            found = DBSCAN
            count_rmm()
        except Exception as error:  # cuML's import asks the driver
            reason = first_line(error)
            if kind == "cuml":
                raise UserError(f"labels.dbscan=cuml: cuML cannot be imported ({reason}); install it or use auto") from None
            log.info("no cuML (%s): clusters are found on the sparse graph, with the same labels", reason)
    return Clustering(kind, int(1e9 * dense_gb), found)
