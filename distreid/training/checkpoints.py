"""Where a run stands, kept so that it can die anywhere: the checkpoint to resume from, and each round's weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from distreid.common.errors import UserError
from distreid.config import to_dict
from distreid.models import ReIDNetwork, load_weights
from distreid.training.context import Context
from distreid.training.files import save_tensors

FORMAT = 1


@dataclass
class State:
    """Where the run stands; with the weights and the optimiser, all that a checkpoint holds."""

    round: int = 0  # the method's own count of its stages
    epoch: int = 0  # epochs of this round that are finished
    step: int = 0  # steps of the next one that are: not 0 where a run was stopped on notice
    figures: dict[str, Any] = field(default_factory=dict)  # this round's line of the result, as far as it is known
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> str:
        """Why a rule has ended the rounds before their number; "" where none has (`adapt.stop`)."""
        return str(self.result.get("stopping", {}).get("reason", ""))


class Checkpoints:
    """Saves a run's state and brings it back. Every method is called by all processes together."""

    def __init__(self, context: Context, model: ReIDNetwork, state: State) -> None:
        self._context, self._model, self._state = context, model, state
        self._optimizer: dict[str, Any] | None = None  # of a checkpoint being resumed, until it is taken

    def resume(self, rounds: int) -> None:
        """Continue from the last checkpoint, if there is one. ``rounds``: the last round's number.

        Raises:
            UserError: the data have changed, or the processes see different files.
        """
        context, run = self._context, self._context.run_directory
        # A process that died may have left a checkpoint on its machine alone: from one there, or not at all, all go on.
        if context.processes.is_main:
            run.publish()
        context.processes.barrier()
        run.fetch(follow=not context.processes.is_main)
        saved = run.load()
        context.processes.barrier()  # nobody writes before everybody has read
        if context.processes.is_main:
            run.truncate_metrics(saved["metrics_size"] if saved is not None else 0)
        # The configuration is there before any worker begins, where this is the folder that the run was begun in.
        seen = (run.config.exists(), context.source.content, context.target.content, saved and saved["state"])
        if not context.processes.all_equal(repr(seen)):
            raise UserError(
                f"{run.shown}: the workers see different files; the output and the packed data must lie on storage that every node "
                "shares"
            )
        if saved is None:
            return
        if saved["content"] != [context.source.content, context.target.content]:
            raise UserError(f"{run.shown}: the data have changed since this run began; choose another output")
        vars(self._state).update(saved["state"])
        if context.processes.is_main and self._state.round <= rounds and not self._state.ended:
            run.remove(run.result)  # of a finished run that goes on: it would look finished
        load_weights(self._model, saved, run.last)
        self._optimizer = saved["optimizer"]

    def take_optimizer(self) -> dict[str, Any] | None:
        """What the resumed checkpoint holds of the optimisers, for the stage that it was made in: once, then None."""
        saved, self._optimizer = self._optimizer, None
        return saved

    def save(self, optimizer: dict[str, Any] | None = None) -> None:
        """Replace the checkpoint to resume from; ``optimizer`` None between the stages, where there is none to keep."""
        if self._context.processes.is_main:
            self._context.run_directory.save({**self._portable(), "state": vars(self._state), "optimizer": optimizer})

    def save_round(self) -> None:
        """Keep this round's line and weights."""
        state, run = self._state, self._context.run_directory
        if self._context.processes.is_main:
            run.append({"event": "round", "round": state.round, **(state.figures or state.result)})
            save_tensors(run.round_checkpoint(state.round), self._portable())

    def _portable(self) -> dict[str, Any]:
        """The model and what is needed to build it again."""
        context = self._context
        return {
            "format": FORMAT,
            "config": to_dict(context.config),
            "identities": context.source.identities,
            "content": [context.source.content, context.target.content],
            "normalisation": (self._model.mean, self._model.std),
            "model": self._model.state_dict(),
        }

    def finish(self) -> dict[str, Any]:
        """Write result.json: the accuracy of the last round, or of the one that a rule kept without looking at any accuracy."""
        context, rounds = self._context, self._state.result.get("rounds", [])
        last = rounds[-1] if rounds else {}
        stopping = self._state.result.get("stopping")
        if stopping and rounds and stopping["kept"] != last["round"]:
            if context.processes.is_main:
                context.run_directory.keep_round(stopping["kept"], last["round"])
            ends = {line["round"]: line for line in rounds}
            last = ends.get(stopping["kept"], self._state.result.get("direct_transfer", {}))  # round 0: the source model
        kept = ("mAP", "rank1", "rank5", "rank10", "reverse", "cameras")
        accuracy = {key: last[key] for key in kept if key in last}
        result = {
            "method": context.config.method,
            "source": context.source.name,
            "target": context.target.name,
            "seed": context.config.seed,
            **self._state.result,
            "final": accuracy or None,
        }
        if context.processes.is_main:
            context.run_directory.write_result(result)
        return result
