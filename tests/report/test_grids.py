"""Heat maps and level charts: what is drawn is what was given."""

import pytest

from distreid.report.charts import heat_map, level_chart
from distreid.report.html import chart_svg
from distreid.report.marks import Line
from tests.report.document import parse


def test_a_heat_map_is_darker_where_the_value_is_larger_and_empty_where_there_is_none() -> None:
    values = [[1.0, 3.0], [None, 2.0], [float("nan"), 1.0]]
    chart = heat_map(
        "h", "T", "Words", ["2", "4"], ["0.1", "0.2", "0.3"], values, x_label="M", y_label="p", text="{:.0f}".format, chosen=(0, 1)
    )
    svg = parse(chart_svg(chart)).one("svg")
    cells = [box for box in svg.all("rect") if box.all("title")]
    assert [box.one("title").text for box in cells][:3] == ["M 2, p 0.1: 1", "M 4, p 0.1: 3", "M 2, p 0.2: none"]
    shades = [float(box.attributes.get("fill-opacity") or 0) for box in cells]
    assert shades == pytest.approx([0.08, 0.8, 0, 0.44, 0, 0.08])
    (frame,) = [box for box in svg.all("rect") if "line" in (box.attributes["class"] or "")]
    assert float(frame.attributes["x"] or "") == pytest.approx(float(cells[1].attributes["x"] or "") - 0.5, abs=0.11)
    assert heat_map("h", "T", "W", ["a"], ["b"], [[None]], x_label="x", y_label="y", text=str)


def test_a_level_chart_has_a_point_for_every_value() -> None:
    lines = [Line("ours", [(0, 10.0), (1, None), (2, 30.0)], 1)]
    chart = level_chart("l", "T", "Words", ["0.001", "0.01", "0.1"], lines, x_label="p", y_label="mAP", text="{:.1f}".format)
    svg = parse(chart_svg(chart)).one("svg")
    points = svg.all("circle")
    assert [point.text for point in points] == ["ours, p 0.001: 10.0", "ours, p 0.1: 30.0"]
    first, last = (float(point.attributes["cx"] or "") for point in points)
    assert first < last and {"0.001", "ours", "mAP"} <= {node.text for node in svg.all("text")}


def test_names_are_escaped() -> None:
    bad = "<script>&\"'"
    for chart in (
        heat_map("i", bad, bad, [bad], [bad], [[1.0]], x_label=bad, y_label=bad, text=str),
        level_chart("i", bad, bad, [bad], [Line(bad, [(0, 1.0)], 1)], x_label=bad, y_label=bad, text=str),
    ):
        tree = parse(chart_svg(chart))
        assert not tree.all("script") and tree.one("desc").text == bad
