"""What the authors of a data set say that it holds, beside what is here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from distreid.common.text import plural
from distreid.data.readers.files import sample
from distreid.data.records import UNKNOWN, Record

NEARLY = 0.9
"""From this share of the published identities on, a folder is taken for the data set itself, and what it lacks for a fault."""


@dataclass(frozen=True, slots=True)
class Published:
    """The images of a split, and the identities that are people looked for."""

    images: int
    identities: int


def compare(split: str, here: Published, published: Published, title: str) -> str:
    """One line: a split's counts, and how they differ from the published ones. Smaller sets in the same layout are no fault."""
    counts = f"{split}: {plural(here.images, 'image')} of {plural(here.identities, 'identity')}"
    if here == published:
        return f"{counts}, as published"
    compared = f"{counts} ({title} as published: {published.images:,} of {published.identities:,}"
    if not is_nearly(here, published):
        return f"{compared})"
    gaps = [
        f"{plural(abs(difference), noun)} {'more' if difference > 0 else 'missing'}"
        for difference, noun in (
            (here.images - published.images, "image"),
            (here.identities - published.identities, "identity"),
        )
        if difference
    ]
    return f"warning: {compared}; {' and '.join(gaps)})"


def is_nearly(here: Published, published: Published) -> bool:
    return here.identities >= NEARLY * published.identities


def camera_note(records: Iterable[Record], cameras: int, title: str) -> list[str]:
    """A warning for cameras 1 .. ``cameras`` that no image comes from, and for others that some do."""
    present = {record.camid for record in records}
    missing, strange = sorted(set(range(1, cameras + 1)) - present), sorted(present - set(range(1, cameras + 1)))
    lines = []
    if missing:
        lines.append(f"warning: no image of {_cameras(missing)}; {title} has cameras 1 to {cameras}, finish the download")
    if strange:
        lines.append(f"warning: images of {_cameras(strange)}; {title} has cameras 1 to {cameras}")
    return lines


def _cameras(numbers: Sequence[int]) -> str:
    return f"camera{'s' if len(numbers) > 1 else ''} {sample(numbers, 8)}"


def lonely_queries(records: Sequence[Record]) -> list[str]:
    """A warning for queries whose identity the gallery shows under no other camera: evaluation leaves them out of its means.

    An unknown camera (-1) is another one than every other.
    """
    views: dict[int, set[int]] = {}
    for record in records:
        if record.split == "gallery":
            views.setdefault(record.pid, set()).add(record.camid)
    queries = [record for record in records if record.split == "query"]
    lonely = [record.path.name for record in queries if not views.get(record.pid, set()) - ({record.camid} - {UNKNOWN})]
    if not lonely or not views:
        return []
    if len(lonely) == len(queries):
        return ["warning: no query has a gallery image of its identity under another camera, so it cannot be evaluated on"]
    return [
        f"warning: {plural(len(lonely), 'query')} without a gallery image of the same identity under another camera "
        f"({sample(lonely)}), left out of all means"
    ]


def counted(records: Sequence[Record], splits: Mapping[str, Published]) -> dict[str, Published]:
    """The images and identities of each split."""
    pids = {split: [record.pid for record in records if record.split == split] for split in splits}
    return {split: Published(len(own), len(set(own))) for split, own in pids.items()}
