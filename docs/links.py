"""A hook of mkdocs: links to files of the repository work on GitHub; on the site, which has the docs alone, they are plain text."""

import re
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)]*\)", r"\1", markdown)
