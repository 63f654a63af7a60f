"""What a run directory says about its run, finished or not."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from distreid.common.errors import UserError
from distreid.common.layout import round_name
from distreid.common.text import protocol_of
from distreid.methods.registry import report_of
from distreid.methods.spec import ReportSpec
from distreid.methods.stopping import Judged, judged, would_keep

Record = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Run:
    """A run as its files tell it.

    config: the resolved configuration, nested. spec: what its method says of itself.
    in_domain, direct_transfer: metrics (fractions in [0, 1]), None where they were not measured (yet).
    rounds: finished rounds, with `round`, `eps`, `clusters`, `outliers`, `seconds` and, where measured, metrics.
    labelled: the line of the round that has labels but no end yet, None outside of one.
    final: mAP and Rank-1, 5, 10 of the last round, or of the one that `adapt.stop` has kept; None where unfinished or not measured.
    stopping: what a finished run's rule said (`adapt.stop`), empty where it had none.
    models: what the labels say of each round's model, whatever the rule (`distreid.methods.stopping`).
    epochs: one line an epoch, in order; `round` 0 is pre-training.
    pretrained: whether pre-training and its measurement have ended.
    cluster_sizes: int64 [K], images in each cluster of the latest labels; None where there are none.
    environment: versions and machine that it started with (`distreid.training.environment`); empty in runs of before it was kept.
    """

    name: str
    config: Record
    method: str
    spec: ReportSpec
    source: str
    target: str
    seed: int
    in_domain: Record | None
    direct_transfer: Record | None
    rounds: list[Record]
    labelled: Record | None
    final: Record | None
    models: list[Judged]
    stopping: Record
    epochs: list[Record]
    pretrained: bool
    finished: bool
    cluster_sizes: NDArray[np.int64] | None
    environment: Record

    @property
    def measured(self) -> list[Record]:
        """The rounds whose accuracy is known."""
        return [figures for figures in self.rounds if "mAP" in figures]

    @property
    def tested(self) -> Record:
        """The metrics that say best how accuracies were measured; empty where none were."""
        return self.direct_transfer or (self.measured[-1] if self.measured else None) or self.in_domain or {}

    @property
    def protocol(self) -> str:
        """See `distreid.common.text.protocol_of`."""
        return protocol_of({"direct_transfer": self.direct_transfer, "rounds": self.rounds})

    @property
    def planned(self) -> int | None:
        """Rounds that the configuration asks for, None where it does not say."""
        return len(self.spec.stages(self.config)) or None

    def stage(self, number: int) -> str:
        """What a round is called: 'pre-training', 'round 2', 'stage 1, translation'."""
        names = self.spec.stages(self.config)
        return self.spec.title(number, names[number - 1] if 0 < number <= len(names) else "")

    @property
    def kept(self) -> int:
        """The round whose model the run stands for: the last one, unless a rule has kept another."""
        last = self.rounds[-1]["round"] if self.rounds else 0
        return int(self.stopping["kept"]) if self.stopping else int(last)

    @property
    def would_keep(self) -> int:
        """The round whose model `adapt.stop: auto` keeps, or would have kept, by the labels that there are."""
        return would_keep(self.models, self.rounds[-1]["round"] if self.rounds else 0)

    @property
    def seconds_before(self) -> float:
        """Training before the first round."""
        return float(sum(line["seconds"] for line in self.epochs if line["round"] == 0))

    @property
    def seconds(self) -> float:
        """Of what has ended."""
        return self.seconds_before + sum(sum(line["seconds"].values()) for line in self.rounds)


def read_run(path: Path) -> Run:
    """Reads `config.yaml`, `metrics.jsonl`, `result.json`, `environment.json` and the latest `labels/round-XX.npz`.

    All but the first may lack.

    Raises UserError where the folder is no run, or where a file is damaged in a way that an interruption does not explain.
    """
    config = _read_config(path)
    lines = _read_metrics(path / "metrics.jsonl")
    epochs = [line for line in lines if line["event"] == "epoch"]
    ends = {line["round"]: line for line in lines if line["event"] == "round"}
    labels = [line for line in lines if line["event"] == "labels"]
    rounds = [ends[number] for number in sorted(ends) if number > 0]
    labelled = labels[-1] if labels and labels[-1]["round"] not in ends else None

    result = _read_object(path / "result.json", "delete it, and the report is made from metrics.jsonl")
    # A finished run that goes on for more rounds keeps its old result until it ends again.
    finished = bool(result) and len(result.get("rounds", [])) >= len(rounds) and labelled is None
    story = result if finished else {**ends.get(0, {}), "rounds": rounds}
    return Run(
        name=path.resolve().name,
        config=config,
        method=str(config.get("method", "")),
        spec=report_of(str(config.get("method", ""))),
        source=str(result.get("source") or _stem(config, "source")),
        target=str(result.get("target") or _stem(config, "target")),
        seed=config.get("seed", 0),
        in_domain=story.get("in_domain"),
        direct_transfer=story.get("direct_transfer"),
        rounds=[{"seconds": {}, **line} for line in story.get("rounds", [])],
        labelled=labelled,
        final=story.get("final"),
        models=_models(path / "labels", lines),
        stopping=result.get("stopping", {}) if finished else {},
        epochs=epochs,
        pretrained=finished or 0 in ends,
        finished=finished,
        cluster_sizes=_cluster_sizes(path / "labels", labels[-1]["round"]) if labels else None,
        environment=_read_object(
            path / "environment.json", "delete it, and the report is made without the versions and the machine"
        ),
    )


def _read_config(path: Path) -> Record:
    file = path / "config.yaml"
    if not file.is_file():
        raise UserError(f"{path} is not a run: it holds no config.yaml; name the folder that `distreid train` wrote to")
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{file}: cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(config, dict):
        raise UserError(f"{file}: expected keys and values at the top level, found {type(config).__name__}")
    return config


def _read_metrics(file: Path) -> list[Record]:
    """The lines of metrics.jsonl; a last one that a killed run left half-written is dropped."""
    if not file.exists():
        return []
    texts = _text(file).splitlines()
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            if number == len(texts):
                break
            raise UserError(f"{file}, line {number}: not JSON; delete this line, or run again with --resume") from None
        if not isinstance(line, dict) or "event" not in line or not isinstance(line.get("round"), int):
            raise UserError(f"{file}, line {number}: expected an object with 'event' and 'round'; delete this line")
        lines.append(line)
    return lines


def _read_object(file: Path, advice: str) -> Record:
    """Empty where the file is not there (yet)."""
    if not file.exists():
        return {}
    try:
        found = json.loads(_text(file))
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{file}: not a JSON object; {advice}")
    return found


def _text(file: Path) -> str:
    try:
        # A killed writer may stop within a character; that line is dropped with it.
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None


def _stem(config: Record, domain: str) -> str:
    """A data set's name before a result tells it."""
    settings = config.get(domain)
    return Path(str(settings.get("data", ""))).stem if isinstance(settings, dict) else ""


def _models(folder: Path, lines: list[Record]) -> list[Judged]:
    """None where the labels, which tell how many images there are, cannot be read."""
    number = next((line["round"] for line in lines if line["event"] == "labels"), None)
    try:
        with np.load(folder / round_name(number or 1, ".npz"), allow_pickle=False) as archive:
            images = len(archive["labels"])
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return []
    return judged(lines, images)


def _cluster_sizes(folder: Path, number: int) -> NDArray[np.int64] | None:
    try:
        with np.load(folder / round_name(number, ".npz"), allow_pickle=False) as archive:
            labels_N = archive["labels"]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None  # the page can do without this figure
    return np.bincount(labels_N[labels_N >= 0]) if (labels_N >= 0).any() else None
