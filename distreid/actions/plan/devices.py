"""What devices compute: a table of GPUs from their makers' data sheets, and the usual proportions of one that was measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from distreid.common.errors import UserError
from distreid.common.machine import GPU, Compute, Machine, choose, look
from distreid.training.counting import Operation, Work

# Of a data sheet's figures, what convolutional networks reach. With both, a ResNet-50 step (224 x 224, batch 256, mixed precision)
# comes to 2,580 images a second on an A100 and 1,120 on a V100; NVIDIA measured 2,470 and 1,156 to 1,200 (DeepLearningExamples,
# ResNet-50 v1.5 for PyTorch, container 21.03).
COMPUTED, MOVED = 0.45, 0.75
# Seconds between kernels that the host starts one by one. In the same tables a forward pass of ResNet-50 takes 13 ms at any batch
# up to 16: 46 microseconds for each of 280 kernels. Today's hosts are taken to be twice as fast.
LAUNCH = 20e-6
HELD = 2**30  # bytes of a GPU that CUDA, cuDNN and NCCL hold for themselves
USED = 0.9  # share of the rest that a run may plan with: the allocator's blocks never fit exactly


@dataclass(frozen=True)
class Device:
    """What one device does, as a run would find it.

    Attributes:
        half, full: floating-point operations a second in bf16 (or fp16), and in float32 without TF32.
        bandwidth: bytes a second to and from its memory.
        memory: bytes of it; None where it is not known.
        link: bytes a second at which a node's devices exchange gradients.
        launch: least seconds of an operation. cpu: it is one, and its memory the host's.
    """

    name: str
    half: float
    full: float
    bandwidth: float
    memory: float | None
    link: float
    launch: float = LAUNCH
    cpu: bool = False

    def seconds(self, work: Work) -> float:
        """Each operation takes as long as its arithmetic, its bytes or its start, whichever is longest."""
        return sum(times * max(self._bounds(operation)) for operation, times in work.calls.items())

    def binds(self, work: Work) -> str:
        """What most of :meth:`seconds` goes to: "arithmetic", "memory" or "launches"."""
        totals = [0.0, 0.0, 0.0]
        for operation, times in work.calls.items():
            bounds = self._bounds(operation)
            totals[bounds.index(max(bounds))] += times * max(bounds)
        return ("arithmetic", "memory", "launches")[totals.index(max(totals))]

    def _bounds(self, operation: Operation) -> tuple[float, float, float]:
        return operation.flops / (self.half if operation.half else self.full), operation.moved / self.bandwidth, self.launch

    def scaled(self, factor: float, name: str) -> Device:
        """A device that does the same ``factor`` times as fast."""
        return replace(
            self, name=name, half=self.half * factor, full=self.full * factor, bandwidth=self.bandwidth * factor,
            launch=self.launch / factor,
        )  # fmt: skip

    @property
    def fits(self) -> float | None:
        """Bytes that a worker's tensors may take at once."""
        return None if self.memory is None else USED * (self.memory - HELD)


def _gpu(name: str, *, half: float, full: float, bandwidth: float, memory: float, link: float) -> Device:
    """From a data sheet: TFLOP/s of dense bf16 with float32 sums and of float32, TB/s, GB; GB/s between GPUs as they reach them."""
    return Device(name, COMPUTED * half * 1e12, COMPUTED * full * 1e12, MOVED * bandwidth * 1e12, memory * 1e9, link * 1e9)


# NVIDIA's data sheets of H100 SXM, H200 SXM, A100 80GB SXM and L4 (whose bf16 figure is halved: it is given with sparsity), and the
# white paper of the Ada architecture for the GeForce RTX 4090. Links: 0.8 of NVLink's one direction (450 and 300 GB/s), or PCIe 4.
GPUS = {
    "h100": _gpu("H100", half=989, full=67, bandwidth=3.35, memory=80, link=360),
    "h200": _gpu("H200", half=989, full=67, bandwidth=4.8, memory=141, link=360),
    "a100": _gpu("A100", half=312, full=19.5, bandwidth=2.039, memory=80, link=240),
    "l4": _gpu("L4", half=121, full=30.3, bandwidth=0.3, memory=24, link=10),
    "4090": _gpu("RTX 4090", half=165.2, full=82.6, bandwidth=1.008, memory=24, link=10),
}
# A device of which one speed alone was measured has the proportions of these.
USUAL_GPU = replace(GPUS["h100"], memory=None, link=1e10)
USUAL_CPU = Device("CPU", half=4e11, full=1e11, bandwidth=1e10, memory=None, link=1e10, launch=1e-5, cpu=True)


def device_named(name: str) -> Device:
    """One of :data:`GPUS`.

    Raises:
        UserError: it is not.
    """
    try:
        return GPUS[name.lower()]
    except KeyError:
        raise UserError(f"--device {name} is unknown: choose one of {', '.join(GPUS)}, or here for this machine") from None


def measured_as(device: str) -> Device:
    """The proportions of a device that a bench calls "cpu" or "cuda"."""
    return USUAL_CPU if device == "cpu" else USUAL_GPU


def computes(name: str, precision: str, channels_last: bool | str) -> Compute:
    """Number format and layout that a run takes on a device of :func:`device_named`, here, or on this machine's CPU ("cpu")."""
    if name.lower() in ("here", "cpu"):
        kind = "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"
        return choose(look(), kind, precision=precision, channels_last=channels_last)
    machine = Machine("x86_64", 1, gpus=(GPU(name, "8.0", True),))
    return choose(machine, "cuda", precision=precision, channels_last=channels_last)
