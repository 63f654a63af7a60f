"""The stages of a labelling in plain torch operations, for GPUs: every array stays on the device, memory grows with N·(k1 + D).

The same code runs with torch's CPU device, where the tests compare it with the compiled engine; that is its only use there, for
the compiled engine is many times faster. Sums run in a fixed order (sorted keys, segment sums): no floating-point atomics, so
a labelling repeats bit for bit.

Why not cuML's DBSCAN(metric="precomputed"): it wants the dense N×N matrix (64 GB of float32 at MSMT17's 126,441), while DBSCAN
looks at the pairs within eps only, under 1% of it, and these are already on the device as a sparse graph.
"""

from distreid.labels.torch_engine.stages import TorchStages

__all__ = ["TorchStages"]
