"""DAAM: domain adaptive attention learning (Huang et al., AAAI 2020), Algorithm 1, on one process or many.

Every random number is a function of (seed, round, epoch, step), never of history or of the number of workers, so a run that was
killed continues to the same result from nothing but its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from distreid.config import OptimizerConfig
from distreid.data.loader import Batch
from distreid.data.sampling import BatchPlan, make_stream, plan_mixed, plan_one
from distreid.errors import UserError
from distreid.labels import PseudoLabels, soft_weights
from distreid.layout import pretrained_files
from distreid.losses import domain_loss, hard_label_loss, label_smoothing_loss, soft_label_loss
from distreid.methods.networks import load_weights
from distreid.mirror import on_this_machine
from distreid.training import Engine, RunDirectory, learning_rate_factor, load_checkpoint, timed
from distreid.training.loop import LossTerms, Method, State, accuracy_text
from distreid.training.protocols import RoundLabels, ScoreFuture


@dataclass
class DAAMState(State):
    """Round 0 is pre-training."""

    labelled: bool = False  # this round's labels are in the run directory
    first_eps: float | None = None


class DAAM(Method):
    """One process's part of a run."""

    state: DAAMState
    ahead: tuple[np.ndarray, float] | None = None  # the next round's features, where they were extracted early

    def first_state(self) -> DAAMState:
        return DAAMState()

    @property
    def rounds(self) -> int:
        return self.config.adapt.rounds

    def run(self) -> dict[str, Any]:
        """Algorithm 1. Returns what result.json holds."""
        self.resume()
        if self.state.round == 0:
            self.pretrain()  # line 1
            self.measure_direct_transfer()
        while self.state.round <= self.config.adapt.rounds:  # line 2
            labels = self.label_target()  # lines 3-5
            self.adapt(labels)  # line 6
            self.measure_round()
        return self.finish()

    def pretrain(self) -> None:
        """Train on the source with L_cro_s only (Eq. 3)."""
        how = self.config.pretrain
        if how.checkpoint:
            self.load_pretrained(how.checkpoint)
            return
        assert self.source.labels is not None
        labels = self.source.labels
        stream = make_stream(labels, how.sampler, how.instances, [self.config.seed, 0, 0])

        def loss(engine: Engine, batch: Batch) -> LossTerms:
            output = engine.forward(batch.images_BCHW, self.to_device(batch.domain_B))
            own = self.to_device(labels[batch.index_B])
            return {"source": label_smoothing_loss(output.source_logits_SN, own, how.smoothing)}

        trained = [self.model.backbone, self.model.attention, self.model.neck, self.model.source_head]
        self.fit(
            self.engine(how.optimizer, how.epochs, trained), how.epochs, lambda epoch: plan_one(stream, epoch, how.batch_size), loss
        )

    def label_target(self) -> RoundLabels:
        """Extract f_sh over the target, cluster it, remake the target head."""
        state, key = self.state, f"round-{self.state.round}"
        if state.labelled:
            saved = self.run_directory.load_labels(state.round)
            normalized = self.config.labels.features == "l2"
            pseudo = PseudoLabels(saved["labels"], saved["centers"], float(saved["eps"]), normalized)
            return RoundLabels(pseudo, saved["features_ND"], {})
        shard_nD, took = self.ahead or self.target_features()
        self.ahead, seconds = None, {"extract": took}
        how = self.config.labels
        eps = {"fixed": how.eps_value, "first_round": state.first_eps, "proportion": None}[how.eps]
        with timed(seconds, "label"):
            self.reporter.stage("pseudo-labels", 0)
            labels = self.desk.label(key, shard_nD, eps)
        pseudo = labels.pseudo
        clusters, outliers = len(pseudo.centers), int((pseudo.labels < 0).sum())
        if clusters < 2:
            found, change = ("no cluster", "larger") if clusters == 0 else ("a single cluster", "smaller")
            key = "labels.eps_value" if how.eps == "fixed" else "labels.p"
            last = self.run_directory.round_checkpoint(state.round - 1)
            raise UserError(
                f"round {state.round}: {found} among {len(pseudo.labels)} target images (eps={pseudo.eps:.4f}, "
                f"{outliers} outliers); start again in a new output with a {change} {key} or another labels.min_samples, and "
                f"pretrain.checkpoint={self.run_directory.place(last)}, the last good model"
            )
        if state.first_eps is None:
            state.first_eps = pseudo.eps
        state.figures = {"round": state.round, "eps": pseudo.eps, "clusters": clusters, "outliers": outliers, "seconds": seconds}
        state.labelled = True
        self.note(f"{clusters:,} clusters, {outliers:,} of {len(pseudo.labels):,} images outside them, eps {pseudo.eps:.3f}")
        self.model.new_target_head(clusters, seed=self.config.seed * 1000 + state.round)
        if self.team.is_main:
            self.run_directory.save_labels(
                state.round, labels.features_ND, labels=pseudo.labels, centers=pseudo.centers, eps=np.array(pseudo.eps)
            )
            self.run_directory.append({"event": "labels", **state.figures, **labels.figures, **self.stability(pseudo)})
        self.checkpoint(None)
        return labels

    def stability(self, pseudo: PseudoLabels) -> dict[str, Any]:
        """How far this round's labels agree with the last round's."""
        if self.state.round == 1:
            return {}
        from distreid.labels.quality import agreement  # brings numba, which importing this module must not

        return {"agreement": agreement(pseudo.labels, self.run_directory.round_labels(self.state.round - 1)["labels"])}

    def adapt(self, labels: RoundLabels) -> None:
        """Train on source and target with Eq. 7, as the mean over the images of a batch."""
        how, seed, number = self.config.adapt, self.config.seed, self.state.round
        assert self.source.labels is not None
        source_labels, pseudo = self.source.labels, labels.pseudo
        centers_KD = self.to_device(pseudo.centers)
        clustered = np.flatnonzero(pseudo.labels >= 0)  # outliers take no part in the round
        make = partial(make_stream, sampler=how.sampler, instances=how.instances)
        source = make(source_labels, seed=[seed, number, 0])
        target = make(pseudo.labels[clustered], seed=[seed, number, 1])

        def plan(epoch: int) -> BatchPlan:
            mixed = plan_mixed(source, target, epoch, how.batch_size, self.config.model.batchnorm_group)
            is_target = mixed.domain_SB == 1
            index_SB = mixed.index_SB.copy()
            index_SB[is_target] = clustered[index_SB[is_target]]
            return BatchPlan(mixed.domain_SB, index_SB)

        def loss(engine: Engine, batch: Batch) -> LossTerms:
            domain_B = self.to_device(batch.domain_B)
            output = engine.forward(batch.images_BCHW, domain_B)
            is_source = batch.domain_B == 0
            share = float(is_source.mean())
            own = self.to_device(source_labels[batch.index_B[is_source]])
            terms = {
                "source": share * hard_label_loss(output.source_logits_SN, own),
                "target": (1 - share) * self.target_loss(output.target_logits_TK, labels, centers_KD, batch.index_B[~is_source]),
            }
            if output.domain_logits_B2 is not None:
                terms["domain"] = self.config.loss.domain_weight * domain_loss(output.domain_logits_B2, domain_B)
            return terms

        self.fit(self.engine(how.optimizer, how.epochs, [self.model]), how.epochs, plan, loss)

    def target_loss(self, logits_TK: Tensor, labels: RoundLabels, centers_KD: Tensor, index_T: np.ndarray) -> Tensor:
        """L_cro_t of Eq. 5, or Table 4's hard label and LSR."""
        how, own_T = self.config.loss, self.to_device(labels.pseudo.labels[index_T])
        if how.target == "hard":
            return hard_label_loss(logits_TK, own_T)
        if how.target == "lsr":
            return label_smoothing_loss(logits_TK, own_T, how.smoothing)
        weights_TK = soft_weights(
            self.to_device(labels.features_ND[index_T]).float(),
            centers_KD,
            own_T,
            epsilon=how.epsilon,
            normalize=how.normalize,
            normalize_features=labels.pseudo.normalized,
        )
        return soft_label_loss(logits_TK, weights_TK)

    def fit(
        self, engine: Engine, epochs: int, plan: Callable[[int], BatchPlan], loss: Callable[[Engine, Batch], LossTerms]
    ) -> None:
        """Run the rest of a round's epochs with one loss."""

        def update(batch: Batch, epoch: float, weight: float) -> tuple[list[LossTerms], float]:
            rate = engine.learning_rate(epoch)
            parts = []
            for part in batch.split(self.config.runtime.accumulate):
                parts.append({name: weight * term for name, term in loss(engine, part).items()})
                engine.step(sum(parts[-1].values(), torch.zeros((), device=self.team.device)))
            return parts, rate

        number = self.state.round
        title = "pre-training" if number == 0 else f"training, round {number} of {self.rounds}"
        self.train(epochs, title, plan, update, engine.optimizer_state, engines=[engine], group=self.config.model.batchnorm_group)
        engine.close()

    def diverged(self, what: str, epoch: int) -> NoReturn:
        number = self.state.round
        message = f"epoch {epoch + 1}: {what} is not finite; start again in a new output with lower"
        if number == 0:
            raise UserError(f"pre-training, {message} pretrain.optimizer.lr_backbone and lr_new")
        raise UserError(
            f"round {number}, {message} adapt.optimizer.lr_backbone and lr_new, and pretrain.checkpoint={self.run_directory.shown} "
            "to keep the source model"
        )

    def measure_direct_transfer(self) -> None:
        """Accuracy of the source model on its own test set and on the target's; ends round 0."""
        result, answers = self.state.result, dict[str, ScoreFuture]()
        if self.source.test is not None:
            answers["in_domain"] = self.score("source", self.source.test)
        if self.target.test is not None:
            answers["direct_transfer"] = self.score("target", self.target.test)
        self.look_ahead()
        names = {"in_domain": "its own test set", "direct_transfer": "the target"}
        for key, answer in answers.items():
            result[key] = answer()
            self.note(f"on {names[key]} {accuracy_text(result[key])}")
        self.end_round()

    def measure_round(self) -> None:
        """Accuracy after a round, its line in the result; ends the round."""
        figures, last = self.state.figures, self.state.round == self.config.adapt.rounds
        if self.target.test is not None and (self.config.evaluate.every_round or last):
            with timed(figures["seconds"], "evaluate"):
                answer = self.score("target", self.target.test)
            self.look_ahead()
            with timed(figures["seconds"], "evaluate"):
                figures.update(answer())
            self.note(accuracy_text(figures))
        self.state.result.setdefault("rounds", []).append(figures)
        self.end_round()

    def look_ahead(self) -> None:
        """Extract the features of the next round, if there is one, while the desk ranks those of the test sets."""
        if self.state.round < self.rounds:
            self.ahead = self.target_features()

    def target_features(self) -> tuple[np.ndarray, float]:
        """This process's shard of f_sh over the target, and the seconds it took."""
        seconds: dict[str, float] = {}
        with timed(seconds, "extract"):
            shard_nD = self.extract(self.target.train, "features of the target")
        return shard_nD.astype(self.config.runtime.feature_dtype, copy=False), seconds["extract"]

    def end_round(self) -> None:
        state = self.state
        self.save_round()
        state.round, state.epoch, state.labelled, state.figures = state.round + 1, 0, False, {}
        self.checkpoint(None)

    def engine(self, how: OptimizerConfig, epochs: int, modules: list[Any]) -> Engine:
        """An optimiser over some modules (the backbone at its own rate), continued from a checkpoint where there is one."""
        backbone = {id(p) for p in self.model.backbone.parameters()}
        parameters = [p for module in modules if module is not None for p in module.parameters()]
        groups = [
            {"params": [p for p in parameters if id(p) in backbone], "lr": how.lr_backbone},
            {"params": [p for p in parameters if id(p) not in backbone], "lr": how.lr_new},
        ]
        factor = partial(
            learning_rate_factor,
            epochs=epochs,
            schedule=how.schedule,
            step_epochs=how.step_epochs,
            step_gamma=how.step_gamma,
            warmup_epochs=how.warmup_epochs,
        )
        runtime = self.config.runtime
        engine = Engine(
            self.model, groups, factor, self.team, self.precision,
            optimizer=how.name, momentum=how.momentum, weight_decay=how.weight_decay, clip=how.clip,
            zero_stage=runtime.zero_stage if runtime.strategy == "deepspeed" else None, accumulate=runtime.accumulate,
        )  # fmt: skip
        if self.saved is not None and self.saved["optimizer"] is not None:
            engine.load_optimizer_state(self.saved["optimizer"])
        self.saved = None
        return engine

    def load_pretrained(self, place: str) -> None:
        """Take another run's weights at the end of its pre-training in place of line 1."""
        path = on_this_machine(place, pretrained_files)
        path = RunDirectory(path).round_checkpoint(0) if path.is_dir() else path
        load_weights(self.model, load_checkpoint(path), path)

    def note(self, text: str) -> None:
        """A line for the user about this round."""
        if self.team.is_main:
            number, last = self.state.round, self.config.adapt.rounds
            self.reporter.note(f"{f'round {number} of {last}' if number else 'source model'}: {text}")
