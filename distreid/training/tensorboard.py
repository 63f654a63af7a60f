"""Event files for TensorBoard: the lines of metrics.jsonl as curves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from distreid.common.errors import UserError


class Board:
    """Writes ``folder`` anew from the lines that metrics.jsonl holds, and adds those that follow.

    Losses, learning rate and speed over all epochs (pre-training first), clusters, outliers, eps and accuracy over rounds.

    Raises:
        UserError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, metrics: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError(
                "runtime.tensorboard needs TensorBoard, which is not installed: pip install 'distreid[tensorboard]'"
            ) from None
        shutil.rmtree(folder, ignore_errors=True)
        self._writer, self._epochs = SummaryWriter(str(folder)), 0
        for line in metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []:
            self.add(json.loads(line))

    def add(self, record: dict[str, Any]) -> None:
        """Add one line."""
        self._epochs += record["event"] == "epoch"
        for name, value in _curves(record).items():
            self._writer.add_scalar(name, value, self._epochs if record["event"] == "epoch" else record["round"])
        self._writer.flush()


def _curves(record: dict[str, Any]) -> dict[str, float]:
    if record["event"] == "epoch":
        losses = {f"epoch/loss {term}": value for term, value in record["loss"].items()}
        return {**losses, "epoch/learning rate": record["lr"], "epoch/images a second": record["images_per_second"]}
    if record["event"] == "labels":
        return {f"round/{name}": record[name] for name in ("clusters", "outliers", "eps")}
    accuracy = record if record["round"] else record.get("direct_transfer", {})
    return {f"round/{name}": accuracy[key] for name, key in (("mAP", "mAP"), ("Rank-1", "rank1")) if key in accuracy}
