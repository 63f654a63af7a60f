"""`distreid schema`."""

from __future__ import annotations

import json
from pathlib import Path


def schema(*, method: str | None = None, sweep: bool = False, out: Path | None = None) -> None:
    """The JSON schema of a configuration, or of a sweep file: an editor completes keys and marks mistakes with it.

    A file names it in its first line: `# yaml-language-server: $schema=schema.json`.

    Args:
        method: Leave out what belongs to other methods alone.
        sweep: That of a sweep file.
        out: Write this file in place of standard output.
    """
    from distreid.common.errors import UserError
    from distreid.common.files import atomic_write
    from distreid.config import json_schema
    from distreid.methods.registry import find

    if sweep:
        if method:
            raise UserError("--sweep and --method: a sweep file has the keys of all methods; leave one of the two out")
        from distreid.sweeps.schema import sweep_schema

        found = sweep_schema()
    else:
        found = json_schema(find(method).name) if method else json_schema()
    text = json.dumps(found, indent=2, ensure_ascii=False)
    if out is None:
        print(text)
        return
    with atomic_write(out) as stream:
        stream.write(f"{text}\n".encode())
