"""Small settings of both methods, and a whole run of them in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distreid.config import Config, to_yaml
from distreid.methods.local import train
from distreid.training import RunDirectory
from distreid.training.domains import open_domain

TINY_EDAAN = {
    "width": 4, "encoder_blocks": 1, "decoder_blocks": 1, "attention_width": 4, "discriminator_width": 4, "discriminator_layers": 1,
    "reid_stages": 1,
}  # fmt: skip


def small_settings(pair: tuple[Path, Path], output: Path) -> dict[str, Any]:
    """DAAM in seconds; pair: a source and a target file."""
    rates = {"name": "adamw", "lr_backbone": 1e-3, "lr_new": 1e-3, "schedule": "cosine"}
    return {
        "output": str(output),
        "source": {"data": str(pair[0])},
        "target": {"data": str(pair[1])},
        "input": {"height": 32, "width": 16, "pad": 2},
        "model": {"backbone": "timm/test_resnet", "weights": "none", "last_stride": 1, "batchnorm_group": 8},
        "pretrain": {"epochs": 2, "batch_size": 16, "optimizer": rates},
        "labels": {"k1": 8, "k2": 3, "p": 0.03, "min_samples": 3},
        "adapt": {"rounds": 2, "epochs": 2, "batch_size": 16, "optimizer": rates},
        # Not auto: what tests compare must not depend on the machine they run on.
        "runtime": {"workers": 0, "gpu": "no", "precision": "fp32", "channels_last": False},
    }


def edaan_settings(pair: tuple[Path, Path], output: Path) -> dict[str, Any]:
    """EDAAN in seconds."""
    return {
        "method": "edaan",
        "output": str(output),
        "source": {"data": str(pair[0]), "identities": [0, 8]},
        "target": {"data": str(pair[1])},
        "input": {"height": 16, "width": 8, "pad": 0, "erase": 0.0},
        "edaan": {
            "epochs": 2, "decay_epochs": 1, "whole_epochs": 1, "attention_epochs": 2, "reid_epochs": 1, "reid_decay_epochs": 1,
            "batch_size": 16, "instances": 2, "group": 8, "replay": 16, "pictures_every": 2, "network": dict(TINY_EDAAN),
        },
        # Not auto: what tests compare must not depend on the machine they run on.
        "runtime": {"workers": 0, "gpu": "no", "precision": "fp32", "channels_last": False},
    }  # fmt: skip


class Silent:
    """A reporter that shows nothing; stops the run at its n-th call, or says after a step (title, number) that notice was given."""

    def __init__(self, stop_at: int | None = None, notice_after: tuple[str, int] | None = None) -> None:
        self.calls, self.stop_at = 0, stop_at
        self.titles, self.notes = list[str](), list[str]()
        self.notice_after, self.noticed = notice_after, False

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self.stop_at:
            raise KeyboardInterrupt

    def stage(self, title: str, total: int, done: int = 0) -> None:
        self.titles.append(title)
        self._count()

    def advance(self, done: int, figures: dict[str, float]) -> None:
        self._count()
        self.noticed = self.noticed or (self.titles[-1], done) == self.notice_after

    def measure(self, losses: dict[str, float], images_per_second: float) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)
        self._count()

    def leaving(self) -> bool:
        return False

    def stopping(self) -> bool:
        return self.noticed


def run(config: Config, reporter: Silent | None = None, *, resume: bool = False) -> dict[str, Any]:
    """Train in this process; returns what result.json holds."""
    networks = open_domain(config.source, labelled=True), open_domain(config.target, labelled=False)
    directory = RunDirectory(config.output)
    directory.create(to_yaml(config), resume=resume)
    return train(config, *networks, directory, reporter or Silent())


def accuracies(result: dict[str, Any]) -> Any:
    """The result without what depends on the clock."""
    rounds = [{key: value for key, value in line.items() if key != "seconds"} for line in result["rounds"]]
    return {**result, "rounds": rounds}


def metrics(config: Config) -> list[dict[str, Any]]:
    return [json.loads(line) for line in RunDirectory(config.output).metrics.read_text().splitlines()]
