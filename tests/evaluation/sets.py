"""Small random query and gallery sets with everything that makes the protocol hard."""

import numpy as np

from distreid.evaluation import Features


def draw(
    seed: int, queries: int = 60, gallery: int = 400, dim: int = 12, identities: int = 15, integers: bool = True
) -> tuple[Features, Features]:
    """Junk (-1), distractors (0), unknown cameras (-1) and query pids that the gallery lacks.

    integers: coordinates from {-1, 0, 1}: scores are exact, most distances tie, some rows are zero or repeated.
    """
    rng = np.random.default_rng(seed)

    def side(n: int, lowest_pid: int, highest_pid: int) -> Features:
        pids = rng.integers(lowest_pid, highest_pid + 1, n)
        if integers:
            features = rng.integers(-1, 2, (n, dim)).astype(np.float32)
        else:
            features = rng.standard_normal((n, dim), dtype=np.float32)
        return Features(features, pids, rng.integers(-1, 4, n))

    return side(queries, 1, identities + 3), side(gallery, -1, identities)
