"""Regular expressions that say where identity and camera stand in a file's name."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from distreid.common.errors import UserError
from distreid.common.text import plural
from distreid.data.readers.files import sample
from distreid.data.readers.labelled import WHOLE
from distreid.data.records import UNKNOWN

GROUPS = ("pid", "camid")
NOBODY = "-1"  # Market-1501's name for boxes that show no person


def compile_pattern(pattern: str, needed: str) -> re.Pattern[str]:
    """Raises `UserError` where ``pattern`` is no regular expression, lacks the group ``needed`` or has one that nobody knows."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"pattern '{pattern}' is no regular expression ({error}); see Python's re") from None
    strange = [group for group in compiled.groupindex if group not in GROUPS]
    if needed not in compiled.groupindex or strange:
        fault = f"has a group {strange[0]}" if strange else f"lacks the group {needed}"
        raise UserError(f"pattern '{pattern}' {fault}; groups are (?P<pid>…), the identity, and (?P<camid>…), the camera's number")
    return compiled


def match_all(root: Path, paths: Sequence[Path], below: Callable[[Path], Path], pattern: re.Pattern[str]) -> list[re.Match[str]]:
    """Where each path matches, anywhere in its name; a pattern with a ``/`` is looked for in the path below ``below(path)``.

    Raises `UserError`, with how many and the first of them, for paths that do not match.
    """
    deep = "/" in pattern.pattern
    texts = [path.relative_to(below(path)).as_posix() if deep else path.name for path in paths]
    matches = [pattern.search(text) for text in texts]
    bad = [text for text, match in zip(texts, matches, strict=True) if match is None]
    if bad:
        raise UserError(
            f"{root}: {len(bad):,} of {plural(len(paths), 'image')} do not match the pattern '{pattern.pattern}': {sample(bad)}; "
            "mend it, or move them away"
        )
    return [match for match in matches if match]


def pid_of(match: re.Match[str]) -> str | None:
    """The identity; None for nobody."""
    pid = match["pid"]
    return None if pid in (None, "", NOBODY) else pid


def camid_of(match: re.Match[str], root: Path) -> int:
    """The camera's number, -1 where the pattern knows none. Raises `UserError` for one that is no whole number."""
    camid = match.groupdict().get("camid")
    if camid is None:
        return UNKNOWN
    return whole_camid(camid, f"{root}: {match.string}")


def whole_camid(text: str, place: str) -> int:
    """Raises `UserError`, which begins with ``place``, for a camera that is no whole number."""
    if not WHOLE.fullmatch(text):
        raise UserError(f"{place}: the camera '{text}' is not a whole number; number the cameras")
    return int(text)
