"""Groups `source`, `target` and `input`: the camera networks, and how their images reach the network."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.dataclasses import dataclass

from distreid.common.settings import SETTINGS, Number, Switch, Whole


def _half_open(bounds: list[int]) -> list[int]:
    if len(bounds) != 2 or not 0 <= bounds[0] < bounds[1]:
        raise ValueError("must be [start, stop) with 0 <= start < stop")
    return bounds


Range = Annotated[list[Whole], AfterValidator(_half_open), Field(json_schema_extra={"minItems": 2, "maxItems": 2})]


# `source.data=` on the command line is YAML's null.
Place = Annotated[str, BeforeValidator(lambda place: "" if place is None else place)]


@dataclass(config=SETTINGS)
class SetConfig:
    """A data set and what is taken of it: a packed ``.arrow`` file, or a folder or table that is packed on first use."""

    data: Place = Field(
        default="",
        description="path of the .arrow file, of the data set's folder or of a table; required (a few methods do without a source)",
    )
    format: str = Field(default="market1501", description="how to read a folder or a table: see `distreid pack --help`")
    pattern: str = Field(
        default="",
        description="formats names, identities, folder: a regular expression with the groups `(?P<pid>…)` and `(?P<camid>…)`",
    )
    cameras: list[Whole] | None = Field(
        default=None, description="keep only these cameras (the data set's own numbers); all when empty"
    )
    identities: Range | None = Field(default=None, description="[start, stop) over the sorted training identities; all when empty")
    no_cameras: Switch = Field(
        default=False, description="take every camera for unknown: a test leaves out nothing but the query itself"
    )
    holdout: Whole | None = Field(
        default=None, description="sets without query and gallery: the last n identities become the test set"
    )
    holdout_seed: Whole | None = Field(default=None, ge=0, description="of `holdout`: draw the n identities by this seed")
    split: Whole | None = Field(
        default=None, description="CUHK03 (classic) and PRID2011: which random split; when empty, training takes the first"
    )


@dataclass(config=SETTINGS)
class DomainConfig(SetConfig):
    """A camera network: one data set or, as a list of them (``source: [a.arrow, {data: b, format: names}]``), several as one."""

    sets: list[SetConfig] | None = Field(
        default=None,
        description="several data sets, each with its own keys (from `data` to `split`); people and cameras are kept apart",
    )
    also: list[str] | None = Field(
        default=None, description="the short form of `sets` for more packed files, folders or tables that are read as `data` is"
    )
    balance: Switch = Field(
        default=False,
        description="source only: each batch holds as many images of each set, and an epoch lasts until the largest has been shown;"
        " off: as many as the sets have (decided: no paper trains on several)",
    )
    extra: str = Field(
        default="",
        description="source only: a packed file with more images of the same people, such as `distreid translate` writes",
    )

    def members(self) -> list[SetConfig]:
        """The data sets, if there are several to be made one."""
        if self.also:
            return [SetConfig(data=place, format=self.format, pattern=self.pattern) for place in (self.data, *self.also)]
        return self.sets or []

    @property
    def given(self) -> bool:
        """Whether it names any data."""
        return bool(self.data or self.sets)


@dataclass(config=SETTINGS)
class InputConfig:
    """The size of all images, and how training images are varied."""

    height: Whole = Field(default=384, gt=0, description="pixels; paper, Implementation Details")
    width: Whole = Field(default=128, gt=0, description="pixels; paper")
    flip: Number = Field(
        default=0.5,
        ge=0,
        le=1,
        description="probability of a mirror image; the paper names flipping, cropping and erasing but no numbers: common values"
        " (decided)",
    )
    pad: Whole = Field(default=10, ge=0, description="pixels of zero padding before the random crop (decided)")
    erase: Number = Field(default=0.5, ge=0, le=1, description="probability of random erasing: Zhong et al. 2017b's value")
