"""Rank lists against Python's own sort."""

from __future__ import annotations

import numpy as np
import pytest

from distreid.evaluation import first_ranked


@pytest.mark.parametrize("scores", [1 << 24, 700, 1])
def test_lists_are_sorted_by_cosine_then_row(scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distreid.evaluation.lists._SCORES", scores)
    monkeypatch.setattr("distreid.evaluation.lists._ROWS", 7)
    random = np.random.default_rng(0)
    gallery_GD = random.normal(size=(300, 33)).astype(np.float32)
    gallery_GD[100:] = np.tile(gallery_GD[:50], (4, 1))  # ties
    gallery_GD[4] = 0
    query_QD = random.normal(size=(6, 33)).astype(np.float32)
    left_out_QG = random.random((6, 300)) < 0.2
    left_out_QG[5] = True
    found = first_ranked(query_QD, gallery_GD, left_out_QG, 200)
    assert len(found) == 6
    for q, (rows, similarity) in enumerate(found):
        cosines = []
        for g in range(300):
            norms = float(np.linalg.norm(query_QD[q].astype(float)) * np.linalg.norm(gallery_GD[g].astype(float)))
            cosines.append(query_QD[q].astype(float) @ gallery_GD[g].astype(float) / norms if norms else 0.0)
        order = sorted((g for g in range(300) if not left_out_QG[q, g]), key=lambda g: (-round(cosines[g], 9), g))[:200]
        assert rows.tolist() == order
        np.testing.assert_allclose(similarity, [cosines[g] for g in order], atol=1e-6)
