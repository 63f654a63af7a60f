"""What holds for every page, and how its parts are found."""

import base64
import csv
import io
import re

from tests.report.document import Node


def titles(page: Node) -> set[str]:
    return {node.one("strong").text for node in page.all("figure")}


def headline(page: Node) -> str:
    (found,) = [node.text for node in page.all("p") if node.attributes.get("class") == "headline"]
    return found


def rounds_table(page: Node) -> dict[str, dict[str, str]]:
    head, *rows = page.all("section")[0].all("table")[0].rows()
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def check_page(page: Node) -> None:
    """What holds for every page: nothing from outside, every figure with its words and its data."""
    identities = [node.attributes["id"] for node in page.walk() if "id" in node.attributes]
    assert len(identities) == len(set(identities))
    assert not [node for tag in ("script", "iframe", "object", "embed", "base", "form") for node in page.all(tag)]
    for node in page.walk():
        for name, value in node.attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "xlink:href", "action", "poster", "data"):
                assert value is not None
                assert value.startswith("data:") or (name == "href" and value[1:] in identities)
            assert "://" not in (value or "")
    assert not re.search(r"url\(|@import|://", page.one("style").text)
    for drawn in page.all("figure"):
        pictures = drawn.all("svg") + drawn.all("img")
        assert pictures
        for svg in drawn.all("svg"):
            assert svg.attributes["role"] == "img"
            for link, tag in (("aria-labelledby", "title"), ("aria-describedby", "desc")):
                (words,) = [node for node in svg.all(tag) if node.attributes.get("id") == svg.attributes[link]]
                assert words.text.strip()
        assert all((image.attributes["alt"] or "").strip() for image in drawn.all("img"))
        assert len(csv_of(drawn)) > 1
        for shown in drawn.all("details"):
            assert len(shown.one("table").rows()) == len(csv_of(drawn))
        assert not re.search(r"\b(nan|None|inf)\b", drawn.text)


def csv_of(drawn: Node) -> list[list[str]]:
    """The figure's data file."""
    (link,) = [node for node in drawn.all("a") if node.attributes.get("download")]
    kind, _, content = (link.attributes["href"] or "").partition(",")
    assert kind == "data:text/csv;charset=utf-8;base64"
    rows = list(csv.reader(io.StringIO(base64.b64decode(content).decode())))
    assert all(len(row) == len(rows[0]) for row in rows)
    return rows
