"""A hook of mkdocs: links to files of the repository, which work on GitHub, are plain text on the site, which has the docs alone."""

import re
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)]*\)", r"\1", markdown)
