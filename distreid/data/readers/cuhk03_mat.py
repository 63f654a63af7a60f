"""``cuhk-03.mat``, the original download of CUHK03: a MATLAB 7.3 file, which is HDF5, with all images and 20 lists of test people.

Its variables ``labeled`` and ``detected`` are 5 × 1 cells, one for each pair of cameras, of people × 10 cells: columns 1 to 5 are
images of the pair's first view, 6 to 10 of its second, some of them empty. ``testsets`` is a 20 × 1 cell of 100 × 2 matrices
[pair, person], counted from 1. The other 1,367 people train.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distreid.common.errors import UserError
from distreid.common.text import plural
from distreid.data.readers.published import Published, compare
from distreid.data.records import SPLITS, Dataset, Protocol, Record

PUBLISHED = {"labeled": Published(14_096, 1_467), "detected": Published(14_097, 1_467)}
TESTSETS, TESTED = 20, 100
COLUMNS = 10  # of a person: five of each view


def read_classic(mat: Path, boxes: str) -> Dataset:
    """The 1367/100 protocol with ``boxes`` "labeled" or "detected".

    Pids count the people of all pairs from 1; camid 1 is the first view of a pair, 2 the second, as in CUHK03-NP. Raises
    `UserError` for a missing h5py, a file that is damaged or something else, and test lists that make no sense.
    """
    with _opened(mat) as file:
        try:
            cells = [
                file[reference][()] for reference in file[boxes][()].ravel()
            ]  # each [10, people]: HDF5 has MATLAB's axes reversed
            people = [cell.shape[1] for cell in cells]
            first = np.concatenate([[1], 1 + np.cumsum(people)])
            references: dict[str, Any] = {}
            pids: dict[str, int] = {}
            for pair, cell in enumerate(cells):
                for person, column in np.ndindex(people[pair], COLUMNS):
                    if file[cell[column, person]].ndim == 3:  # an empty cell is stored as its size
                        name = f"{pair + 1}_{person + 1:03d}_{1 + column // 5}_{column + 1:02d}.png"
                        references[name], pids[name] = cell[column, person], int(first[pair]) + person
            testsets = [file[reference][()].T.astype(int) for reference in file["testsets"][()].ravel()]
        except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
            raise UserError(f"{mat}: not CUHK03's file ({' '.join(str(error).split())[:120]}); download it again") from None
    test_pids = tuple(_tested(mat, number, rows, people, first) for number, rows in enumerate(testsets, start=1))
    if not test_pids:
        raise UserError(f"{mat}: its testsets are empty; download it again")
    tested = set(test_pids[0])
    records = [
        Record(mat / boxes / name, pid, int(name.split("_")[2]), "test" if pid in tested else "train") for name, pid in pids.items()
    ]
    records.sort(key=lambda record: (SPLITS.index(record.split), record.path.as_posix()))

    def pixels(record: Record) -> npt.NDArray[np.uint8]:
        with _opened(mat) as file:
            image_HWC = file[references[record.path.name]][()].T
        if image_HWC.dtype != np.uint8 or image_HWC.shape[2:] != (3,):
            raise ValueError(f"not an RGB image: {image_HWC.dtype} {list(image_HWC.shape)}")
        return image_HWC

    return Dataset(
        mat.resolve().parent.name,
        "cuhk03" if boxes == "labeled" else "cuhk03-detected",
        mat.parent,
        tuple(records),
        tuple(_notes(boxes, records, test_pids)),
        Protocol("single_shot", test_pids),
        pixels,
    )


@contextmanager
def _opened(mat: Path) -> Iterator[Any]:
    try:
        import h5py
    except ModuleNotFoundError:
        raise UserError(f"{mat}: reading it needs h5py: pip install 'distreid[cuhk03]'") from None
    try:
        with h5py.File(mat, "r") as file:
            yield file
    except OSError as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{mat}: damaged, cut short or no MATLAB 7.3 file ({reason}); download it again") from None


def _tested(
    mat: Path, number: int, rows_P2: npt.NDArray[np.int64], people: list[int], first: npt.NDArray[np.int64]
) -> tuple[int, ...]:
    """The pids of one test list."""
    pids = []
    for pair, person in rows_P2.reshape(-1, 2).tolist():
        if not (1 <= pair <= len(people) and 1 <= person <= people[pair - 1]):
            raise UserError(
                f"{mat}: testset {number} names person {person} of camera pair {pair}, who is not there; download it again"
            )
        pids.append(int(first[pair - 1]) + person - 1)
    if not pids or len(set(pids)) < len(pids):
        raise UserError(f"{mat}: testset {number} is empty or names a person twice; download it again")
    return tuple(sorted(pids))


def _notes(boxes: str, records: list[Record], test_pids: tuple[tuple[int, ...], ...]) -> Iterator[str]:
    here = Published(len(records), len({record.pid for record in records}))
    yield compare(f"{boxes} boxes", here, PUBLISHED[boxes], "CUHK03")
    sizes = sorted({len(pids) for pids in test_pids})
    compared = "as published" if (len(test_pids), sizes) == (TESTSETS, [TESTED]) else f"as published: {TESTSETS} of {TESTED}"
    counts = f"{plural(len(test_pids), 'test list')} of {' to '.join(map(str, sizes))} identities"
    yield f"{counts} ({compared}); the splits shown are the first's"
