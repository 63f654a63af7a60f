import numpy as np
import pytest
import torch

from distreid.common.errors import UserError
from distreid.evaluation import Features, hit_ranks, reranked_hits, summarise
from distreid.evaluation.check import stage_arrays
from distreid.evaluation.kernels import dot
from distreid.evaluation.pairs import Pairs
from distreid.evaluation.rerank_stages import CompiledStages
from tests.evaluation.reranking import KINDS, sides, unit
from tests.evaluation.sets import draw


def dense(query: Features, gallery: Features, k1: int, k2: int, lambda_value: float) -> np.ndarray:
    """The final distance [Q, G], with the paper's sets as Python sets and every pair visited."""
    x = np.concatenate([query.features, gallery.features]).astype(float)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    d = ((x[:, None] - x[None]) ** 2).sum(2)
    d /= d.max(axis=1, keepdims=True)
    order = np.argsort(d, axis=1, kind="stable")

    def reciprocal(i: int, k: int) -> set[int]:
        return {int(j) for j in order[i, : k + 1] if i in order[j, : k + 1]}

    v = np.zeros_like(d)
    for i in range(len(x)):
        core = reciprocal(i, k1)
        star = set(core)
        for candidate in core:
            half = reciprocal(candidate, round(k1 / 2))
            if len(half & core) > 2 / 3 * len(half):
                star |= half
        for j in star:
            v[i, j] = np.exp(-d[i, j])
        v[i] /= v[i].sum()
    v = np.stack([v[order[i, :k2]].mean(axis=0) for i in range(len(x))])
    n = len(query)
    final = np.empty((n, len(gallery)))
    for i in range(n):
        for g in range(len(gallery)):
            shared, union = np.minimum(v[i], v[n + g]).sum(), np.maximum(v[i], v[n + g]).sum()
            final[i, g] = lambda_value * d[i, n + g] + (1 - lambda_value) * (1 - shared / union)
    return final


def ranks_of(final: np.ndarray, query: Features, gallery: Features) -> list[list[int]]:
    out = []
    for i in range(len(query)):
        same = gallery.pids == query.pids[i]
        keep = ~(same & (gallery.camids == query.camids[i]) & (query.camids[i] != -1))
        order = np.argsort(final[i][keep], kind="stable")
        out.append((np.flatnonzero(same[keep][order]) + 1).tolist())
    return out


def clusters(seed: int) -> tuple[Features, Features]:
    """Identities with spread, so that reciprocal sets differ in size and the expansion takes place."""
    query, gallery = draw(seed, queries=25, gallery=220, dim=24, identities=12, integers=False)
    centres = np.random.default_rng(seed).standard_normal((20, 24))
    return tuple(Features(s.features + centres[s.pids], s.pids, s.camids) for s in (query, gallery))  # type: ignore


@pytest.mark.parametrize(("k1", "k2", "lambda_value"), [(20, 6, 0.3), (7, 1, 0.0), (11, 12, 0.8)])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_dense_paper(seed: int, k1: int, k2: int, lambda_value: float) -> None:
    query, gallery = clusters(seed)
    kept = gallery.take(gallery.pids != -1)
    expected = ranks_of(dense(query, kept, k1, k2, lambda_value), query, kept)
    hits = reranked_hits(query, gallery, k1=k1, k2=k2, lambda_value=lambda_value)
    assert [hits.ranks[a:b].tolist() for a, b in zip(hits.offsets[:-1], hits.offsets[1:], strict=True)] == expected
    assert hits.junk == (gallery.pids == -1).sum()


def test_lambda_one_is_the_plain_ranking() -> None:
    query, gallery = clusters(2)
    plain = hit_ranks(query, gallery)
    np.testing.assert_array_equal(reranked_hits(query, gallery, lambda_value=1.0).ranks, plain.ranks)
    assert summarise(reranked_hits(query, gallery)).mAP > summarise(plain).mAP


def test_more_copies_than_neighbours() -> None:
    query, gallery = clusters(3)
    features = gallery.features.copy()
    features[:60] = features[0]
    features[60:70] = 0
    hits = reranked_hits(query, Features(features, gallery.pids, gallery.camids), k1=5, k2=3)
    assert (hits.ranks > 0).all()
    assert hits.ranks.max() <= hits.gallery


def test_progress_and_bad_settings() -> None:
    query, gallery = clusters(4)
    seen: list[tuple[int, int]] = []
    hits = reranked_hits(query, gallery, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (hits.gallery + 2 * len(query),) * 2
    for settings in ({"k1": 0}, {"k1": 10_000}, {"k2": 0}, {"k1": 4, "k2": 6}, {"lambda_value": 1.5}):
        with pytest.raises(UserError, match="re-ranking"):
            reranked_hits(query, gallery, **settings)  # type: ignore[arg-type]


@pytest.mark.gpu
def test_cuda_gives_the_same_ranks() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    query, gallery = clusters(5)
    np.testing.assert_array_equal(reranked_hits(query, gallery, device="cuda").ranks, reranked_hits(query, gallery).ranks)


def naive(unit_ND: np.ndarray, pairs: Pairs, k1: int, k2: int, lambda_value: float) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """(lists, largest d², ranks) of float64 scores of every pair; V of the lists is the compiled stages'."""
    count, queries = len(unit_ND), len(pairs.offsets) - 1
    scores_NN = np.array([[dot(unit_ND[i], unit_ND[j]) for j in range(count)] for i in range(count)])
    near = [[i, *sorted((j for j in range(count) if j != i), key=lambda j, i=i: (-scores_NN[i, j], j))[:k1]] for i in range(count)]
    farthest_N = 2 - 2 * scores_NN.min(axis=1)
    near_NK = np.array(near, np.int32)
    stages = CompiledStages(unit_ND)
    v = stages.expand(stages.weights(near_NK, farthest_N, round(k1 / 2) + 1), near_NK, k2)
    ranks = []
    for q in range(queries):
        mine = v.indices[v.indptr[q] : v.indptr[q + 1]], v.data[v.indptr[q] : v.indptr[q + 1]]
        final_G = []
        for n in range(queries, count):
            theirs = dict(zip(v.indices[v.indptr[n] : v.indptr[n + 1]], v.data[v.indptr[n] : v.indptr[n + 1]], strict=True))
            shared = 0.0
            for column, value in zip(*mine, strict=True):
                if column in theirs:
                    shared += min(value, theirs[column])
            squared = max(2 - 2 * scores_NN[q, n], 0.0) / max(farthest_N[q], 1e-12)
            final_G.append(lambda_value * squared + (1 - lambda_value) * (1 - shared / (2 - shared)))
        same = set(pairs.same[pairs.same_offsets[q] : pairs.same_offsets[q + 1]].tolist())
        own = pairs.positives[pairs.offsets[q] : pairs.offsets[q + 1]].tolist()
        ranked = sorted((g for g in range(count - queries) if g in own or g not in same), key=lambda g: (final_G[g], g))
        ranks += [ranked.index(g) + 1 for g in sorted(own, key=lambda g: (final_G[g], g))]
    return near_NK, farthest_N, ranks


@pytest.mark.parametrize("kind", KINDS)
def test_float64_decides_whatever_a_device_makes_of_its_products(kind: str) -> None:
    unit_ND, pairs = unit(*sides(kind, 6, images=90))
    near_NK, farthest_N, ranks = naive(unit_ND, pairs, 8, 3, 0.7)
    random = np.random.default_rng(0)
    for noise in (0.0, 2.0**-22, 2.0**-22):  # another order of sums would do less
        stages = CompiledStages(unit_ND, threads=2)
        stages._units = torch.from_numpy(unit_ND * (1 + noise * random.uniform(-1, 1, unit_ND.shape)).astype(np.float32))
        found = dict(stage_arrays(stages, 8, 3, 0.7, pairs))
        np.testing.assert_array_equal(found["neighbours"], near_NK)
        assert found["largest distances"].tobytes() == farthest_N.tobytes()
        assert found["ranks"].tolist() == ranks
