"""`adapt.stop`: when rounds of labelling should end, and whose model to keep, told from the labels alone.

Each labelling judges the model whose features it was made of: round r's labels, that of round r − 1. Nothing here may bring torch
or numba: `distreid status` is to be quick.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from distreid.common.text import percent
from distreid.labels.quality import overall

DECLINE = 0.1
"""Share of the best quality so far that a model's may lack and still be stable. The quality of equally good models differs by this
much from round to round (docs/results.md, "When to stop"); models that go wrong fall below it within a round or two."""
SETTLED = 0.98
"""Adjusted Rand index of two labellings, and share of the images in clusters that both have there, from which on they are the same:
a further round would be taught what the last one was. The index alone is high also while clusters still take in outliers."""


@dataclass(frozen=True)
class Judged:
    """A model, as the labels that its features gave say it is.

    Attributes:
        round: after which it stood; 0 is the source model.
        quality: `distreid.labels.quality.overall`: the mean silhouette of all images, an outlier counting 0.
        clustered: share of the images that are in clusters.
        agreement: adjusted Rand index of its labels with those that it was trained with, over the images that are in clusters of
            both; None where it was trained with none.
        in_both: the share of these images; None likewise.
    """

    round: int
    quality: float
    clustered: float = 1.0
    agreement: float | None = None
    in_both: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What to do after the latest labelling.

    Attributes:
        kept: the round whose model is to be kept, as far as is known.
        reason: why the rounds end, as the end of a sentence; "" where they go on.
    """

    kept: int
    reason: str = ""


def judge(models: Sequence[Judged]) -> Verdict:
    """The rule: the models of a run by their rounds, from 0; the latest one is judged.

    The rounds end where a model's quality is more than :data:`DECLINE` below the best so far: it goes wrong, and the last one that
    was not is kept. They also end where a round gave back the labels that it was taught (:data:`SETTLED`): the model is kept, and
    another round would teach the same.
    """
    latest, best = models[-1], max(models, key=lambda model: (model.quality, -model.round))
    least = best.quality - DECLINE * abs(best.quality)
    if latest.quality < least:
        stable = [model.round for model in models if model.quality >= least]
        where = f"after round {best.round}" if best.round else "of the source model"
        return Verdict(stable[-1], f"its labels fit worse: quality {percent(latest.quality)}, {percent(best.quality)} {where}")
    if settled(models):
        return Verdict(latest.round, f"its labels are those that it was taught: agreement {percent(latest.agreement)}")
    return Verdict(latest.round)


def settled(models: Sequence[Judged]) -> bool:
    """Whether the latest model's labels are those that it was trained with."""
    latest = models[-1]
    if len(models) < 2 or latest.agreement is None or latest.in_both is None:
        return False
    most = max(latest.clustered, models[-2].clustered)
    return latest.agreement >= SETTLED and latest.in_both >= SETTLED * most


def replay(models: Sequence[Judged]) -> Verdict:
    """What the rule says where it first ends the rounds; of a run that had none, and so went on, too."""
    verdict = Verdict(0)
    for count in range(1, len(models) + 1):
        verdict = judge(models[:count])
        if verdict.reason:
            break
    return verdict


def kept_model(kept: int) -> str:
    return f"the model of round {kept}" if kept else "the source model"


def judged(lines: Iterable[Mapping[str, Any]], images: int) -> list[Judged]:
    """The models of a run, finished or not, by whatever rule: from the lines of its metrics.jsonl.

    Args:
        images: of the target, all that were labelled.

    The model of the last round is there only where it was labelled once more (`adapt.stop: auto`). Lines without a quality (of the
    very first runs) are left out.
    """
    found = {}
    for line in lines:
        if line["event"] in ("labels", "judged") and "silhouette" in line.get("quality", {}):
            quality = overall(line["quality"]["silhouette"], line["outliers"], images)
            pair = line.get("agreement", {})
            found[line["round"] - 1] = Judged(
                line["round"] - 1, quality, 1 - line["outliers"] / images, pair.get("adjusted_rand"), pair.get("clustered_in_both")
            )
    return [found[number] for number in sorted(found)]


def would_keep(models: Sequence[Judged], last: int) -> int:
    """The round whose model the rule keeps, or would have kept, of a run that did ``last`` rounds.

    Where nothing speaks against the models that there are labels of, the last round's is kept, also where `adapt.stop: never` has
    left it unjudged.
    """
    verdict = replay(models)
    return verdict.kept if verdict.reason else last


def as_record(models: Sequence[Judged], verdict: Verdict) -> dict[str, Any]:
    """What result.json holds under "stopping"."""
    return {"rule": "auto", "kept": verdict.kept, "reason": verdict.reason, "models": [asdict(model) for model in models]}
