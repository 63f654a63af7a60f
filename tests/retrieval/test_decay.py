"""The exponential of V: near the true value, and the same whatever the machine's mathematical library."""

import numpy as np
from numba import njit

from distreid.retrieval.decay import decay


@njit
def decays(x_N, out_N):
    for i in range(len(x_N)):
        out_N[i] = decay(x_N[i])


def test_within_two_units_in_the_last_place() -> None:
    x_N = np.concatenate([np.random.default_rng(0).uniform(0, 4, 100_000), np.linspace(0, 40, 10_001), [4.0000000000000009]])
    found_N = np.empty_like(x_N)
    decays(x_N, found_N)
    true_N = np.exp(-x_N.astype(np.longdouble))  # where long doubles are doubles, one unit more
    assert (np.abs(found_N - true_N) / np.spacing(found_N)).max() < 2
    assert decay(0.0) == 1.0


def test_compiled_and_interpreted_give_the_same_bits() -> None:
    for x in np.linspace(0, 4, 500):
        assert decay.py_func(float(x)) == decay(float(x))
