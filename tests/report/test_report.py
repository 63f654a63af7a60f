import json
import re
from pathlib import Path

import pytest

from distreid.common.errors import UserError
from distreid.report import write_report
from tests.report.document import figure, read
from tests.report.pages import check_page, csv_of, headline, rounds_table, titles
from tests.report.runs import DEFAULTS, lines_of, result_of, whole_run, write_run

EVERY_FIGURE = {
    "Accuracy over rounds", "CMC curve", "Clusters over rounds", "Outliers over rounds", "eps over rounds", "Cluster sizes",
    "Losses over epochs", "Time per stage", "Learning rate",
}  # fmt: skip


def test_a_whole_run(tmp_path: Path) -> None:
    run = whole_run(tmp_path / "demo")
    file = write_report(run)
    assert file == run / "report.html"
    assert not list(run.glob(".report*"))
    page = read(file)
    check_page(page)
    assert titles(page) == EVERY_FIGURE
    assert page.one("h1").text == "day → night"
    assert "DAAM" in page.one("header").text
    assert headline(page) == "Adapted mAP 48.1, +14.7 points over direct transfer."
    assert "average precision by precision at hits" in page.text
    assert "40 queries against 300 gallery images" in page.text


def test_the_table_holds_the_result(tmp_path: Path) -> None:
    run = whole_run(tmp_path / "demo")
    table = rounds_table(read(write_report(run)))
    result = json.loads((run / "result.json").read_text())
    expected = {"source, in domain": result["in_domain"], "direct transfer": result["direct_transfer"]}
    expected |= {f"round {r['round']}": r for r in result["rounds"]} | {"adapted (final)": result["final"]}
    assert list(table) == list(expected)
    for name, figures in expected.items():
        for column, key in (("mAP", "mAP"), ("Rank-1", "rank1"), ("Rank-5", "rank5"), ("Rank-10", "rank10")):
            assert table[name][column] == f"{100 * figures[key]:.1f}"
        if "eps" in figures:
            assert table[name]["eps"] == f"{figures['eps']:.4f}"
            assert table[name]["clusters"] == f"{figures['clusters']:,}"
            assert table[name]["outliers"] == f"{figures['outliers']}"
            for stage, seconds in figures["seconds"].items():
                assert table[name][stage] == f"{seconds:.1f}"


def test_the_figures_hold_the_data(tmp_path: Path) -> None:
    run = whole_run(tmp_path / "demo")
    page, result = read(write_report(run)), json.loads((run / "result.json").read_text())

    def data(title: str) -> list[list[str]]:
        return figure(page, title).one("table").rows()[1:]

    direct, rounds = result["direct_transfer"], result["rounds"]
    measured = [("direct transfer", direct), *((f"round {r['round']}", r) for r in rounds)]
    assert data("Accuracy over rounds") == [[name, f"{100 * m['mAP']:.1f}", f"{100 * m['rank1']:.1f}"] for name, m in measured]
    assert data("CMC curve") == [
        [str(rank), f"{100 * direct['cmc'][rank - 1]:.1f}", f"{100 * rounds[-1]['cmc'][rank - 1]:.1f}"] for rank in range(1, 21)
    ]
    assert data("Outliers over rounds") == [[f"round {r['round']}", str(r["outliers"])] for r in rounds]
    assert data("Time per stage")[0] == ["pre-training", "0.0", "0.0", "7.5", "0.0"]
    assert data("Time per stage")[2] == ["round 2", "3.0", "0.5", "10.0", "1.5"]
    assert data("Losses over epochs")[0] == ["pre-training", "1", "4.0000", "–", "–", "2.5"]
    assert data("Losses over epochs")[4] == ["round 1", "2", "0.1500", "0.8500", "0.0500", "2.5"]
    assert csv_of(figure(page, "Losses over epochs"))[1] == ["pre-training", "1", "4.0", "", "", "2.5"]
    assert float(csv_of(figure(page, "Accuracy over rounds"))[1][1]) == direct["mAP"]
    assert len(data("Losses over epochs")) == 3 + 3 * 2
    assert {(size, count) for size, count in data("Cluster sizes") if count != "0"} == {("4–5", "2"), ("12–13", "1")}
    before, *terms = figure(page, "Losses over epochs").all("svg")
    assert not before.all("rect") and len(terms) == 3
    assert all([node.text for node in svg.all("rect")] == ["round 1", "round 2", "round 3"] for svg in terms)
    dashed = [n for n in figure(page, "Accuracy over rounds").all("path") if "dashed" in (n.attributes["class"] or "")]
    assert len(dashed) == 2


def test_a_worse_model_is_said_to_be_worse(tmp_path: Path) -> None:
    lines = lines_of(1)
    result = result_of(lines)
    result["final"]["mAP"] = result["direct_transfer"]["mAP"] - 0.0211
    assert headline(read(write_report(write_run(tmp_path / "r", lines, result=result)))) == (
        "Adapted mAP 31.3, 2.1 points under direct transfer."
    )


def test_an_unfinished_round(tmp_path: Path) -> None:
    lines = lines_of(2)[:-2]  # round 2 has its labels and an epoch
    page = read(write_report(write_run(tmp_path / "r", lines)))
    check_page(page)
    assert titles(page) == EVERY_FIGURE
    assert page.one("h1").text == "day → night"
    assert headline(page) == "Unfinished, 1 of 3 rounds done: mAP 42.7 after round 1, +9.3 points over direct transfer so far."
    table = rounds_table(page)
    assert list(table) == ["source, in domain", "direct transfer", "round 1", "round 2, under way"]
    assert (table["round 2, under way"]["clusters"], table["round 2, under way"]["mAP"]) == ("1,012", "–")


def test_a_finished_run_that_goes_on_is_unfinished(tmp_path: Path) -> None:
    lines = lines_of(3)
    old = result_of([line for line in lines if line["round"] < 3])
    page = read(write_report(write_run(tmp_path / "r", lines, result=old, config={"adapt": {"rounds": 6}})))
    assert headline(page).startswith("Unfinished, 3 of 6 rounds done: mAP 48.1 after round 3")
    assert "adapted (final)" not in rounds_table(page)


@pytest.mark.parametrize("tail", ['{"event": "round", "round": 3, "mAP": 0.', "{", '{"event": "epoch", "round": 3, "x": "ä'])
def test_a_half_written_last_line_is_ignored(tmp_path: Path, tail: str) -> None:
    lines = lines_of(2)
    whole, cut = write_run(tmp_path / "a" / "r", lines), write_run(tmp_path / "b" / "r", lines)
    with (cut / "metrics.jsonl").open("ab") as file:
        file.write(tail.encode()[:-1] if tail.endswith("ä") else tail.encode())
    assert write_report(whole).read_bytes() == write_report(cut).read_bytes()


def test_pre_training_only(tmp_path: Path) -> None:
    page = read(write_report(write_run(tmp_path / "r", lines_of(0))))
    check_page(page)
    assert titles(page) == {"CMC curve", "Losses over epochs", "Time per stage", "Learning rate"}
    assert headline(page) == "Unfinished, 0 of 3 rounds done: direct transfer mAP 33.4."
    assert list(rounds_table(page)) == ["source, in domain", "direct transfer"]


def test_in_the_middle_of_pre_training(tmp_path: Path) -> None:
    page = read(write_report(write_run(tmp_path / "r", lines_of(0)[:2])))
    check_page(page)
    assert headline(page) == "Unfinished: still pre-training on the source."


def test_nothing_but_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("source: {data: a/m.arrow}\ntarget: {data: d.arrow}\n")
    page = read(write_report(tmp_path))
    check_page(page)
    assert not page.all("figure")
    assert (page.one("h1").text, headline(page)) == ("m → d", "Unfinished: nothing has been trained yet.")


def test_no_evaluation(tmp_path: Path) -> None:
    page = read(write_report(whole_run(tmp_path / "r", tested=False)))
    check_page(page)
    assert titles(page) == EVERY_FIGURE - {"Accuracy over rounds", "CMC curve"}
    assert headline(page) == "Adapted in 3 rounds. The target has no test set, so accuracy was not measured."
    assert "neither domain has a test set" in page.text
    assert [row["mAP"] for row in rounds_table(page).values()] == ["–"] * 3


def test_only_the_last_round_was_measured(tmp_path: Path) -> None:
    lines = lines_of(3)
    for line in lines:
        if line["event"] == "round" and line["round"] in (1, 2):
            for key in ("mAP", "mAP_hits", "mAP_trapezoid", "cmc", "rank1", "rank5", "rank10", "rank20"):
                del line[key]
    page = read(write_report(write_run(tmp_path / "r", lines, result=result_of(lines))))
    check_page(page)
    assert [row["mAP"] for row in rounds_table(page).values()] == ["82.2", "33.4", "–", "–", "48.1", "48.1"]
    assert len(figure(page, "Accuracy over rounds").one("table").rows()) == 3


def test_no_pre_training_and_no_labels_kept(tmp_path: Path) -> None:
    lines = [line for line in lines_of(2) if line["event"] != "epoch" or line["round"] > 0]
    run = write_run(tmp_path / "r", lines, result=result_of(lines))
    (run / "labels" / "round-02.npz").write_bytes(b"PK broken")
    page = read(write_report(run))
    check_page(page)
    assert titles(page) == EVERY_FIGURE - {"Cluster sizes"}
    assert figure(page, "Time per stage").one("table").rows()[1][0] == "round 1"


@pytest.mark.parametrize(
    "bad", ["<b>&", "<img src=http://x.example/a onerror=alert(1)>&\"'</style><script>", "{{ page }}{% raw %}"]
)
def test_everything_is_escaped(tmp_path: Path, bad: str) -> None:
    lines = lines_of(1)
    lines[-1]["ap"] = lines[3]["direct_transfer"]["ap"] = bad
    config = {bad: bad, "target": {"data": bad, "cameras": [bad]}}
    run = write_run(tmp_path / "r", lines, result=result_of(lines, source=bad, target=bad), config=config)
    page = read(write_report(run, defaults=DEFAULTS))
    check_page(page)
    assert not page.all("img")
    assert len(page.all("b")) == len(figure(page, "Losses over epochs").all("svg")), "only those of the template"
    assert page.one("h1").text == f"{bad} → {bad}"
    settings = {row[0]: row[1] for table in page.all("section")[-1].all("table") for row in table.rows()}
    assert (settings[bad], settings["target.cameras"]) == (bad, f"[{bad}]")
    assert f"average precision by {bad}" in page.text


def test_the_configuration_shows_first_what_differs(tmp_path: Path) -> None:
    run = whole_run(tmp_path / "r")
    changed, same = (
        d.one("table").rows()[1:] for d in read(write_report(run, defaults=DEFAULTS)).all("section")[-1].all("details")
    )
    assert sorted(changed) == [
        ["adapt.rounds", "3", "5"],
        ["seed", "3", "0"],
        ["source.data", "x/day.arrow", ""],
        ["target.data", "x/night.arrow", ""],
    ]
    assert sorted(same) == [["adapt.epochs", "260"], ["method", "daam"]]
    every = read(write_report(run)).all("section")[-1].one("details").one("table").rows()[1:]
    assert sorted(every) == sorted([*same, *(row[:2] for row in changed)])


def test_versions_and_machine_are_shown(tmp_path: Path) -> None:
    run = whole_run(tmp_path / "r")
    machine = {"os": "Linux 6", "cpu": "<Fast>", "cores": 8, "memory_bytes": 2**34, "gpus": ["H200", "H200"], "cuda": "13.0"}
    kept = {"started": "2026-11-20T10:00:00+00:00", "versions": {"distreid": "0.1", "torch": "2.9"}, "machine": machine}
    (run / "environment.json").write_text(json.dumps(kept))
    page = read(write_report(run))
    check_page(page)
    rows = {row[0]: row[1] for row in page.all("section")[-1].all("table")[0].rows()[1:]}
    assert rows == {
        "started": "2026-11-20 10:00:00 UTC", "software": "distreid 0.1, torch 2.9",
        "machine": "<Fast>, 8 cores, 16 GiB memory, Linux 6", "GPUs": "2 × H200 (CUDA 13.0)",
    }  # fmt: skip


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    run = whole_run(tmp_path / "r")
    assert write_report(run).read_bytes() == write_report(run).read_bytes()


def broken(tmp_path: Path, name: str, text: str) -> Path:
    run = whole_run(tmp_path / "r")
    (run / name).write_text(text)
    return run


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "metrics.jsonl",
            '{"event": "round", "round": 0}\n{"eve\n{"event": "labels", "round": 1}\n',
            "metrics.jsonl, line 2: not JSON",
        ),
        ("metrics.jsonl", "[1]\n", "metrics.jsonl, line 1: expected an object"),
        ("result.json", '{"method": ', "result.json: not a JSON object"),
        ("result.json", "[]", "result.json: not a JSON object"),
        ("environment.json", "7", "environment.json: not a JSON object"),
        ("config.yaml", "a: [", "config.yaml: cannot be read"),
        ("config.yaml", "- a", "config.yaml: expected keys and values"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        write_report(broken(tmp_path, name, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_folder_that_is_no_run(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=rf"{name} is not a run: it holds no config.yaml") as caught:
        write_report(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_page_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    run = whole_run(tmp_path / "r")
    (run / "report.html").mkdir()
    with pytest.raises(UserError, match=r"report\.html: is a folder"):
        write_report(run)
    assert not list(run.glob(".report*"))
