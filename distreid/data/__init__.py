"""Data: readers, drawn pedestrians, the Arrow image store, selections of it, and what the training step samples from it."""

from distreid.data.derived import derive
from distreid.data.info import contact_sheet, describe, format_description
from distreid.data.merging import merge, selected, sets_of, whole
from distreid.data.packing import PackSummary, pack
from distreid.data.readers import READERS, read_dataset
from distreid.data.selection import Domain, Split, relabel, select
from distreid.data.store import ImageStore

__all__ = [
    "READERS",
    "Domain",
    "ImageStore",
    "PackSummary",
    "Split",
    "contact_sheet",
    "derive",
    "describe",
    "format_description",
    "merge",
    "pack",
    "read_dataset",
    "relabel",
    "select",
    "selected",
    "sets_of",
    "whole",
]
