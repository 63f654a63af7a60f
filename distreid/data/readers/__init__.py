"""One function a data set format. A new one is a function ``Path -> Dataset`` and a line in `READERS`."""

from collections.abc import Callable
from pathlib import Path

from distreid.common.errors import UserError
from distreid.data.readers import cuhk03, dukemtmc, market1501, msmt17, own, prid2011, table, veri776
from distreid.data.records import Dataset

READERS: dict[str, Callable[..., Dataset]] = {
    "market1501": market1501.read,
    "dukemtmc": dukemtmc.read,
    "msmt17": msmt17.read,
    "veri776": veri776.read,
    "cuhk03": cuhk03.read_labeled,
    "cuhk03-detected": cuhk03.read_detected,
    "prid2011": prid2011.read,
    "names": own.read_names,
    "identities": own.read_identities,
    "table": table.read,
    "cameras": own.read_cameras,
    "folder": own.read_folder,
}
TAKE_PATTERN = ("names", "identities", "folder")
"""Formats whose readers take a regular expression beside the folder."""


def read_dataset(root: Path | str, format: str, pattern: str = "") -> Dataset:
    """Lists the images below ``root``, or those of the table ``root``, with their labels; opens none of them.

    ``pattern`` says where the formats of `TAKE_PATTERN` find identity and camera in a file's name. Raises `UserError` for an
    unknown ``format``, a pattern where none belongs, and anything wrong with the folder (see the readers).
    """
    if format not in READERS:
        raise UserError(f"unknown data set format '{format}'; choose one of {', '.join(READERS)}")
    if pattern and format not in TAKE_PATTERN:
        raise UserError(f"--format {format} takes no pattern; {', '.join(TAKE_PATTERN)} do")
    try:
        return READERS[format](Path(root), pattern) if pattern else READERS[format](Path(root))
    except OSError as error:
        raise UserError(f"{error.filename or root}: cannot be read ({error.strerror}); check its permissions") from None
