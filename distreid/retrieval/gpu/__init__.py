"""The CUDA kernels of labels and re-ranking (kernels.cu), CuPy, which launches them, and the stages that both share."""

from distreid.retrieval.gpu.backend import Backend, CupyBackend

__all__ = ["Backend", "CupyBackend"]
