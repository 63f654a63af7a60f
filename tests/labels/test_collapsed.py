"""Nearly collapsed features, of which all pairs share neighbours, end in one line and not in a lack of memory."""

import subprocess
import sys

import numpy as np
import pytest

from distreid.labels.stages import SAMPLED, sampled_cutoff
from distreid.retrieval import jaccard

# 60,000 points whose rows of V all hold the same column: 1.8 billion pairs, 56 million of them in the sample. The limit of pairs is
# lowered, so that it is met early; before, the sample alone took 0.7 GB.
PROGRAM = """
import resource, sys
import numpy as np, torch
from distreid.common.errors import UserError
from distreid.labels.api import stages_of
from distreid.labels.torch_engine import TorchStages, pairs
from distreid.labels.torch_engine.jaccard import Sparse
from distreid.labels.torch_engine.pairs import Weights as DeviceWeights
from distreid.labels.stages import nearest_pairs
from distreid.retrieval import jaccard
from distreid.retrieval.jaccard import Weights
from distreid.retrieval.reciprocal import Csr

torch.set_num_threads(1)
pairs.CHUNK = 1 << 18

def near(engine, count):
    offsets, own = np.arange(count + 1) * 2, np.arange(1, count + 1)
    columns = np.column_stack([np.zeros(count, np.int64), own]).ravel()
    values, sizes = np.full(2 * count, 0.5), np.ones(count, np.int64)
    if engine == "cpu":
        stages, rows = stages_of("cpu", 1, None), Csr(offsets, columns.astype(np.int32), values)
        return nearest_pairs(stages, Weights.of(rows, count + 1, sizes), sizes, count)
    rows = Sparse(*map(torch.from_numpy, (offsets, columns, values)))
    return nearest_pairs(TorchStages(torch.device("cpu")), DeviceWeights(rows, torch.from_numpy(sizes)), sizes, count)

assert near(sys.argv[1], 100).held == 4950  # and everything is compiled and loaded
jaccard.MAX_PAIRS_PER_POINT = 50
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (500 << 20),) * 2)
try:
    near(sys.argv[1], 60_000)
except UserError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and RLIMIT_AS")
@pytest.mark.parametrize("engine", ["cpu", "gpu"])
def test_pairs_are_counted_before_they_fill_the_memory(engine: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, engine], capture_output=True, text=True, timeout=300)
    assert "more than 3,000,000 pairs of 60,000 points share neighbours: the features are nearly collapsed" in done.stdout, (
        done.stderr
    )


@pytest.mark.parametrize("asked", [1, 3_000, 40_000, 10**9])
def test_the_cutoff_is_the_same_in_pieces_and_never_needs_more_than_may_be_held(asked: int) -> None:
    distances = np.random.default_rng(0).random(30_000)
    rank = int(1.5 * asked / SAMPLED) + 64
    expected = float(np.sort(distances)[rank]) if rank < len(distances) else None

    def pieces():
        for start in range(0, len(distances), 700):
            yield distances[start : start + 700]

    found = sampled_cutoff(pieces(), asked, 1000)
    if expected is not None:
        assert found == expected
    else:  # capped: a thousand points may hold so many pairs, of which a sample is SAMPLED times fewer
        assert found == 1.0 and len(distances) < 2 * jaccard.MAX_PAIRS_PER_POINT * 1000 // SAMPLED
        assert sampled_cutoff(pieces(), asked, 10) == float(
            np.sort(distances)[2 * jaccard.MAX_PAIRS_PER_POINT * 10 // SAMPLED + 64]
        )
