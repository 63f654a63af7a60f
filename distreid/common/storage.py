"""Files at a URI that pyarrow.fs knows (``s3://``, ``gs://``, ``file://``). Ground, like `files`.

Credentials come from the environment, as pyarrow reads them; none is ever written down here.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from pyarrow import fs

from distreid.common.errors import UserError
from distreid.common.files import atomic_write, locked
from distreid.common.text import first_line

Stamp = list[int]  # size in bytes, time of change in nanoseconds, as a listing tells them
T = TypeVar("T")

PAUSES = (1.0, 3.0)  # seconds before another try; pyarrow's S3 client itself tries for 6 s to connect
GCS_RETRIES = 30  # seconds that pyarrow's GCS client tries on its own; its default is 15 minutes without a word
CHUNK = 1 << 20
_CUT = "the answer was cut short"
_LASTING = re.compile(  # another try would end as this one: by the error codes of S3 and of Google
    r"ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|MISSING_AUTHENTICATION|EXPIRED_TOKEN|"
    r"PERMISSION_DENIED|UNAUTHENTICATED|NOT_FOUND|Retry policy exhausted|resolve host|HTTP Status 301"
)


def is_uri(text: str | Path) -> bool:
    return "://" in str(text)


def cache_folder() -> Path:
    """Where this user's copies and packed folders lie on this machine."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distreid"


class Storage:
    """A folder, or a file, at a URI. What fails for the moment is tried again; what goes on failing is one `UserError`.

    Files in it are named by their path below the URI, the URI's own file by "".
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        if uri.startswith(("gs://", "gcs://")) and "retry_limit_seconds=" not in uri:
            uri += f"{'&' if '?' in uri else '?'}retry_limit_seconds={GCS_RETRIES}"
        try:
            self._system, path = fs.FileSystem.from_uri(uri)
        except (OSError, ValueError) as error:
            raise UserError(f"{self.uri}: no address that pyarrow can open ({_said(error)})") from None
        self._root = path.rstrip("/")
        self.name = PurePosixPath(self._root).name

    def list(self) -> dict[str, Stamp]:
        """Every file below, but hidden ones, by name."""

        def listed() -> dict[str, Stamp]:
            found = self._system.get_file_info(fs.FileSelector(self._root, allow_not_found=True, recursive=True))
            files = {os.path.relpath(info.path, self._root): info for info in found if info.type == fs.FileType.File}
            return {name: _stamp(files[name]) for name in sorted(files) if not hidden(name)}

        return self._patiently("read", listed)

    def stamp(self, name: str = "") -> Stamp | None:
        """None where there is no such file."""
        info = self._patiently("read", lambda: self._system.get_file_info(self._at(name)))
        return _stamp(info) if info.type == fs.FileType.File else None

    def read(self, name: str) -> bytes | None:
        """A small file that is not empty; None where there is none."""

        def content() -> bytes | None:
            try:
                with self._system.open_input_stream(self._at(name)) as source:
                    found = source.read()
            except FileNotFoundError:
                return None
            if not found:
                raise _Unreadable(_CUT)
            return found

        return self._patiently("read", content)

    def write(self, name: str, content: bytes) -> None:
        """A small file."""

        def written() -> None:
            with self._whole(name) as there, self._system.open_output_stream(there) as sink:
                sink.write(content)

        self._patiently("written", written)

    def download(self, name: str, out: Path, size: int) -> None:
        """Into ``out``, which is whole or as it was; ``size`` as a stamp tells it."""

        def downloaded() -> None:
            with atomic_write(out) as sink:
                for chunk in self._chunks(name):
                    sink.write(chunk)
                if sink.tell() != size:  # pyarrow believes an answer whose head was cut off, and takes the file for empty
                    raise _Unreadable(_CUT)

        self._patiently("read", downloaded)

    def upload(self, file: Path, name: str) -> None:
        def uploaded() -> None:
            # Not through Python: an interrupt between two writes would close the stream, and half a file would be taken for whole.
            with self._whole(name) as there:
                fs.copy_files(str(file), there, source_filesystem=fs.LocalFileSystem(), destination_filesystem=self._system)

        self._patiently("written", uploaded)

    def delete(self, name: str) -> None:
        self._patiently("written", lambda: self._system.delete_file(self._at(name)))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _chunks(self, name: str) -> Iterator[bytes]:
        try:
            with self._system.open_input_stream(self._at(name)) as source:
                while chunk := source.read(CHUNK):
                    yield chunk
        except OSError as error:
            raise _Unreadable(str(error)) from None  # so that it is not taken for an error in writing the copy

    @contextmanager
    def _whole(self, name: str) -> Iterator[str]:
        """Where to write so that nobody sees half of it: an object store shows what is whole, a file system needs a second name."""
        there = self._at(name)
        if not isinstance(self._system, fs.LocalFileSystem | fs.HadoopFileSystem):
            yield there
            return
        self._system.create_dir(there.rpartition("/")[0], recursive=True)
        yield f"{there}.part"
        self._system.move(f"{there}.part", there)

    def _patiently(self, done: str, action: Callable[[], T]) -> T:
        pauses = list(PAUSES)
        while True:
            try:
                return action()
            except (OSError, _Unreadable) as error:
                if not pauses or _LASTING.search(str(error)) or isinstance(error, FileNotFoundError | PermissionError):
                    raise UserError(f"{self.uri}: cannot be {done} ({_said(error)}); {_advice(error)}") from None
                time.sleep(pauses.pop(0))


class _Unreadable(Exception):  # noqa: N818 - never seen outside
    """An `OSError` of the storage while a copy is being written."""


def local_copy(uri: str) -> Path:
    """The file at ``uri``, fetched once: the processes of a node share the copy, a changed file is fetched again.

    Raises:
        UserError: the address is wrong, nothing is there, or the storage does not answer.
    """
    storage = Storage(uri)
    stamp = storage.stamp()
    if stamp is None:
        raise UserError(f"{uri}: no such file; check the address")
    name = hashlib.sha256(f"{uri} {stamp}".encode()).hexdigest()[:16]
    copy = cache_folder() / "fetched" / name / storage.name
    with locked(copy.with_name("lock")):
        if not copy.exists():
            storage.download("", copy, stamp[0])
    return copy


def hidden(name: str) -> bool:
    return any(part.startswith(".") for part in Path(name).parts) or name.endswith(".part")


def _stamp(info: Any) -> Stamp:
    return [info.size, info.mtime_ns or 0]


def _said(error: Exception) -> str:
    """What pyarrow says, without what Google's library repeats behind it."""
    text = first_line(error)
    google = re.search(r"google::cloud::Status\((.*?)( error_info=|\)?$)", text)
    return google[1] if google else text


def _advice(error: Exception) -> str:
    if "OAuth2" in str(error):
        return "log in to Google Cloud, or write gs://anonymous@BUCKET/… for a bucket that anyone may use"
    return "check the address and the credentials, or try again later"
