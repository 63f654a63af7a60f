"""What a camera does to all its features alike, taken out of them before they are compared."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

LEAST = 20  # decided: images of a camera from which its mean and deviation are taken; below it they would be its few people's
VARIES = 1e-7  # what deviates less is the rounding of equal float32 values of unit features
ROWS = 4096

Unit = Callable[[NDArray[np.int64]], NDArray[np.float64]]  # L2-normalised features of some rows


def normalized_by_camera(
    x_ND: NDArray[np.floating], inverse_norms_N: NDArray[np.float64], camids_N: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(f̂ − m_c) / σ_c, by dimension: mean and standard deviation of the L2-normalised features f̂ of the image's own camera c.

    Song, Park and Lee, ICLR 2025 (camera-specific feature normalisation, for tests and for pseudo-labels). *Decided*: a camera of
    fewer than 20 images, or of copies of one, takes the mean and the deviation of all; a dimension that does not vary stays 0.

    Args:
        x_ND, inverse_norms_N: finite features and 1/‖f‖; f̂ is their product.
        camids_N: int64 [N].

    Returns:
        float32 [N, D]; statistics are summed in float64, so that they are the same for any number of threads.
    """

    def unit(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return x_ND[rows].astype(np.float64) * inverse_norms_N[rows, None]

    out_ND, every_N = np.empty(x_ND.shape, np.float32), np.arange(len(camids_N))
    whole = None
    for camera in np.unique(camids_N):
        rows_n = np.flatnonzero(camids_N == camera)
        mean_D, deviation_D = _statistics(unit, rows_n) if len(rows_n) >= LEAST else (np.zeros(0), np.zeros(0))
        if not (deviation_D > VARIES).any():
            mean_D, deviation_D = whole = whole or _statistics(unit, every_N)
        scale_D = np.divide(1, deviation_D, out=np.zeros_like(deviation_D), where=deviation_D > VARIES)
        for rows in _blocks(rows_n):
            out_ND[rows] = (unit(rows) - mean_D) * scale_D
    return out_ND


def _statistics(unit: Unit, rows_n: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation [D] of some rows, float64."""
    mean_D = sum(unit(rows).sum(0) for rows in _blocks(rows_n)) / len(rows_n)
    squares_D = sum(((unit(rows) - mean_D) ** 2).sum(0) for rows in _blocks(rows_n))
    return mean_D, np.sqrt(squares_D / len(rows_n))


def _blocks(rows_n: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [rows_n[at : at + ROWS] for at in range(0, len(rows_n), ROWS)]
