import itertools
import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distreid.report.charts import Band, histogram, line_chart, stacked_bars
from distreid.report.html import chart_svg
from distreid.report.marks import Line, make_axis
from tests.report.document import Node, parse

FINITE = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-3)


@settings(deadline=None)  # a busy machine is no fault of the axis
@given(st.lists(FINITE, min_size=1, max_size=9), st.booleans(), st.booleans(), st.booleans())
def test_an_axis_holds_its_values_and_has_readable_ticks(values: list[float], zero: bool, whole: bool, fit: bool) -> None:
    axis = make_axis(values, 10, 110, zero=zero, whole=whole, fit=fit)
    slack = 1e-9 * (abs(axis.low) + abs(axis.high))
    assert axis.low - slack <= min(values) <= max(values) <= axis.high + slack
    assert not zero or axis.low - slack <= 0
    assert len(axis.ticks) <= 14
    assert all(axis.low - slack <= tick <= axis.high + slack for tick in axis.ticks)
    texts = [axis.text(tick).replace(",", "") for tick in axis.ticks]
    assert len(set(texts)) == len(texts)
    assert [float(text) for text in texts] == pytest.approx(axis.ticks, abs=1e-6 * axis.step)
    assert not whole or all(tick == int(tick) for tick in axis.ticks)


def scale(svg: Node, anchor: str, place: str) -> Callable[[float], float]:
    """From pixels to values, by the first and the last label of an axis."""
    labels = [node for node in svg.all("text") if node.attributes["text-anchor"] == anchor and is_number(node.text)]
    shift = 4 if place == "y" else 0  # a label's baseline stands lower than its tick
    at = [float(node.attributes[place] or "") - shift for node in (labels[0], labels[-1])]
    value = [float(node.text.replace(",", "")) for node in (labels[0], labels[-1])]
    return lambda pixel: value[0] + (pixel - at[0]) / (at[1] - at[0]) * (value[1] - value[0])


def is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "").removeprefix("-").isdigit()


def draw(lines: list[Line], **how: object) -> Node:
    chart = line_chart("c", "Title", "Words", lines, x_label="round", y_label="%", text=str, **how)  # type: ignore[arg-type]
    return parse(chart_svg(chart)).one("svg")


@pytest.mark.parametrize("zero", [False, True])
def test_points_stand_where_their_values_are(zero: bool) -> None:
    values = [(0, 37.8), (1, 51.0), (2, 48.25), (4, 61.2)]
    svg = draw([Line("mAP", values, 1), Line("Rank-1", [(0, 55.5), (4, 80.0)], 2)], zero=zero)
    x, y = scale(svg, "middle", "x"), scale(svg, "end", "y")
    seen = [(x(float(c.attributes["cx"] or "")), y(float(c.attributes["cy"] or ""))) for c in svg.all("circle")]
    for (at, value), want in zip(seen, [*values, (0, 55.5), (4, 80.0)], strict=True):
        assert (at, value) == pytest.approx(want, abs=0.05)
    assert svg.all("circle")[1].text == "mAP, 1: 51.0"


def test_a_gap_breaks_the_line_and_a_lone_point_stays_visible() -> None:
    svg = draw([Line("a", [(1, 1.0), (2, 2.0), (3, None), (4, math.nan), (5, 3.0), (6, None)], 1)])
    (path,) = [node.attributes["d"] or "" for node in svg.all("path") if "line" in (node.attributes["class"] or "")]
    assert path.count("M") == 2
    assert path.count("L") == 1
    assert path.endswith("h0")
    assert "nan" not in path
    assert len(svg.all("circle")) == 3


def test_a_long_line_has_no_points_and_a_reference_is_dashed() -> None:
    svg = draw([Line("loss", [(k, k) for k in range(200)], 1), Line("old", [(0, 3), (199, 3)], 2, dashed=True)])
    assert not svg.all("circle")
    assert [("dashed" in (n.attributes["class"] or "")) for n in svg.all("path") if "line" in (n.attributes["class"] or "")] == [
        False,
        True,
    ]


@pytest.mark.parametrize("end", [0.0, 0.5, 0.99])
def test_names_at_the_ends_do_not_touch_or_leave_the_chart(end: float) -> None:
    svg = draw([Line(f"line {k}", [(0, 1), (1, end + 0.001 * k)], 1 + k % 4) for k in range(5)])
    places = sorted(float(n.attributes["y"] or "") for n in svg.all("text") if n.text.startswith("line"))
    assert all(below - above >= 13.9 for above, below in itertools.pairwise(places))
    height = float((svg.attributes["viewbox"] or "").split()[-1])
    assert 0 < places[0] < places[-1] < height


def test_one_point_and_one_value_can_be_drawn() -> None:
    assert len(draw([Line("a", [(1, 0.0)], 1)]).all("circle")) == 1
    assert len(draw([Line("a", [(1, 5.0), (2, 5.0)], 1)], zero=False).all("circle")) == 2


def test_bands_cover_their_stretch() -> None:
    bands = [Band("pre-training", 0.5, 10.5), Band("round 1", 10.5, 20.5)]
    svg = draw([Line("a", [(k, k) for k in range(1, 21)], 1)], bands=bands)
    first, second = (node.attributes for node in svg.all("rect"))
    assert float(first["x"] or "") + float(first["width"] or "") == pytest.approx(float(second["x"] or ""), abs=0.11)
    assert first["width"] == second["width"]
    assert {"pre-training", "round 1"} <= {node.text for node in svg.all("text")}


def test_stacked_bars_are_as_long_as_their_parts() -> None:
    bars = [("before", [0.0, 30.0]), ("round 1", [10.0, 50.0])]
    svg = parse(chart_svg(stacked_bars("s", "Time", "Words", ["label", "train"], bars, "{:.0f} s".format))).one("svg")
    boxes = [node for node in svg.all("rect") if "bar" in (node.attributes["class"] or "")]
    assert [box.text for box in boxes] == ["before, train: 30 s", "round 1, label: 10 s", "round 1, train: 50 s"]
    widths = [float(box.attributes["width"] or "") for box in boxes]
    assert widths == pytest.approx([30 * widths[2] / 50, 10 * widths[2] / 50, widths[2]], abs=0.1)
    assert float(boxes[2].attributes["x"] or "") == pytest.approx(float(boxes[1].attributes["x"] or "") + widths[1], abs=0.11)
    assert {"30 s", "60 s"} <= {node.text for node in svg.all("text")}


def test_histogram_bars_are_as_high_as_their_counts() -> None:
    chart = histogram("h", "Sizes", "Words", [("4–5", 3), ("6–7", 0), ("8", 12)], x_label="x", y_label="y")
    svg = parse(chart_svg(chart)).one("svg")
    heights = [float(box.attributes["height"] or "") for box in svg.all("rect")]
    assert heights == pytest.approx([heights[2] / 4, 0, heights[2]], abs=0.1)


def test_names_are_escaped() -> None:
    bad = "<script>&\"'"
    for chart in (
        line_chart("i", bad, bad, [Line(bad, [(0, 1)], 1)], x_label=bad, y_label="y", text=str, bands=[Band(bad, 0, 9)]),
        stacked_bars("i", bad, bad, [bad], [(bad, [1.0])], str),
        histogram("i", bad, bad, [(bad, 1)], x_label=bad, y_label=bad),
    ):
        tree = parse(chart_svg(chart))
        assert not tree.all("script")
        assert bad in [node.text for node in tree.all("text")]
        assert tree.one("desc").text == bad
