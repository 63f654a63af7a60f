"""exp(−x) with the same bits on every machine: math libraries and GPUs differ in the last place of theirs.

V holds exp(−d²) (`distreid.retrieval.reciprocal`), and labels come of V: two machines that rank alike are to label alike too.
Single IEEE operations in a fixed order, as `decay` of kernels.cu in `distreid.retrieval.gpu`: exp(−x) = 2⁻ⁿ·exp(r) with
r = n·ln 2 − x, |r| ≤ ½ ln 2, exp(r) by its power series up to r¹³/13!. At most 2 units in the last place from the true value.
"""

import math

from numba import njit

# ln 2 in two parts: the first has 32 significant bits, so that n times it is exact.
LN2_HIGH = 0.693147180369123816490
LN2_LOW = 1.90821492927058770002e-10
INVERSE_LN2 = 1.4426950408889634
COEFFICIENTS = tuple(1 / math.factorial(n) for n in range(14))


@njit(cache=True, nogil=True)
def decay(x: float) -> float:
    """exp(−x) for 0 ≤ x ≤ 40 (d² is at most 4)."""
    n = int(x * INVERSE_LN2 + 0.5)
    r = (n * LN2_HIGH - x) + n * LN2_LOW
    total = COEFFICIENTS[13]
    for place in range(12, -1, -1):
        total = total * r + COEFFICIENTS[place]
    return total / (1 << n)
