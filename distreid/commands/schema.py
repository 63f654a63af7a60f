"""`distreid schema`."""

from __future__ import annotations

import json
from pathlib import Path


def schema(*, method: str | None = None, out: Path | None = None) -> None:
    """The JSON schema of a configuration: an editor completes keys and marks mistakes with it.

    A file names it in its first line: `# yaml-language-server: $schema=schema.json`.

    Args:
        method: Leave out what belongs to other methods alone.
        out: Write this file in place of standard output.
    """
    from distreid.common.files import atomic_write
    from distreid.config import json_schema
    from distreid.methods.registry import find

    found = json_schema(find(method).name) if method else json_schema()
    text = json.dumps(found, indent=2, ensure_ascii=False)
    if out is None:
        print(text)
        return
    with atomic_write(out) as stream:
        stream.write(f"{text}\n".encode())
