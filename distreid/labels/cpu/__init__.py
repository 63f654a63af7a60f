"""The engine of CPUs: compiled loops (numba) on a few threads."""
