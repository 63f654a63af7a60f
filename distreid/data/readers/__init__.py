"""One module a data set format. A new one is a function ``Path -> Dataset`` and a line in `READERS`."""

from collections.abc import Callable
from pathlib import Path

from distreid.common.errors import UserError
from distreid.data.readers import cuhk03, dukemtmc, folder, market1501, msmt17, prid2011
from distreid.data.records import Dataset

READERS: dict[str, Callable[[Path], Dataset]] = {
    "market1501": market1501.read,
    "dukemtmc": dukemtmc.read,
    "msmt17": msmt17.read,
    "cuhk03": cuhk03.read_labeled,
    "cuhk03-detected": cuhk03.read_detected,
    "prid2011": prid2011.read,
    "folder": folder.read,
}


def read_dataset(root: Path | str, format: str) -> Dataset:
    """Lists the images below ``root`` with their labels; opens none of them.

    Raises `UserError` for an unknown ``format`` and for anything wrong with the folder (see the readers).
    """
    if format not in READERS:
        raise UserError(f"unknown data set format '{format}'; choose one of {', '.join(READERS)}")
    try:
        return READERS[format](Path(root))
    except OSError as error:
        raise UserError(f"{error.filename or root}: cannot be read ({error.strerror}); check its permissions") from None
