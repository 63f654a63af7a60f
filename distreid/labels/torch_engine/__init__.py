"""The stages of a labelling in plain torch operations, for GPUs: every array stays on the device, memory grows with N·(k1 + D).

The same code runs with torch's CPU device, where the tests compare it with the compiled engine; that is its only use there, for
the compiled engine is many times faster. Sums run in a fixed order (sorted keys, segment sums): no floating-point atomics, so
a labelling repeats bit for bit.

For GPUs without a working CuPy; where there is one, `distreid.labels.gpu` is faster and takes the neighbour search from here.
"""

from distreid.labels.torch_engine.stages import TorchStages

__all__ = ["TorchStages"]
