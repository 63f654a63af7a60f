"""What a method says about its own runs is what page and terminal show of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distreid.actions.status import runs, status
from distreid.common.text import protocol_name
from distreid.methods.registry import SPECS, report_of
from distreid.report import write_comparison, write_report
from distreid.report.text import metrics_text, result_table
from tests.report.document import Node, figure, read
from tests.report.pages import check_page, csv_of, headline, rounds_table, titles
from tests.report.runs import edaan_lines, edaan_run, lines_of, metrics, result_of, write_run


def losses(page: Node) -> dict[str, str]:
    """Each chart's term and its caption."""
    strips = [node for node in figure(page, "Losses over epochs").all("p") if node.attributes.get("class") == "strip"]
    return {node.one("b").text: node.text.removeprefix(node.one("b").text).strip().replace("\u00a0", " ") for node in strips}


def test_the_losses_of_edaan_are_its_own(tmp_path: Path) -> None:
    page = read(write_report(edaan_run(tmp_path / "r", edaan_lines())))
    check_page(page)
    found = losses(page)
    assert list(found) == ["gan", "cycle", "attention", "identity", "metric", "discriminator"]
    for term, equation in (("gan", "3"), ("cycle", "4"), ("attention", "5"), ("metric", "7"), ("identity", "8")):
        assert f"(Eq. {equation})" in found[term]
    drawn = figure(page, "Losses over epochs")
    assert len(drawn.all("svg")) == 6 and "Eq. 9" in drawn.one("figcaption").text
    assert "Eq. 7" not in drawn.one("figcaption").text and "pre-training" not in page.text.lower()
    assert all(len(svg.all("circle")) == 2 for svg in drawn.all("svg"))
    assert csv_of(drawn)[1] == ["stage 1, joint", "1", "1.375", "4.5", "0.25", "2.125", "3.25", "1.5", "2.0"]
    assert headline(page) == "mAP 25.0 on the target." and "eps over rounds" not in titles(page)
    assert list(rounds_table(page)) == ["source, in domain", "stage 1, joint", "final"]
    assert list(rounds_table(page)["final"]) == ["mAP", "Rank-1", "Rank-5", "Rank-10", "train", "evaluate"]


def test_two_stages_are_named_and_each_term_stands_in_its_own(tmp_path: Path) -> None:
    lines = edaan_lines(["translation", "reid"])
    page = read(write_report(edaan_run(tmp_path / "r", lines, variant="daan", metric="triplet")))
    check_page(page)
    assert "(Eq. 6)" in losses(page)["metric"]
    gan, *_, identity, metric, _ = figure(page, "Losses over epochs").all("svg")
    assert [node.text for node in gan.all("rect")] == ["stage 1, translation", "stage 2, reid"]
    assert [node.text for node in identity.all("circle")] == ["loss, 3: 2.125", "loss, 4: 1.062"]
    assert metric.one("desc").text == "metric: 2 epochs, from 3.25 to 1.62."
    unfinished = write_run(tmp_path / "u", lines[:-1], config={"method": "edaan", "edaan": {"variant": "daan"}})
    page = read(write_report(unfinished))
    assert headline(page) == "Unfinished, 1 of 2 stages done, 4 epochs; the target's accuracy has not been measured."
    assert "1/2 stages finished" in status(unfinished)


def test_a_term_that_nobody_described_is_shown_all_the_same(tmp_path: Path) -> None:
    page = read(write_report(edaan_run(tmp_path / "r", edaan_lines(metric="", area=0.5, surprise=0.75), metric="none")))
    found = losses(page)
    assert list(found)[-1] == "surprise" and found["surprise"] == "" and "metric" not in found
    assert "area_prior" in found["area"]


def test_a_method_that_this_version_does_not_know_is_reported_by_its_files(tmp_path: Path) -> None:
    run = edaan_run(tmp_path / "r", edaan_lines())
    (run / "config.yaml").write_text("method: novel\nsource: {data: a/m.arrow}\ntarget: {data: d.arrow}\n")
    page = read(write_report(run))
    check_page(page)
    assert "NOVEL" in page.one("header").text and set(losses(page)) >= {"gan", "cycle", "metric"}
    assert "round 1" in rounds_table(page) and "novel" in status(run)


@pytest.mark.parametrize(("target", "equation"), [("soft", "(Eq. 5)"), ("hard", "hard labels"), ("lsr", "LSR")])
def test_daam_names_the_target_loss_that_it_was_given(tmp_path: Path, target: str, equation: str) -> None:
    lines = lines_of(1)
    page = read(write_report(write_run(tmp_path / "r", lines, result=result_of(lines), config={"loss": {"target": target}})))
    found = losses(page)
    assert list(found) == ["source, pre-training", "source", "target", "domain"]
    assert equation in found["target"] and "(Eq. 3)" in found["source"] and "(Eq. 6)" in found["domain"]


def test_every_described_term_says_something() -> None:
    for spec in map(report_of, SPECS):
        assert spec.losses and all(term.caption.endswith(".") for term in spec.losses)
    assert report_of("daam").title(0) == "pre-training" and report_of("edaan").title(2, "reid") == "stage 2, reid"


PROTOCOLS: list[tuple[dict[str, Any], str]] = [
    ({"protocol": "single_query"}, "single query"),
    ({"protocol": "single_shot", "splits": 20}, "single gallery shot, 20 splits"),
    ({"protocol": "single_shot", "splits": 1}, "single gallery shot, 1 split"),
    ({"protocol": "cross_camera", "splits": 10, "reverse": {"mAP": 0.625, "rank1": 0.375}}, "between two cameras, 10 draws"),
]


def run_tested_by(path: Path, protocol: dict[str, Any]) -> Path:
    lines = lines_of(2)
    for line in lines:
        for measured in (line, line.get("direct_transfer"), line.get("in_domain")):
            if measured and "mAP" in measured:
                measured |= protocol
    return write_run(path, lines, result=result_of(lines))


@pytest.mark.parametrize(("protocol", "name"), PROTOCOLS)
def test_the_protocol_is_named_wherever_a_figure_is_shown(tmp_path: Path, protocol: dict[str, Any], name: str) -> None:
    run = run_tested_by(tmp_path / "r", protocol)
    page = read(write_report(run))
    check_page(page)
    others = {"single query", "single gallery shot", "between two cameras"} - {name.partition(",")[0]}
    table = result_table(json.loads((run / "result.json").read_text()))
    comparison = read(write_comparison([run, run], tmp_path / "c.html"))
    for text in (page.text, figure(page, "Accuracy over rounds").text, comparison.text, table, status(run), runs(tmp_path)):
        assert name in text and not any(other in text for other in others)
    assert ("The other way round: mAP 62.5, Rank-1 37.5." in page.text) is ("reverse" in protocol)


def test_runs_tested_in_two_ways_do_not_compare(tmp_path: Path) -> None:
    made = [run_tested_by(tmp_path / str(k), protocol) for k, (protocol, _) in enumerate(PROTOCOLS[:2])]
    page = read(write_comparison(made, tmp_path / "c.html"))
    assert "do not compare" in page.text
    head, *rows = page.all("table")[0].rows()
    assert [row[head.index("protocol")] for row in rows] == ["single query", "single gallery shot, 20 splits"]


def test_a_run_that_does_not_say_its_protocol_is_not_given_one(tmp_path: Path) -> None:
    from distreid.methods.exhibits import Pictures

    run = write_run(tmp_path / "r", lines_of(1))
    for text in (read(write_report(run)).text, status(run)):
        assert "single query" not in text and ", ," not in text and "no re-ranking" in text
    assert "single query, no re-ranking" in read(write_report(run, pictures=Pictures(round=1, protocol="single query"))).text


def test_evaluate_names_the_protocol() -> None:
    figures = metrics(0.5) | {"splits": 10, "rank1_std": 0.1, "rank5_std": 0.1, "rank10_std": 0.1, "rank20_std": 0.1}
    assert "single query: 40 queries" in metrics_text(figures | {"protocol": "single_query"})
    assert "single gallery shot, 10 splits: one image" in metrics_text(figures | {"protocol": "single_shot"})
    both = metrics_text(figures | {"protocol": "cross_camera", "reverse": figures})
    assert both.count("between two cameras, 10 draws: ") == 2 and "the other direction" in both
    assert protocol_name({}) == "" and protocol_name({"protocol": "novel"}) == "novel"
