"""Approximate neighbours: ranked exactly, recall measured, a missing faiss named."""

import sys

import numpy as np
import pytest

from distreid.common.errors import UserError
from distreid.labels import make_pseudo_labels
from distreid.retrieval.neighbours import nearest
from distreid.retrieval.prepare import prepare
from tests.features import draw_features


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_recall_is_measured_and_distances_are_exact(kind) -> None:
    pytest.importorskip("faiss", reason="faiss (extra `approximate`) is not installed")
    from distreid.retrieval.approximate import ApproximateSearch

    features_ND = draw_features("clustered", 4000, 24, 7)
    features_ND[3000:3300] = features_ND[:300]
    prepared = prepare(features_ND, 20, 1)
    search = ApproximateSearch(kind, 1)
    rows_Uk, squared_Uk = search(prepared, 20)
    exact_Uk, exact_squared_Uk = nearest(prepared, 20)
    shares_U = np.array([len(np.intersect1d(ours, exact)) / 20 for ours, exact in zip(rows_Uk, exact_Uk, strict=True)])
    assert 0.8 < search.recall <= 1 and abs(search.recall - shares_U.mean()) < 0.05
    same_U = shares_U == 1
    assert same_U.any()
    np.testing.assert_array_equal(rows_Uk[same_U], exact_Uk[same_U])
    assert squared_Uk[same_U].tobytes() == exact_squared_Uk[same_U].tobytes()
    labels = make_pseudo_labels(features_ND, neighbours=kind, p=6e-3, threads=1)
    assert labels.stats["recall"] > 0.8 and labels.num_clusters > 100


@pytest.mark.parametrize("error", [None, "no kernel image\nmore"])
def test_a_faiss_built_for_gpus_proposes_there(error, monkeypatch, caplog) -> None:
    """The functions that only a GPU build has are put in; the same proposals, and a line where the GPU fails."""
    faiss = pytest.importorskip("faiss", reason="faiss (extra `approximate`) is not installed")
    from distreid.retrieval.approximate import ApproximateSearch

    moved = []

    def move(resources, number, index):
        assert number == 1
        if error:
            raise RuntimeError(error)
        moved.append(type(index).__name__)
        return index

    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", move, raising=False)
    prepared = prepare(draw_features("clustered", 1000, 16, 7), 10, 1)
    expected = ApproximateSearch("ivf", 1)(prepared, 10)
    assert not moved
    found = ApproximateSearch("ivf", 1, "cuda:1")(prepared, 10)
    assert found[0].tobytes() == expected[0].tobytes() and found[1].tobytes() == expected[1].tobytes()
    assert moved == ([] if error else ["IndexFlatL2", "IndexIVFFlat"])
    lines = ["faiss does not work on the GPU (no kernel image): it searches on the CPU"] if error else []
    assert [record.getMessage() for record in caplog.records] == lines


def test_cameras_need_exact_neighbours() -> None:
    pytest.importorskip("faiss", reason="faiss (extra `approximate`) is not installed")
    with pytest.raises(UserError, match="neighbours = ivf knows no cameras"):
        make_pseudo_labels(draw_features("random", 60, 4, 0), neighbours="ivf", camids=np.arange(60) % 2)


def test_a_missing_faiss_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UserError, match=r"neighbours = hnsw needs faiss: pip install 'distreid\[approximate\]'"):
        make_pseudo_labels(draw_features("random", 50, 4, 0), neighbours="hnsw")
