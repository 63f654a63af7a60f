"""The choice without labels, and how it stands against the oracle."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from distreid.common.text import text_table
from distreid.sweeps.page import write_page
from distreid.sweeps.results import advice, choices
from distreid.sweeps.rows import write_rows

ROWS = [
    {"trial": f"t{p}{seed}", "status": "finished", "labels.p": p, "seed": seed, "quality": quality, "oracle_mAP": mAP, "round": 2}
    for p, seed, quality, mAP in ((0.1, 0, 0.4, 0.7), (0.1, 1, 0.6, 0.5), (0.2, 0, 0.5, 0.8), (0.2, 1, 0.3, 0.8))
] + [{"trial": "bad", "status": "failed", "labels.p": 0.9, "seed": 0, "reason": "no cluster"}]


def test_the_choice_is_by_the_mean_quality_over_seeds_and_never_by_the_oracle() -> None:
    best, other = choices(ROWS, ["labels.p", "seed"])
    assert (best.settings, best.quality, best.oracle, best.seeds) == ({"labels.p": 0.1}, 0.5, 0.6, 2)
    assert other.settings == {"labels.p": 0.2}
    first, second = advice(ROWS, ["labels.p", "seed"])
    assert "labels.p=0.1 (quality 50.0)" in first
    assert "mAP 60.0 at this choice, 80.0 at the best (labels.p=0.2), 70.0 on average" in second
    assert advice(ROWS[-1:], ["labels.p"]) == ["no trial has finished with a round of labels: nothing to choose from"]


def test_parquet_holds_every_column_of_any_row(tmp_path: Path) -> None:
    write_rows(tmp_path / "r.parquet", [*ROWS, {"trial": "x", "labels.p": "odd"}], {"sweep": "s"})
    table = pq.read_table(tmp_path / "r.parquet")
    assert table.schema.metadata == {b"sweep": b"s"} and table["reason"].to_pylist() == [None] * 4 + ["no cluster", None]
    assert table["labels.p"].to_pylist()[-1] == "odd" and table["seed"].to_pylist()[:2] == [0, 1]


def test_the_page_and_the_terminal(tmp_path: Path) -> None:
    write_page(tmp_path / "p.html", ROWS, {"labels.p": {}, "seed": {}}, ["chosen"])
    page = (tmp_path / "p.html").read_text()
    assert page.count("<svg") == 1 and "no cluster" in page and "oracle mAP" in page and "<script" not in page
    assert text_table(["a", "b"], [["long", "1"], ["x", "200"]]).splitlines()[-1] == "x     200"
