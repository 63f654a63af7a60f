"""What a camera does to all its images alike, taken out of the features that a test compares."""

import numpy as np
from numpy.typing import NDArray

from distreid.common.errors import UserError
from distreid.evaluation.features import UNKNOWN
from distreid.retrieval.cameras import normalized_by_camera


def compared_by_camera(features_ND: NDArray[np.float32], camids_N: NDArray[np.int64]) -> NDArray[np.float32]:
    """Features of a test's images, query and gallery together, less the mean of their camera's, over its deviation, float32 [N, D]
    (`normalized_by_camera`; Song, Park and Lee, ICLR 2025). Junk and distractors count like all images of their camera: no pid is
    looked at.

    Raises:
        UserError: an image's camera is unknown, or all are of one.
    """
    from distreid.evaluation.kernels import squared_norms  # numba

    unknown = int((camids_N == UNKNOWN).sum())
    if unknown:
        raise UserError(f"--camera-normalize: {unknown} of {len(camids_N)} test images are of unknown cameras; leave it out")
    if len(np.unique(camids_N)) < 2:
        raise UserError("--camera-normalize: all test images are of one camera; leave it out")
    norms_N = np.sqrt(squared_norms(features_ND))
    return normalized_by_camera(features_ND, np.divide(1, norms_N, out=np.zeros_like(norms_N), where=norms_N > 0), camids_N)
