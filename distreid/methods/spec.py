"""What a method tells the report and the tables about itself. No import here may bring torch: `distreid status` is to be quick."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Settings = Mapping[str, Any]
"""A run's configuration, nested, as config.yaml holds it."""


@dataclass(frozen=True)
class LossTerm:
    """A term of the loss.

    Attributes:
        key: its name in the epochs of metrics.jsonl.
        caption: what it measures, and the paper's equation.
        given: the setting and the value for which this caption holds. Of several terms with one key the first that holds is taken.
    """

    key: str
    caption: str = ""
    given: tuple[str, str] | None = None

    def holds(self, settings: Settings) -> bool:
        return self.given is None or str(_value(settings, self.given[0])) == self.given[1]


TRIPLET = LossTerm("triplet", "Each image's furthest one of its person against its nearest one of another (Hermans et al. 2017).")


@dataclass(frozen=True)
class PictureSpec:
    """A figure of pictures that only this method has: its title and its caption."""

    title: str
    caption: str


def rounds_of(settings: Settings) -> Sequence[str]:
    """`adapt.rounds` rounds, whose numbers say all: :attr:`ReportSpec.stages` of methods that label round by round."""
    planned = (settings.get("adapt") or {}).get("rounds")
    return [""] * planned if isinstance(planned, int) else ()


def _unknown(settings: Settings) -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class ReportSpec:
    """What a method's runs consist of, for people.

    Attributes:
        name: the method's, as its paper writes it.
        losses: its loss terms, in the order to show them in.
        losses_caption: how they add up.
        round: what one of its rounds is called; rounds count from 1.
        before: what round 0 is called; "" where there is none.
        stages: from the configuration, a name of each round that is planned ("" where its number says all); none where unknown.
        labelled: each round begins with pseudo-labels: eps, clusters and outliers are columns of its table.
        steps: of a round, in order: the keys of its "seconds".
        done, final: the words of the headline and of the table for a run that has ended.
        attention: the overlays of `distreid.methods.exhibits.Attended`; None where the network has no such maps.
        grids: the files pictures/epoch-NNN.png of the run directory; None where the method writes none.
    """

    name: str
    losses: tuple[LossTerm, ...] = ()
    losses_caption: str = ""
    round: str = "round"
    before: str = ""
    stages: Callable[[Settings], Sequence[str]] = _unknown
    labelled: bool = False
    steps: tuple[str, ...] = ("train", "evaluate")
    done: str = "Trained"
    final: str = "final"
    attention: PictureSpec | None = None
    grids: PictureSpec | None = None

    def title(self, number: int, stage: str = "") -> str:
        """'pre-training', 'round 2', 'stage 1, translation'."""
        return f"{self.round} {number}" + (f", {stage}" if stage else "") if number else self.before

    def terms(self, keys: Iterable[str], settings: Settings) -> list[LossTerm]:
        """The terms that a run's epochs hold; one that the method does not name comes last, without a caption."""
        found = set(keys)
        known: dict[str, LossTerm] = {}
        for term in self.losses:
            if term.key in found and term.holds(settings):
                known.setdefault(term.key, term)
        return [*known.values(), *(LossTerm(key) for key in sorted(found - known.keys()))]


def _value(settings: Settings, key: str) -> Any:
    """The setting at a dotted key, None where the configuration lacks it."""
    value: Any = settings
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
