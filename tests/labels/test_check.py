"""`distreid gpu-check` on a CPU: engines that are right are found equal, wrong ones are named with the stage that differs."""

import json
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from distreid.actions.gpu_check import compare, page
from distreid.cli import main
from distreid.evaluation.check import check_reranking
from distreid.evaluation.rerank_gpu import KernelStages as KernelReranking
from distreid.evaluation.rerank_stages import CompiledStages
from distreid.labels import check as checks
from distreid.labels.check import CASES, Case, Trial, check, check_large, product_error
from distreid.labels.cpu.stages import CpuStages
from distreid.labels.gpu import Clustering, KernelStages
from distreid.labels.torch_engine import TorchStages
from distreid.retrieval.lists import Lists
from distreid.retrieval.prepare import Prepared
from distreid.retrieval.reciprocal import Csr
from tests.commands import fails
from tests.labels.gpu.cuml_model import DBSCAN
from tests.labels.gpu.shim import NumpyBackend, needs_compiler

CPU = torch.device("cpu")
COPIED = [Case("copied", "float32", 0)]


def torch_trial() -> Trial:
    return Trial("torch", TorchStages(CPU), exact=False, again=TorchStages(CPU, tile=(70, 90)))


@pytest.mark.slow
def test_equal_engines_on_all_kinds_of_features() -> None:
    cases = CASES[::5]
    assert {case.kind for case in cases} == set(checks.KINDS) and {case.cameras for case in cases} == set(checks.CAMERAS)
    found = check([Trial("compiled", CpuStages(1), again=CpuStages(2)), torch_trial()], 200, cases=cases)
    assert [row["engines"] for row in found] == len(cases) * [{"compiled": [], "torch": []}]
    assert all(row["clusters"] for row in found) and sum(row["outliers"] for row in found) > 50


@needs_compiler
def test_the_kernels_and_cuml() -> None:
    again = KernelStages(NumpyBackend(seed=2, resident=3, threads=64, scratch_bytes=1 << 14), Clustering(), tile=(70, 90))

    class Failing(DBSCAN):
        def fit_predict(self, *args: Any, **kwargs: Any) -> NDArray[Any]:
            raise RuntimeError("no kernel image")

    models = {"cuML": DBSCAN, "in batches": type("DBSCAN", (DBSCAN,), {"rows_per_batch": 7}), "failing": Failing}
    clusterings = {name: Clustering("cuml", 1 << 30, model) for name, model in models.items()}
    trials = [Trial("kernels", KernelStages(NumpyBackend(), Clustering()), again=again)]
    trials += [Trial(name, KernelStages(NumpyBackend(), used), clustering=used) for name, used in clusterings.items()]
    (row,) = check(trials, 90, cases=COPIED)
    assert row["engines"] == {"kernels": [], "cuML": [], "in batches": [], "failing": ["cuML did not work"]} and row["clusters"]


class WrongBit(CpuStages):
    """One bit of V, the last of its middle value."""

    def reciprocal(self, prepared: Prepared, lists: Lists) -> Csr:
        v = super().reciprocal(prepared, lists)
        v.data.view(np.uint64)[len(v.data) // 2] ^= 1
        return v


class WrongLabel(CpuStages):
    """An outlier that is taken into a cluster."""

    def dbscan(self, *args: Any) -> NDArray[np.int64]:
        labels_U = super().dbscan(*args)
        labels_U[np.flatnonzero(labels_U < 0)[0]] = 0
        return labels_U


class WrongCentres(CpuStages):
    """Another centre in another place."""

    def centers(self, *args: Any) -> NDArray[np.float32]:
        return super().centers(*args)[::-1].copy()


class WrongV(TorchStages):
    """V off by more than rounding."""

    def rows(self, v: Any) -> Csr:
        rows = super().rows(v)
        rows.data[0] += 1e-6
        return rows


class Broken(CpuStages):
    def expand(self, *args: Any) -> Any:
        raise RuntimeError("an illegal memory access was encountered\nand more")


class WrongRank(CompiledStages):
    """One positive a place too far down."""

    def ranks(self, *args: Any) -> NDArray[np.int64]:
        ranks_T = super().ranks(*args)
        ranks_T[-1] += 1
        return ranks_T


class BrokenReranking(CompiledStages):
    def expand(self, *args: Any) -> Csr:
        raise RuntimeError("an illegal memory access was encountered\nand more")


def test_re_ranking_is_compared_too() -> None:
    engines = {"right": partial(CompiledStages, threads=2), "wrong": WrongRank, "broken": BrokenReranking}
    found = check_reranking(engines, 240)
    assert [case["kind"] for case in found] == ["clustered", "copied", "random", "tied"]
    for case in found:
        assert case["engines"]["right"] == []
        (line,) = case["engines"]["wrong"]
        count = int(line.removeprefix("ranks: 1 of ").removesuffix(" differ"))
        assert count > 100, "positives"
        assert case["engines"]["broken"] == ["failed: RuntimeError: an illegal memory access was encountered"]


@needs_compiler
def test_re_ranking_by_the_kernels() -> None:
    found = check_reranking({"kernels": partial(KernelReranking, backend=NumpyBackend(seed=2, resident=3, threads=64))}, 160)
    assert [case["engines"] for case in found] == 4 * [{"kernels": []}]


def test_differences_are_named() -> None:
    trials = [
        Trial("bit", WrongBit(1)),
        Trial("label", WrongLabel(1)),
        Trial("again", CpuStages(1), again=WrongCentres(1)),
        Trial("torch", WrongV(CPU), exact=False),
        Trial("broken", Broken(1)),
    ]
    (row,) = check(trials, 200, cases=COPIED)
    differ = row["engines"]
    assert differ["bit"][0].startswith("V: values: 1 of ") and "neighbours" not in str(differ["bit"])
    assert [line.split(":")[0] for line in differ["label"][:2]] == ["labels", "labels by scikit-learn"]
    assert " 1 of " in differ["label"][0] and differ["label"][0].endswith(": 0 in place of -1")
    (line,) = differ["again"]
    assert line.startswith("other tiles and threads, centres: ")
    (line,) = differ["torch"]
    assert line.startswith("V: values: 1 of ")
    assert differ["broken"] == ["failed: RuntimeError: an illegal memory access was encountered"]


def test_the_page_and_the_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(n: int, large: int, out: Any) -> tuple[str, bool]:
        trials = [Trial("kernels", CpuStages(1)), Trial("cuML", WrongLabel(1) if n == 200 else CpuStages(1))]
        engine = WrongRank if n == 200 else CompiledStages
        found = compare(trials, n, large, device="cpu", large_dim=32, cases=COPIED, rerankers={"kernels": engine})
        assert json.loads(json.dumps(found)) == found
        return page(found), found["equal"]

    monkeypatch.setattr("distreid.actions.gpu_check.gpu_check", run)
    main(["gpu-check", "--n", "201", "--large", "300"])
    told = capsys.readouterr().out
    assert "\nre-ranking (25 queries among 176 images, clustered, copied, random, tied): kernels equal\n" in told
    assert "300 × 32 by CpuStages: equal" in told and told.endswith("all equal\n") and "DIFFERS" not in told
    with pytest.raises(SystemExit) as caught:
        main(["gpu-check", "--n", "200", "--large", "0"])
    told = capsys.readouterr().out
    assert caught.value.code == 1 and "DIFFERS" in told and "\ncuML, copied float32 no cameras: labels: 1 of " in told
    assert ": kernels DIFFERS\n" in told and "\nre-ranking by kernels, tied: ranks: 1 of " in told
    assert "error 0." in told and told.endswith("NOT equal: please report this page\n")


def test_a_large_set_that_differs_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "stages_of", lambda *_: WrongBit(1))
    found = check_large("cpu", 200, dim=16)
    assert found["differences"][0].startswith("V: values: 1 of ") and "seconds" not in found


def test_products_of_a_short_format_exceed_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < product_error("cpu") < 1
    matmul = torch.backends.mkldnn.matmul
    before, ones = matmul.fp32_precision, torch.full((64, 64), 1 + 2.0**-12)
    try:
        matmul.fp32_precision = "bf16"
        if torch.equal(ones @ ones, (ones.double() @ ones.double()).float()):
            pytest.skip("this CPU does not make short products of float32's")
        monkeypatch.setattr(checks, "full_float32", lambda: torch.no_grad())  # nothing protects the products
        assert product_error("cpu") > 1
    finally:
        matmul.fp32_precision = before


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--n 10: use 200 or more, so that there are clusters to compare" in fails(capsys, "gpu-check", "--n", "10")
    assert "--large 10: use 200 or more" in fails(capsys, "gpu-check", "--large", "10")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_a_gpu_it_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(capsys, "gpu-check", "--n", "200", "--large", "0")
    assert line == "distreid: gpu-check needs a GPU, and torch sees none on this machine; distreid doctor says what there is"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_real_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    main(["gpu-check", "--n", "1000", "--large", "3000"])
    assert capsys.readouterr().out.endswith("all equal\n")
