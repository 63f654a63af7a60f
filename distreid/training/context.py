"""What one process of a run is given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from distreid.config import Config
from distreid.training.compute import settle
from distreid.training.domains import DomainData
from distreid.training.engine import Precision
from distreid.training.files import trained_config
from distreid.training.process_group import ProcessGroup
from distreid.training.protocols import Evaluator, Labeler, Rehearsal, Reporter
from distreid.training.rundir import RunDirectory


@dataclass(frozen=True)
class Context:
    """One process's part of a run, before any method.

    Attributes:
        source: labelled; target: unlabelled, with a test set where accuracy is to be measured.
        labeler, evaluator: label and rank features that all processes hand in.
        rehearsal: of a run that is only planned: what is done in place of training and extracting.
    """

    config: Config
    processes: ProcessGroup
    source: DomainData
    target: DomainData
    labeler: Labeler
    evaluator: Evaluator
    run_directory: RunDirectory
    reporter: Reporter
    rehearsal: Rehearsal | None = None

    @classmethod
    def begin(
        cls,
        config: Config,
        processes: ProcessGroup,
        source: DomainData,
        target: DomainData,
        labeler: Labeler,
        evaluator: Evaluator,
        run_directory: RunDirectory,
        reporter: Reporter,
    ) -> Context:
        """A run that begins or goes on: how it computes is decided here (:func:`settle`). All processes must call it."""
        config = _as_begun(settle(config, processes, run_directory, reporter), run_directory)
        return cls(config, processes, source, target, labeler, evaluator, run_directory, reporter)

    @cached_property
    def precision(self) -> Precision:
        settings = self.config.runtime
        return Precision(
            settings.precision, self.processes.device, channels_last=settings.channels_last is True, compile=settings.compile
        )

    def note(self, text: str) -> None:
        """A line for the user; once, whatever the number of processes."""
        if self.processes.is_main:
            self.reporter.note(text)


def _as_begun(config: Config, run: RunDirectory) -> Config:
    """With the network of the run that goes on; 0.1.0 did not build every network as it was told (:func:`trained_config`)."""
    saved = run.load() if config.model.backbone.startswith("timm/") else None
    if saved is None:
        return config
    return replace(config, model=replace(config.model, last_stride=trained_config(saved).model.last_stride))
