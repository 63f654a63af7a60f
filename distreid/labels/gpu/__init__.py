"""The label engine for CUDA devices: kernels of our own (`distreid.retrieval.gpu`) by CuPy, products and top-k by torch, DBSCAN by
cuML or on the sparse graph. Every array has the bits of the compiled CPU engine, in whatever order threads run.

It was written without a GPU. The tests run the same kernels on a CPU (tests/labels/gpu): behind a shim that runs CUDA's threads in
chosen orders, with numpy in CuPy's place.
"""

from distreid.labels.gpu.clustering import Clustering
from distreid.labels.gpu.stages import KernelFeatures, KernelStages

__all__ = ["Clustering", "KernelFeatures", "KernelStages"]
