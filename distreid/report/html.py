"""Pages and charts as HTML: Jinja2 escapes whatever the templates do not say themselves."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from distreid.common.files import atomic_write
from distreid.report.marks import Chart
from distreid.report.parts import Page

_TEMPLATES = Environment(
    loader=PackageLoader("distreid.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def page_html(page: Page) -> str:
    """The page as one document without a script and without an external request."""
    return _TEMPLATES.get_template("page.html.j2").render(page=page)


def chart_svg(chart: Chart) -> str:
    return _TEMPLATES.get_template("chart.svg.j2").render(chart=chart)


def write_page(file: Path, page: Page) -> Path:
    """Writes the document, atomically."""
    with atomic_write(file) as stream:
        stream.write(page_html(page).encode())
    return file
