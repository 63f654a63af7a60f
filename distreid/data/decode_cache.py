"""What an unfinished pack has already decoded, so that the next one need not do it again."""

import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_ENTRY = struct.Struct("<32sii")  # sha256 of the encoded image, its width and height


class DecodeCache:
    """The images known to decode: a hidden file beside the pack's output, appended to batch by batch, gone when the pack is done.

    An image is known by its bytes, not by its name, so whatever is replaced, renamed or mended in between is decoded again. A torn
    last entry is ignored. A list that cannot be written is none: the pack works without.
    """

    def __init__(self, out: Path) -> None:
        self._path = out.with_name(f".{out.name}.verified")
        self._sizes: dict[bytes, tuple[int, int]] = {}
        with suppress(OSError):
            data = self._path.read_bytes()
            whole = len(data) - len(data) % _ENTRY.size
            self._sizes = {digest: (width, height) for digest, width, height in _ENTRY.iter_unpack(data[:whole])}
            if whole < len(data):
                self._path.write_bytes(data[:whole])

    def __len__(self) -> int:
        return len(self._sizes)

    def size(self, digest: bytes) -> tuple[int, int] | None:
        """Width and height in pixels of an image that an earlier pack decoded."""
        return self._sizes.get(digest)

    def add(self, images: Iterable[tuple[bytes, int, int]]) -> None:
        """Note (digest, width, height) of images that have just been decoded."""
        fresh = b"".join(_ENTRY.pack(*image) for image in images if image[0] not in self._sizes)
        if fresh:
            with suppress(OSError), self._path.open("ab") as file:
                file.write(fresh)

    def forget(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
