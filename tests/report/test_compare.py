from pathlib import Path

import pytest

from distreid.common.errors import UserError
from distreid.report import write_comparison
from tests.report.document import figure, read
from tests.report.pages import check_page, csv_of
from tests.report.runs import lines_of, result_of, whole_run, write_run


def test_runs_side_by_side(tmp_path: Path) -> None:
    bad = "<b>&'\""
    runs = [whole_run(tmp_path / "one"), whole_run(tmp_path / bad, rounds=2), write_run(tmp_path / "cut", lines_of(1))]
    page = read(write_comparison(runs, tmp_path / "out" / "c.html"))
    check_page(page)
    head, *rows = page.all("table")[0].rows()
    table = {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}
    assert list(table) == ["A · one", f"B · {bad}", "C · cut"]
    assert (table["A · one"]["mAP"], table["A · one"]["gain"], table["A · one"]["rounds"]) == ("48.1", "+14.7", "3")
    assert (table["C · cut"]["mAP"], table["C · cut"]["direct mAP"]) == ("42.7", "33.4")
    assert table["C · cut"]["rounds"] == "1 (unfinished)"
    assert "do not compare" not in page.text
    data = csv_of(figure(page, "mAP over rounds"))
    assert data[0] == ["round", "A", "B", "C"]
    assert [row[0] for row in data[1:]] == ["0", "1", "2", "3"]
    assert data[-1][2:] == ["", ""] and float(data[-1][1]) == pytest.approx(0.4 + 3 / 37)
    assert {node.one("strong").text for node in page.all("figure")} == {
        "mAP over rounds", "Rank-1 over rounds", "Clusters over rounds", "Outliers over rounds",
    }  # fmt: skip


def test_only_settings_that_differ_are_shown(tmp_path: Path) -> None:
    lines = lines_of(2)
    runs = [
        write_run(tmp_path / name, lines, result=result_of(lines), config={"output": name, "loss": {"target": target}, **more})
        for name, target, more in (("a", "soft", {}), ("b", "hard", {"labels": {"p": 0.01}}))
    ]
    page = read(write_comparison(runs, tmp_path / "c.html"))
    assert page.all("section")[-1].one("table").rows()[1:] == [["loss.target", "soft", "hard"], ["labels.p", "–", "0.01"]]


def test_other_targets_do_not_compare(tmp_path: Path) -> None:
    runs = [whole_run(tmp_path / "a"), whole_run(tmp_path / "b", target="winter")]
    assert "do not compare" in read(write_comparison(runs, tmp_path / "c.html")).text


def test_runs_without_accuracy_or_rounds(tmp_path: Path) -> None:
    page = read(write_comparison([whole_run(tmp_path / "a", tested=False), write_run(tmp_path / "b", [])], tmp_path / "c.html"))
    check_page(page)
    assert {node.one("strong").text for node in page.all("figure")} == {"Clusters over rounds", "Outliers over rounds"}


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is not a run"):
        write_comparison([whole_run(tmp_path / "a"), tmp_path / "nowhere"], tmp_path / "c.html")
    assert not (tmp_path / "c.html").exists()
