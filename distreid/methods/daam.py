"""DAAM: domain adaptive attention learning (Huang et al., AAAI 2020), Algorithm 1, on one process or many.

Every random number is a function of (seed, round, epoch, step), never of history or of the number of workers, so a run that was
killed continues to the same result from nothing but its last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from distreid.config import Config, OptimizerConfig, to_dict
from distreid.data.loader import Augmentation, Batch, View, training_batches
from distreid.data.sampling import BatchPlan, make_stream, plan_mixed, plan_one, shard
from distreid.errors import UserError
from distreid.labels import PseudoLabels, soft_weights
from distreid.losses import domain_loss, hard_label_loss, label_smoothing_loss, soft_label_loss
from distreid.methods.domains import Network, TestSet
from distreid.methods.features import extract
from distreid.methods.networks import build_model, load_weights
from distreid.methods.protocols import Desk, Reporter, RoundLabels
from distreid.runtime import (
    Engine,
    LossMeter,
    Precision,
    RunDirectory,
    Team,
    learning_rate_factor,
    load_tensors,
    save_tensors,
    timed,
)

LossTerms = dict[str, Tensor]
CHECK_EVERY = 20  # steps between looks at the loss: each one waits for the device and the other processes


@dataclass
class State:
    """Where the run stands; with the weights and the optimiser, all that a checkpoint holds."""

    round: int = 0  # 0 is pre-training
    epoch: int = 0  # epochs of this round that are finished
    labelled: bool = False  # this round's labels are in the run directory
    first_eps: float | None = None
    figures: dict[str, Any] = field(default_factory=dict)  # this round's line of the result, as far as it is known
    result: dict[str, Any] = field(default_factory=dict)


class DAAM:
    """One process's part of a run.

    Args:
        source: labelled; target: unlabelled, with a test set where accuracy is to be measured.
        desk: labels and scores features that all processes hand in.
    """

    def __init__(
        self, config: Config, team: Team, source: Network, target: Network, desk: Desk, run: RunDirectory, reporter: Reporter
    ) -> None:
        self.config, self.team, self.source, self.target = config, team, source, target
        self.desk, self.run_directory, self.reporter = desk, run, reporter
        how = config.runtime
        self.precision = Precision(how.precision, team.device, channels_last=how.channels_last, compile=how.compile)
        self.state = State()
        self.saved: dict[str, Any] | None = None  # a checkpoint being resumed, until its optimiser is loaded
        torch.manual_seed(config.seed)
        begun = run.last.exists() or bool(config.pretrain.checkpoint)
        self.model = build_model(config, source.identities, weights=not begun)
        self.precision.place(self.model)

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
            self.load_pretrained(Path(how.checkpoint))
            return
        assert self.source.labels is not None
        labels = self.source.labels
        stream = make_stream(labels, how.sampler, how.instances, [self.config.seed, 0, 0])

        def loss(engine: Engine, batch: Batch) -> LossTerms:
            output = engine.forward(batch.images_BCHW, self.to_device(batch.domain_B))
            own = self.to_device(labels[batch.index_B])
            return {"source": label_smoothing_loss(output.source_logits_SN, own, how.smoothing)}

        trained = [self.model.backbone, self.model.attention, self.model.neck, self.model.source_head]
        self.train(
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
        seconds: dict[str, float] = {}
        with timed(seconds, "extract"):
            shard_nD = self.extract(self.target.train, "features of the target")
            shard_nD = shard_nD.astype(self.config.runtime.feature_dtype, copy=False)
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
            raise UserError(
                f"round {state.round}: {found} among {len(pseudo.labels)} target images (eps={pseudo.eps:.4f}, "
                f"{outliers} outliers); start again in a new output with a {change} {key} or another labels.min_samples, and "
                f"pretrain.checkpoint={self.run_directory.round_checkpoint(state.round - 1)}, the last good model"
            )
        if state.first_eps is None:
            state.first_eps = pseudo.eps
        state.figures = {"round": state.round, "eps": pseudo.eps, "clusters": clusters, "outliers": outliers, "seconds": seconds}
        state.labelled = True
        self.note(f"{clusters:,} clusters, {outliers:,} of {len(pseudo.labels):,} images outside them, eps {pseudo.eps:.3f}")
        self.model.new_target_head(clusters, seed=self.config.seed * 1000 + state.round)
        if self.team.leads:
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

        self.train(self.engine(how.optimizer, how.epochs, [self.model]), how.epochs, plan, loss)

    def target_loss(self, logits_TK: Tensor, labels: RoundLabels, centers_KD: Tensor, index_T: np.ndarray) -> Tensor:
        """L_cro_t of Eq. 5, or Table 3's alternatives."""
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

    def train(
        self, engine: Engine, epochs: int, plan: Callable[[int], BatchPlan], loss: Callable[[Engine, Batch], LossTerms]
    ) -> None:
        """Run the rest of a round's epochs; a checkpoint after each."""
        state, how = self.state, self.config.input
        augmentation = Augmentation(how.height, how.width, how.flip, how.pad, how.erase)
        domains = [self.source.train, self.target.train]
        first, figures = state.epoch, dict[str, float]()
        for epoch in range(first, epochs):
            started = time.perf_counter()
            batches = plan(epoch)
            seed = [self.config.seed, state.round, 2, epoch]
            # For backbones that draw random numbers of their own (dropout, drop path).
            torch.manual_seed(int(np.random.SeedSequence([*seed, self.team.rank]).generate_state(1)[0]))
            self.model.train()
            if epoch == first:
                title = "pre-training" if state.round == 0 else f"training, round {state.round} of {self.config.adapt.rounds}"
                self.reporter.stage(title, epochs * len(batches), epoch * len(batches))
            meter = LossMeter(self.team)
            for step, batch in enumerate(
                training_batches(
                    domains, batches, augmentation, seed, rank=self.team.rank, world=self.team.world, device=self.team.device,
                    group=self.config.model.batchnorm_group,
                )
            ):  # fmt: skip
                # 1, unless nodes were lost and what is left cannot share the batch equally.
                weight = len(batch.index_B) * self.team.world / batches.index_SB.shape[1]
                rate = engine.learning_rate(epoch + step / len(batches))
                for part in batch.split(self.config.runtime.accumulate):
                    terms = {name: weight * term for name, term in loss(engine, part).items()}
                    engine.step(sum(terms.values(), torch.zeros((), device=self.team.device)))
                    meter.add(terms)
                if (step + 1) % CHECK_EVERY == 0 or step + 1 == len(batches):
                    losses = meter.mean()
                    speed = (step + 1) * len(batch.index_B) / (time.perf_counter() - started)
                    self.reporter.measure(losses, speed)
                    self.check_losses(losses, epoch)
                    figures["loss"] = sum(meter.mean_seen.values())
                self.reporter.advance(epoch * len(batches) + step + 1, {**figures, "epoch": epoch + 1})
            engine.end_epoch(weight)
            self.check_weights(epoch)
            elapsed = time.perf_counter() - started
            state.epoch = epoch + 1
            if state.round > 0:
                seconds = state.figures["seconds"]
                seconds["train"] = seconds.get("train", 0.0) + elapsed
            if self.team.leads:
                record = {"event": "epoch", "round": state.round, "epoch": epoch + 1, "loss": meter.mean_seen, "lr": rate}
                images = batches.index_SB.size
                pace = {"images_per_second": images / elapsed, "seconds": elapsed, "workers": self.team.world}
                self.run_directory.append({**record, **pace})
            self.checkpoint(engine)
        engine.close()

    def check_losses(self, losses: dict[str, float], epoch: int) -> None:
        """The same verdict in every process, because the means are."""
        broken = ", ".join(name for name, value in losses.items() if not np.isfinite(value))
        if broken:
            self.diverged(f"the loss ({broken})", epoch)

    def check_weights(self, epoch: int) -> None:
        """Before they reach a checkpoint: the last step may have broken what its loss did not show."""
        if not all(bool(torch.isfinite(value).all()) for value in self.model.state_dict().values()):
            self.diverged("a weight", epoch)

    def diverged(self, what: str, epoch: int) -> NoReturn:
        number = self.state.round
        message = f"epoch {epoch + 1}: {what} is not finite; start again in a new output with lower"
        if number == 0:
            raise UserError(f"pre-training, {message} pretrain.optimizer.lr_backbone and lr_new")
        raise UserError(
            f"round {number}, {message} adapt.optimizer.lr_backbone and lr_new, and pretrain.checkpoint={self.run_directory.path} "
            "to keep the source model"
        )

    def measure_direct_transfer(self) -> None:
        """Accuracy of the source model on its own test set and on the target's; ends round 0."""
        result = self.state.result
        if self.source.test is not None:
            result["in_domain"] = self.score("source", self.source.test)
        if self.target.test is not None:
            result["direct_transfer"] = self.score("target", self.target.test)
        names = {"in_domain": "its own test set", "direct_transfer": "the target"}
        for key in (key for key in names if key in result):
            self.note(f"on {names[key]} {_accuracy(result[key])}")
        self.end_round()

    def measure_round(self) -> None:
        """Accuracy after a round, its line in the result; ends the round."""
        figures, last = self.state.figures, self.state.round == self.config.adapt.rounds
        if self.target.test is not None and (self.config.evaluate.every_round or last):
            with timed(figures["seconds"], "evaluate"):
                figures.update(self.score("target", self.target.test))
            self.note(_accuracy(figures))
        self.state.result.setdefault("rounds", []).append(figures)
        self.end_round()

    def end_round(self) -> None:
        state = self.state
        if self.team.leads:
            self.run_directory.append({"event": "round", "round": state.round, **(state.figures or state.result)})
            save_tensors(self.run_directory.round_checkpoint(state.round), self.portable())
        state.round, state.epoch, state.labelled, state.figures = state.round + 1, 0, False, {}
        self.checkpoint(None)

    def finish(self) -> dict[str, Any]:
        """Write result.json: the last checkpoint's accuracy, never the best one's."""
        rounds = self.state.result.get("rounds", [])
        accuracy = {key: rounds[-1][key] for key in ("mAP", "rank1", "rank5", "rank10") if key in rounds[-1]} if rounds else {}
        result = {
            "method": self.config.method,
            "source": self.source.name,
            "target": self.target.name,
            "seed": self.config.seed,
            **self.state.result,
            "final": accuracy or None,
        }
        if self.team.leads:
            self.run_directory.write_result(result)
        return result

    def extract(self, images: View, title: str, *, flip: bool = False) -> np.ndarray:
        """This process's shard of the features of ``images``, float32 [n, c]."""
        how = self.config.input
        part = shard(len(images), self.team.rank, self.team.world)
        self.reporter.stage(title, part.stop - part.start)
        return extract(
            self.model,
            images,
            part,
            height=how.height,
            width=how.width,
            batch=self.config.evaluate.batch_size,
            precision=self.precision,
            flip=flip,
            progress=lambda done: self.reporter.advance(done, {}),
        )

    def score(self, name: str, test: TestSet) -> dict[str, float]:
        shard_nD = self.extract(test.images, f"features of the {name}'s test set", flip=self.config.evaluate.flip)
        return self.desk.score(f"{name}-{self.state.round}", name, shard_nD)

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
            optimizer=how.name, momentum=how.momentum, weight_decay=how.weight_decay,
            zero_stage=runtime.zero_stage if runtime.strategy == "deepspeed" else None, accumulate=runtime.accumulate,
        )  # fmt: skip
        if self.saved is not None and self.saved["optimizer"] is not None:
            engine.load_optimizer_state(self.saved["optimizer"])
        self.saved = None
        return engine

    def checkpoint(self, engine: Engine | None) -> None:
        """Replace the checkpoint to resume from; ``engine`` None between the stages, where there is no optimiser to keep."""
        optimizer = engine.optimizer_state() if engine is not None else None
        if self.team.leads:
            self.run_directory.save({**self.portable(), "state": vars(self.state), "optimizer": optimizer})

    def portable(self) -> dict[str, Any]:
        """The model and what is needed to build it again."""
        return {
            "format": 1,
            "config": to_dict(self.config),
            "identities": self.source.identities,
            "content": [self.source.content, self.target.content],
            "model": self.model.state_dict(),
        }

    def resume(self) -> None:
        """Continue from the last checkpoint, if there is one."""
        saved = self.run_directory.load()
        self.team.barrier()  # nobody writes before everybody has read
        if self.team.leads:
            self.run_directory.truncate_metrics(saved["metrics_size"] if saved is not None else 0)
        if not self.team.agrees(repr((self.source.content, self.target.content, saved and saved["state"]))):
            raise UserError(
                f"{self.run_directory.path}: the workers see different files; the output and the packed data must lie on "
                "storage that every node shares"
            )
        if saved is None:
            return
        if saved["content"] != [self.source.content, self.target.content]:
            raise UserError(f"{self.run_directory.path}: the data have changed since this run began; choose another output")
        self.state = State(**saved["state"])
        if self.team.leads and self.state.round <= self.config.adapt.rounds:
            self.run_directory.result.unlink(missing_ok=True)  # of a finished run that goes on: it would look finished
        load_weights(self.model, saved["model"], self.run_directory.last)
        self.saved = saved

    def load_pretrained(self, path: Path) -> None:
        """Take another run's weights at the end of its pre-training in place of line 1."""
        path = RunDirectory(path).round_checkpoint(0) if path.is_dir() else path
        load_weights(self.model, load_tensors(path).get("model", {}), path)

    def to_device(self, array: np.ndarray) -> Tensor:
        return torch.tensor(array, device=self.team.device)

    def note(self, text: str) -> None:
        """A line for the user about this round."""
        if self.team.leads:
            number, last = self.state.round, self.config.adapt.rounds
            self.reporter.note(f"{f'round {number} of {last}' if number else 'source model'}: {text}")


def _accuracy(metrics: dict[str, Any]) -> str:
    return f"mAP {100 * metrics['mAP']:.1f}, Rank-1 {100 * metrics['rank1']:.1f}"
