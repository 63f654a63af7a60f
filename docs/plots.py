"""Draws the curves of docs/results.md, docs/*.svg, with the report's own charts: python docs/plots.py

Each file is readable in light and dark: it brings its colours and its background.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from distreid.report.charts import level_chart
from distreid.report.html import chart_svg
from distreid.report.marks import Line

HERE = Path(__file__).parent
# Means over seeds 0 to 2 of `distreid table NAME --synthetic --seeds 0 1 2 --run`; the page has machine, date and deviations.
FIGURES = {
    "daam-figure-4": ("iteration", [1, 2, 3, 4, 5, 6], [58.9, 61.7, 63.4, 68.0, 70.7, 68.7], [72.1, 74.3, 74.6, 78.7, 82.2, 80.3]),
    "daam-figure-5": ("p", [0.00375, 0.0075, 0.015, 0.03, 0.06], [46.6, 55.7, 63.4, 67.4, 53.4], [59.2, 68.6, 74.6, 78.4, 65.0]),
    "daam-figure-6": (
        "M, min_samples", [2, 4, 6, 8, 10, 12, 14],
        [64.1, 63.4, 62.9, 59.6, 59.1, 52.3, 48.2], [76.1, 74.6, 75.3, 71.6, 71.3, 66.7, 60.2],
    ),
}  # fmt: skip


def style() -> str:
    """The page's colours and what it says of charts."""
    css = (resources.files("distreid.report") / "templates" / "style.css").read_text(encoding="utf-8")
    colours, charts = css.partition("/* Text */")[0], css.partition("/* Charts")[2].partition("@media")[0]
    rules = re.sub(r"^svg \{.*\n", "", f"{colours}/* Charts{charts}", flags=re.MULTILINE)
    return f"{rules}svg {{ font: 12px system-ui, sans-serif; }}\n"


def drawing(name: str) -> str:
    """One figure as a document of its own."""
    x_label, levels, mean_ap, rank1 = FIGURES[name]
    lines = [Line("mAP", list(enumerate(mean_ap)), 1), Line("Rank-1", list(enumerate(rank1)), 2)]
    title = f"mAP and Rank-1 in percent over {x_label}"
    described = "; ".join(f"{x_label} {at:g}: mAP {m}, Rank-1 {r}" for at, m, r in zip(levels, mean_ap, rank1, strict=True))
    text = "{:.1f} %".format
    names = [f"{level:g}" for level in levels]
    chart = level_chart(name, title, described, names, lines, x_label=x_label, y_label="percent", text=text)
    size = f'xmlns="http://www.w3.org/2000/svg" width="600" height="{1.5 * chart.height:g}"'
    back = f'<style>\n{style()}</style>\n<rect width="400" height="{chart.height}" rx="6" style="fill: var(--card)"/>\n'
    head, _, rest = chart_svg(chart).partition("\n")
    return f"{head.replace('<svg ', f'<svg {size} ', 1)}\n{back}{rest}\n"


if __name__ == "__main__":
    for name in FIGURES:
        (HERE / f"{name}.svg").write_text(drawing(name), encoding="utf-8")
