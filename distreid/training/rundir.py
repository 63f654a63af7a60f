"""A run directory, in a folder or at a URI: what is written there, and by whom. What lies where: `distreid.common.layout`."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from distreid.common.claim import LOCK, Claim
from distreid.common.errors import UserError
from distreid.common.files import atomic_write, drop_drafts, writing
from distreid.common.layout import LAST, PROGRESS, kept_name, round_files, round_name, run_files
from distreid.common.mirror import Mirror
from distreid.common.storage import is_uri
from distreid.config import todays_names
from distreid.training.environment import environment
from distreid.training.files import load_checkpoint, save_tensors, write_json
from distreid.training.tensorboard import Board


class RunDirectory:
    """Where one run lives. Only the leading process writes; every file but metrics.jsonl is replaced atomically.

    Args:
        path: a folder, or a URI (`distreid.common.storage`): then all is done in a copy of it on this machine.
        tensorboard: also write metrics.jsonl's lines as event files.
        token: of the claim under which this process writes, where another process has made the directory (`distreid.common.claim`).
    """

    def __init__(self, path: Path | str, *, tensorboard: bool = False, token: str | None = None) -> None:
        self._mirror = Mirror(str(path)) if is_uri(path) else None
        self.path = self._mirror.copy if self._mirror is not None else Path(path)
        self.claim = Claim(self.path, self._mirror.storage if self._mirror is not None else None, token)
        self.shown = str(path)  # as the user wrote it
        self.config = self.path / "config.yaml"
        self.environment = self.path / "environment.json"
        self.metrics = self.path / "metrics.jsonl"
        self.result = self.path / "result.json"
        self.checkpoints = self.path / "checkpoints"
        self.labels = self.path / "labels"
        self.last = self.path / LAST
        self._wants_board = tensorboard
        self._board: Board | None = None

    def place(self, file: Path) -> str:
        """Where the user finds a file of the run: at the URI, not in the copy here."""
        if self._mirror is None:
            return str(file)
        base, mark, query = self.shown.partition("?")
        return f"{base.rstrip('/')}/{file.relative_to(self.path)}{mark}{query}"

    def create(self, config_yaml: str, *, resume: bool) -> None:
        """Become the one that writes the run, and make the directory or check that a resumed run has the same configuration.

        What holds neither a checkpoint nor labels nor a result is begun anew: a mistake was found, or a process killed, before
        there was anything of value. :meth:`close` lets others write.

        Raises:
            UserError: it holds another run, there is nothing to resume, or another process is writing it.
        """
        self.fetch()
        begun = self._check(config_yaml, resume)
        self.claim.take()
        try:
            # The configuration first: what makes the folder a run.
            with atomic_write(self.config) as file:
                file.write(config_yaml.encode())
            with writing(self.path):
                for folder in (self.checkpoints, self.labels):
                    folder.mkdir(exist_ok=True)
            self._drop_drafts()
            if not begun or not self.environment.exists():  # a resumed run keeps what it started with
                write_json(self.environment, environment())
            self.publish()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let other processes write the run."""
        self.claim.release()

    def _check(self, config_yaml: str, resume: bool) -> bool:
        """Whether there is a run to go on with."""
        if self.config.exists():
            if not self._holds_work():
                return False
            if not resume:
                raise UserError(f"{self.shown} already holds a run: continue it with --resume, or choose another output")
            changed = _changed_keys(self.config.read_text(encoding="utf-8"), config_yaml, self.compute())
            if changed:
                raise UserError(f"{self.shown}: --resume with other settings ({changed}); keep them or choose another output")
            return True
        if self.path.exists() and (not self.path.is_dir() or any(not _is_note(file) for file in self.path.iterdir())):
            raise UserError(f"{self.shown} exists and is not a run of distreid: choose another output")
        if resume:
            raise UserError(f"{self.shown}: no run to resume; check the output, or start it without --resume")
        return False

    def _holds_work(self) -> bool:
        return self.result.exists() or any(any(folder.glob("[!.]*")) for folder in (self.checkpoints, self.labels))

    def _drop_drafts(self) -> None:
        # A reader on this machine may be fetching.
        with self._mirror.locked() if self._mirror is not None else contextlib.nullcontext():
            for folder in (self.checkpoints, self.labels):
                drop_drafts(folder)

    def compute(self) -> dict[str, Any]:
        """How the run computes (:class:`distreid.common.machine.Compute`), as it decided when it began; empty before that.

        A run of before that was decided holds it in its checkpoint's configuration.
        """
        try:
            kept = json.loads(self.environment.read_text(encoding="utf-8")).get("compute")
        except (OSError, ValueError, AttributeError):  # deleted or damaged: the checkpoint knows as well
            kept = None
        saved = None if kept else self.load()
        if saved is not None:
            settings = saved.get("config", {}).get("runtime", {})
            kept = {key: settings[key] for key in ("precision", "channels_last") if settings.get(key, "auto") != "auto"}
        return kept or {}

    def keep_compute(self, compute: dict[str, Any]) -> None:
        """Add the decision to environment.json, unless it is there."""
        if self.environment.exists():
            kept = json.loads(self.environment.read_text(encoding="utf-8"))
            if "compute" not in kept:
                write_json(self.environment, {**kept, "compute": compute})

    def fetch(self, *, follow: bool = False) -> None:
        """Of a run at a URI: bring what is new there; several processes of a machine may ask. follow: as `Mirror.fetch` says."""
        if self._mirror is not None:
            self._mirror.fetch(run_files, follow=follow)

    def publish(self) -> None:
        """Of a run at a URI: bring there what is new here, the checkpoint to resume from at the end.

        Raises:
            UserError: another process has taken the run over, or the storage does not answer.
        """
        self.claim.check()
        if self._mirror is not None:
            self._mirror.publish(last=LAST)

    def remove(self, file: Path) -> None:
        """Delete a file of the run, at its URI with the next :meth:`publish`."""
        with writing(file):
            if self._mirror is not None:
                self._mirror.forget(file)
            else:
                file.unlink(missing_ok=True)

    def append(self, record: dict[str, Any]) -> None:
        """Add one line to metrics.jsonl."""
        with writing(self.metrics), self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if self._board is not None:
            self._board.add(record)

    def metrics_size(self) -> int:
        return self.metrics.stat().st_size if self.metrics.exists() else 0

    def truncate_metrics(self, size: int) -> None:
        """Forget lines that a killed run wrote after its last checkpoint; what begins or continues to write comes by here."""
        if self.metrics_size() > size:
            with writing(self.metrics):
                os.truncate(self.metrics, size)
        if self._wants_board:
            self._board = Board(self.path / "tensorboard", self.metrics)

    def write_result(self, result: dict[str, Any]) -> None:
        write_json(self.result, result)
        self.publish()

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint to resume from."""
        save_tensors(self.last, {**state, "metrics_size": self.metrics_size()})
        self.publish()

    def load(self) -> dict[str, Any] | None:
        """The checkpoint to resume from, or None when the run died before its first.

        Raises:
            UserError: it is damaged, with the way back; or the storage does not answer.
        """
        self.fetch()
        if not self.last.exists():
            return None
        try:
            return load_checkpoint(self.last)
        except UserError as error:
            raise UserError(f"{error}; {self._way_back()}") from None

    def _way_back(self) -> str:
        if self._mirror is not None:
            again = f"delete {self.last} to fetch it again from {self.shown}"
        else:
            again = "put a copy of it back"
        rounds = round_files(self.checkpoints)
        if not rounds:
            return f"{again}, or start anew in another output"
        model = shlex.quote(self.place(rounds[-1]))
        return f"{again}, or start anew in another output with pretrain.checkpoint={model}, the last round's model"

    def keep_round(self, kept: int, last: int) -> None:
        """Let the run stand for the model of round ``kept``, of those up to ``last`` (`distreid.common.layout.model_round`)."""
        with atomic_write(self.checkpoints / kept_name(kept, last)) as file:
            file.write(f"{kept}\n".encode())

    def round_checkpoint(self, number: int) -> Path:
        """Weights at the end of round ``number``; 0 is the pre-trained model."""
        return self.checkpoints / round_name(number, ".pt")

    def save_labels(self, number: int, features_ND: np.ndarray, **arrays: np.ndarray) -> None:
        """Keep round ``number``'s labels, and its features while the round is under way."""
        for old in self.labels.glob("features-*.npy"):
            if old != self._features(number):
                self.remove(old)
        with atomic_write(self._features(number)) as file:
            np.save(file, features_ND)
        with atomic_write(self._labels(number)) as file:
            np.savez(file, allow_pickle=False, **arrays)

    def load_labels(self, number: int) -> dict[str, np.ndarray]:
        """What :meth:`save_labels` was given; ``features_ND`` is memory-mapped, one copy a node."""
        features_ND = np.load(self._features(number), mmap_mode="r", allow_pickle=False)
        return {**self.round_labels(number), "features_ND": features_ND}

    def round_labels(self, number: int) -> dict[str, np.ndarray]:
        """A round's small arrays (labels, centers, eps), which are kept for good."""
        with np.load(self._labels(number), allow_pickle=False) as file:
            return {key: file[key] for key in file.files}

    def _labels(self, number: int) -> Path:
        return self.labels / round_name(number, ".npz")

    def _features(self, number: int) -> Path:
        return self.labels / f"features-{number:02d}.npy"


def _is_note(file: Path) -> bool:
    """A file of `Mirror` and `Claim` themselves."""
    return file.name in (".lock", ".mirror.json", LOCK, PROGRESS)


# What may differ between a run and its continuation: where things lie (the data's content is checked), who computes, how far.
MAY_CHANGE = {
    "output", "source.data", "source.extra", "target.data", "pretrain.checkpoint", "model.weights", "adapt.rounds",
    "runtime.workers", "runtime.cpus_per_worker", "runtime.max_failures", "runtime.label_gpus",
    "runtime.tensorboard", "runtime.min_workers", "runtime.hang_timeout", "runtime.strategy",
    "runtime.zero_stage", "runtime.accumulate", "evaluate.batch_size",
}  # fmt: skip


def _changed_keys(old: str, new: str, compute: dict[str, Any]) -> str:
    """The settings in which a continuation differs and must not; ``compute``: what the run decided where it was told "auto"."""
    kept = yaml.safe_load(old)
    todays_names(kept, kept.get("method"))
    before, after = _flat(kept), _flat(yaml.safe_load(new))
    for key, value in compute.items():
        name = f"runtime.{key}"
        if before.get(name) == "auto":
            before[name] = value
        if after.get(name) == "auto":  # what the run has is kept, also what a file of version 0.1.0 fixed
            after[name] = before.get(name)
    # A key that an older version did not write is at its default, which is how that version behaved.
    changed = [key for key in after if key in before and before[key] != after[key] and key not in MAY_CHANGE]
    return ", ".join(f"{key}: {before[key]} -> {after[key]}" for key in changed[:3])


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix.rstrip("."): tree}
    return {key: value for name, part in tree.items() for key, value in _flat(part, f"{prefix}{name}.").items()}
