"""Whether an engine makes the labels of the compiled one, in every stage, on data with copies and ties: `distreid gpu-check`."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from distreid.common.text import first_line
from distreid.labels.api import make_pseudo_labels
from distreid.labels.bench import clustered_features, product_seconds
from distreid.labels.cpu.stages import CpuStages
from distreid.labels.engines import clustering_of, cupy_backend, stages_of
from distreid.labels.gpu import Clustering, KernelStages
from distreid.labels.recorded import Record, differences, record
from distreid.labels.settings import LabelSettings
from distreid.labels.stages import Stages
from distreid.labels.torch_engine import TorchStages
from distreid.retrieval.blocks import Progress
from distreid.retrieval.gpu import CupyBackend
from distreid.retrieval.neighbours import round_features
from distreid.retrieval.prepare import prepare
from distreid.retrieval.products import full_float32

LEAST = 200  # features of a case: fewer, and some have no clusters
DIM, LARGE_DIM = 200, 2048
PAIRS_PER_POINT = 4  # p asks for so many, whatever the number of points
PRODUCT_ROWS, PRODUCT_DIM = 2048, 64  # few dimensions: the bound grows with them, TF32's error hardly
# Other choices than the engines' own: small products, other blocks of threads, scratch for few rows at once.
OTHER_TILE, OTHER_THREADS, OTHER_SCRATCH = (300, 700), 256, 1 << 20
SMALL_BATCH_MB = 1  # of cuML: dozens of batches of 4,000 points


class Case(NamedTuple):
    """kind: of `features_of`. cameras: 0 for distances that know none."""

    kind: str
    dtype: str
    cameras: int


KINDS, DTYPES, CAMERAS = ("clustered", "copied", "random", "tied"), ("float16", "float32", "float64"), (0, 6)
CASES = [Case(*parts) for parts in itertools.product(KINDS, DTYPES, CAMERAS)]


@dataclass(frozen=True)
class Trial:
    """An engine to be checked.

    exact: whether every array must have the compiled engine's bits; else those of V, J, eps and silhouettes may differ by
    rounding. again: the same engine with other tiles and threads, which must have the first one's bits. clustering: with a cuML
    that must be used.
    """

    name: str
    stages: Stages
    exact: bool = True
    again: Stages | None = None
    clustering: Clustering | None = None


def trials_on(device: torch.device) -> list[Trial]:
    """What there is to be checked on a GPU: the kernels, cuML where it is, torch's engine always."""
    other = TorchStages(device, tile=OTHER_TILE)
    trials = [Trial("torch", TorchStages(device), exact=False, again=other)]
    backend = cupy_backend(device)
    if backend is None:
        return trials
    tight = CupyBackend(device, threads=OTHER_THREADS, scratch_bytes=OTHER_SCRATCH)
    again = KernelStages(tight, Clustering(), tile=OTHER_TILE)
    cuml = clustering_of("auto", 0).cuml
    models = {} if cuml is None else {"cuML": cuml, "cuML in batches": partial(cuml, max_mbytes_per_batch=SMALL_BATCH_MB)}
    with_cuml = [(name, Clustering("cuml", 0, model)) for name, model in models.items()]
    return [
        Trial("kernels", KernelStages(backend, Clustering()), again=again),
        *(Trial(name, KernelStages(backend, clustering), clustering=clustering) for name, clustering in with_cuml),
        *trials,
    ]


def features_of(kind: str, n: int, dim: int, seed: int) -> NDArray[np.float32]:
    """n features [n, dim] of clusters; copied: half are others times four; random; tied: corners of a cube of 20 dimensions, whose
    distances are whole numbers to one factor."""
    random = np.random.default_rng(seed)
    if kind == "random":
        return random.standard_normal((n, dim), dtype=np.float32)
    if kind == "tied":
        return random.choice(np.array([-1, 1], np.float32), (n, 20))
    features_ND = clustered_features(n, dim, seed)
    if kind == "copied":
        features_ND[n // 2 :] = 4 * features_ND[: n - n // 2]
    return features_ND


def check(
    trials: Sequence[Trial], n: int, *, cases: Sequence[Case] = CASES, threads: int = 1, progress: Progress | None = None
) -> list[dict[str, Any]]:
    """Every case labelled by the compiled engine, scikit-learn and each trial. A dict a case: its parts, clusters, outliers, and
    `engines`: by name of the trial the differences found, in words."""
    rows, settings = [], LabelSettings(p=2 * PAIRS_PER_POINT / (n - 1))
    for number, case in enumerate(cases):
        features_ND = features_of(case.kind, n, DIM, number).astype(case.dtype)
        camids_N = np.random.default_rng(number).integers(0, case.cameras, n) if case.cameras else None
        given = features_ND, settings, camids_N, threads
        expected = record(CpuStages(threads), *given).by_scikit_learn(settings.min_samples)
        labels_N = expected.result.labels
        figures = {"clusters": expected.result.num_clusters, "outliers": int((labels_N < 0).sum())}
        engines = {trial.name: _differences(trial, expected, given) for trial in trials}
        rows.append({**case._asdict(), **figures, "engines": engines})
        if progress is not None:
            progress(number + 1, len(cases))
    return rows


def _differences(trial: Trial, expected: Record, given: tuple[Any, ...]) -> list[str]:
    try:
        found = record(trial.stages, *given)
        lines = differences(expected, found, exact=trial.exact)
        if trial.again is not None:
            second = differences(found, record(trial.again, *given), exact=True)
            lines += [f"other tiles and threads, {line}" for line in second]
        if trial.clustering is not None and trial.clustering.cuml is None:
            lines.append("cuML did not work")
        return lines
    except Exception as error:  # whatever a driver, a compiler or a library raises is a finding
        return [f"failed: {type(error).__name__}: {first_line(error)}"]


def product_error(device: torch.device | str) -> float:
    """The largest error of a float32 product on the device over the bound by which the neighbour search is exact. Some hundredths
    are usual; above 1 products are not float32's."""
    prepared = prepare(clustered_features(PRODUCT_ROWS, PRODUCT_DIM, 0), 1, 1)
    low = round_features(prepared, torch.float32, device)
    left_RW = low.left(slice(None))
    with full_float32():
        found_RU = (left_RW @ low.a_UW.T).double()
    exact_RU = left_RW.double() @ low.a_UW.double().T
    noise_R = torch.from_numpy(low.noise_U).to(exact_RU.device)
    return float(((found_RU - exact_RU).abs() / (noise_R[:, None] + low.rounding * exact_RU.abs())).max())


def check_large(device: str, n: int, *, dim: int = LARGE_DIM, threads: int = 1) -> dict[str, Any]:
    """The engine that `labels.device` would take, with n features: labels against the compiled engine's, then seconds, the most
    memory of the GPU, and the seconds of one float32 product of the same size."""
    features_ND, settings = clustered_features(n, dim, 0), LabelSettings()
    given = features_ND, settings, None, threads
    stages = stages_of(device, threads, None)
    trial = Trial(type(stages).__name__, stages, exact=not isinstance(stages, TorchStages))
    lines = _differences(trial, record(CpuStages(threads), *given), given)
    figures: dict[str, Any] = {"n": n, "dim": dim, "engine": trial.name, "differences": lines}
    if lines:
        return figures
    stats = make_pseudo_labels(features_ND, settings, stages=stages, threads=threads).stats
    stages.release()
    figures["seconds"] = stats["seconds"]
    figures["seconds_of_stages"] = {k.removeprefix("seconds_"): v for k, v in stats.items() if k.startswith("seconds_")}
    figures |= {"peak_bytes": sum(stages.peaks().values()), "peaks": stages.peaks(), "features_bytes": features_ND.nbytes}
    figures["seconds_product"] = product_seconds(features_ND, stages.device)
    return figures
