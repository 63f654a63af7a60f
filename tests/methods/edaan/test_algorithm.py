"""EDAAN's schedule in one process: which weights move when, that it can die anywhere, and its variants."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from distreid.actions.train import report
from distreid.common.errors import UserError
from distreid.config import Config, config_from_dict
from distreid.data.loader import Batch
from distreid.data.sampling import PKStream, PlainStream, plan_unpaired
from distreid.losses import (
    adversarial_loss,
    attention_consistency_loss,
    cycle_loss,
    hard_label_loss,
    quartet_loss,
)
from distreid.methods.edaan.algorithm import EDAANMethod
from distreid.methods.edaan.config import EDAANConfig
from distreid.methods.edaan.objectives import GeneratorSide, Labelled, interleave
from distreid.methods.edaan.schedule import Phase, linear_decay_factor, phases
from distreid.methods.edaan.stages import draw_labelled, frozen, labels_of, make_engines
from distreid.methods.networks import load_model
from distreid.models import EDAAN, Sizes
from distreid.report.text import result_table
from distreid.training import ProcessGroup, RunDirectory, load_tensors
from distreid.training.context import Context
from distreid.training.domains import open_domain
from distreid.training.in_process import LocalEvaluator, LocalLabeler
from tests.training_runs import TINY_EDAAN, Silent, accuracies, edaan_settings, metrics, run

Make = Callable[..., Config]


@pytest.fixture
def make(packed_pair: tuple[Path, Path], tmp_path: Path) -> Make:
    return lambda *overrides: config_from_dict(edaan_settings(packed_pair, tmp_path / "run"), list(overrides))


@pytest.fixture(scope="module")
def undisturbed(packed_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Any, int]:
    config = config_from_dict(edaan_settings(packed_pair, tmp_path_factory.mktemp("edaan") / "run"))
    reporter = Silent()
    return config, run(config, reporter), reporter.calls


def method(config: Config) -> EDAANMethod:
    networks = open_domain(config.source, labelled=True), open_domain(config.target, labelled=False)
    parts = LocalLabeler(config.labels, torch.device("cpu")), LocalEvaluator({}, torch.device("cpu"))
    return EDAANMethod(Context(config, ProcessGroup(), *networks, *parts, RunDirectory(config.output), Silent()))


def test_the_schedule_is_the_papers() -> None:
    assert phases(EDAANConfig()) == [Phase(30, True, False), Phase(200, False, True)]
    assert phases(EDAANConfig(whole_epochs=10)) == [Phase(10, True, False), Phase(30, True, True), Phase(200, False, True)]
    assert phases(EDAANConfig(attention=False)) == [Phase(200, False, False)]
    assert phases(EDAANConfig(attention_epochs=0, whole_epochs=500)) == [Phase(200, False, False)]
    rates = [linear_decay_factor(epoch, constant=100, decay=100) for epoch in (0, 99.9, 100, 150, 175, 200)]
    assert rates == [1, 1, 1, 0.5, 0.25, 0]
    assert linear_decay_factor(2, constant=3, decay=0) == 1


def test_pairs_of_batches_are_balanced_and_do_not_depend_on_the_workers() -> None:
    labels = np.repeat(np.arange(10), 5)
    source, target = PKStream(labels, 4, [0]), PlainStream(7, [1])
    plan = plan_unpaired(source, target, 3, half=16, group=16)
    assert len(plan) == source.length // 16 and plan.index_SB.shape == (len(plan), 32)
    for domain_B, index_B in zip(plan.domain_SB, plan.index_SB, strict=True):
        for part in range(2):  # as two workers cut it
            mine = slice(16 * part, 16 * (part + 1))
            own = labels[index_B[mine][domain_B[mine] == 0]]
            assert len(own) == 8 and (domain_B[mine] == 1).sum() == 8
            assert (own[:4] == own[0]).all() and (own[4:] == own[4]).all()
    streamed = np.concatenate([index_B[domain_B == 1] for domain_B, index_B in zip(plan.domain_SB, plan.index_SB, strict=True)])
    assert set(streamed) == set(range(7)), "a target smaller than the source is cycled through"


def test_views_stand_together_group_by_group() -> None:
    real, fake = torch.arange(8), 100 + torch.arange(8)
    assert interleave([real, fake], 4).tolist() == [0, 1, 2, 3, 100, 101, 102, 103, 4, 5, 6, 7, 104, 105, 106, 107]
    halves = [interleave([real[part], fake[part]], 4) for part in (slice(0, 4), slice(4, 8))]
    assert torch.equal(torch.cat(halves), interleave([real, fake], 4))


def uneven(model: EDAAN) -> None:
    """Attention that is not the same everywhere, as it is before training."""
    for translator in (model.source, model.target):
        assert translator is not None and translator.attention is not None
        nn.init.normal_(translator.attention.body[-1].weight, std=0.3)


@pytest.mark.parametrize("kept", [False, True])
def test_the_generators_loss_is_equation_9_term_by_term(kept: bool) -> None:
    torch.manual_seed(0)
    how = EDAANConfig(
        group=6, instances=2, gan_weight=0.5, cycle_weight=3.0, attention_weight=7.0, metric_weight=2.0, foreground_view=kept
    )
    assert how.views == (3 if kept else 2)
    model = EDAAN(4, Sizes(**{**TINY_EDAAN, "dropout": 0.5}))  # type: ignore[arg-type]
    uneven(model)
    x = 2 * torch.rand(12, 3, 16, 8) - 1
    rows = torch.arange(12).chunk(2)
    labels, keep = torch.tensor([0, 0, 1, 1, 2, 2]), torch.rand(6 * how.views, 128) < 0.5
    for masked in (False, True):
        model.load_state_dict(model.state_dict())
        side = GeneratorSide(model, how, joint=True, masked=masked)
        terms, seen = side(x, *rows, Labelled(labels, keep))
        g, f, d_s, d_t = model.source, model.target, model.source_discriminator, model.target_discriminator
        assert g is not None and f is not None and d_s is not None and d_t is not None
        assert g.attention is not None and f.attention is not None
        x_s, x_t = x[:6], x[6:]
        a_s, a_t = g.attention(x_s), f.attention(x_t)
        to_t = (1 - a_s) * g.decoder(g.encoder(x_s)) + a_s * x_s
        to_s = (1 - a_t) * f.decoder(f.encoder(x_t)) + a_t * x_t
        back_a_s, back_a_t = f.attention(to_t), g.attention(to_s)
        back_s = (1 - back_a_s) * f.decoder(f.encoder(to_t)) + back_a_s * to_t
        back_t = (1 - back_a_t) * g.decoder(g.encoder(to_s)) + back_a_t * to_s
        area_s, area_t = ((1 - a_s >= 0.5), (1 - a_t >= 0.5)) if masked else (1, 1)
        assert not masked or 0 < area_s.float().mean() < 1
        gan = adversarial_loss(d_t(to_t * area_s), real=True) + adversarial_loss(d_s(to_s * area_t), real=True)
        torch.testing.assert_close(terms["gan"], 0.5 * gan)
        torch.testing.assert_close(terms["cycle"], 3 * (cycle_loss(x_s, back_s) + cycle_loss(x_t, back_t)))
        attention = attention_consistency_loss(a_s, back_a_s) + attention_consistency_loss(a_t, back_a_t)
        torch.testing.assert_close(terms["attention"], 7 * attention)
        views = [x_s, to_t] + [a_s * x_s] * kept
        logits, embeddings = model.head(torch.cat([g.encoder(view) for view in views]), keep)
        every = labels.repeat(how.views)
        torch.testing.assert_close(terms["identity"], hard_label_loss(logits, every))
        torch.testing.assert_close(terms["metric"], 2 * quartet_loss(embeddings, every, margin=0.3))
        for image, expected in zip(seen, (x_s * area_s, to_s * area_t, x_t * area_t, to_t * area_s), strict=True):
            torch.testing.assert_close(image, expected.detach())
            assert not image.requires_grad


def moved(before: dict[str, torch.Tensor], module: nn.Module | None) -> bool:
    assert module is not None
    return any(not torch.equal(before[name], value) for name, value in module.state_dict().items())


def snapshot(module: nn.Module | None) -> dict[str, torch.Tensor]:
    assert module is not None
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("attention", [True, False])
def test_each_step_moves_only_what_the_schedule_says(make: Make, attention: bool) -> None:
    trainer = method(make())
    model = trainer.model
    assert model.source is not None
    generators, discriminators = make_engines(trainer.context, model, Phase(1, attention, not attention), joint=True)
    x = 2 * torch.rand(32, 3, 16, 8) - 1
    domain = np.tile(np.repeat([0, 1], 8), 2)
    batch, labels = Batch(x, domain, np.arange(32) % 16, 0), torch.from_numpy(labels_of(trainer.context))
    parts = (model.source.encoder, model.source.decoder, model.source.attention, model.head, model.target_discriminator)
    before = [snapshot(part) for part in parts]
    with frozen(model.discriminators()):
        terms, seen = generators.forward(
            x, batch.sides.source_S, batch.sides.target_T, draw_labelled(trainer.context, model, labels, batch, [0])
        )
        generators.step(sum(terms.values(), torch.zeros(())))
    assert [moved(b, part) for b, part in zip(before, parts, strict=True)] == [True, True, attention, True, False]
    assert all(p.grad is None for d in model.discriminators() for p in d.parameters()), "no gradient reaches a discriminator"
    before = [snapshot(part) for part in parts]
    discriminators.step(discriminators.forward(*seen))
    assert [moved(b, part) for b, part in zip(before, parts, strict=True)] == [False, False, False, False, True]


@pytest.mark.slow
def test_the_attention_freezes_after_its_epochs_and_the_rest_goes_on(undisturbed: tuple[Config, Any, int], make: Make) -> None:
    class StopAfter(Silent):
        """Ends the run at the first step of the third epoch."""

        def advance(self, done: int, figures: dict[str, float]) -> None:
            if figures["epoch"] == 3:
                raise KeyboardInterrupt

    config = make()
    with pytest.raises(KeyboardInterrupt):
        run(config, StopAfter())
    early = load_tensors(RunDirectory(config.output).last)["model"]
    late = load_tensors(RunDirectory(undisturbed[0].output).last)["model"]
    changed = {name for name in late if not torch.equal(early[name], late[name])}
    assert not any(".attention." in name for name in changed)
    assert {name.split(".")[0] for name in changed} == {"source", "target", "source_discriminator", "target_discriminator", "head"}


def test_what_a_run_leaves_behind(undisturbed: tuple[Config, Any, int]) -> None:
    config, result, _ = undisturbed
    assert set(result) == {"method", "source", "target", "seed", "in_domain", "rounds", "final"}
    assert result["final"]["mAP"] == result["rounds"][0]["mAP"] and result["rounds"][0]["stage"] == "joint"
    lines = [line for line in metrics(config) if line["event"] == "epoch"]
    assert [set(line["loss"]) for line in lines] == [{"gan", "cycle", "attention", "identity", "metric", "discriminator"}] * 3
    assert lines[0]["lr"] == 2e-4 and lines[2]["lr"] < 2e-4
    assert [file.name for file in sorted((Path(config.output) / "pictures").iterdir())] == ["epoch-002.png"]
    model, _, _ = load_model(Path(config.output))
    assert isinstance(model, EDAAN)
    page = report([Path(config.output)]).read_text()
    assert "EDAAN" in page and "discriminator" in page and "eps over rounds" not in page
    assert all(title in page for title in ("Translations over epochs", "epoch 2<", "Rank lists", "Embedding"))
    assert "on the target." in page and "Accuracy over rounds" not in page and "adapted" not in page.lower()
    table = result_table(result)
    assert "stage 1, joint" in table and "final" in table and "adapted" not in table


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.2, 0.5, 0.7, 0.95])
def test_a_run_stopped_anywhere_continues_to_the_same_bits(undisturbed: tuple[Config, Any, int], make: Make, share: float) -> None:
    reference, result, calls = undisturbed
    config = make()
    with pytest.raises(KeyboardInterrupt):
        run(config, Silent(stop_at=int(share * calls)))
    assert accuracies(run(config, resume=True)) == accuracies(result)
    ours, theirs = (load_tensors(RunDirectory(c.output).last)["model"] for c in (config, reference))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


@pytest.mark.parametrize(
    ("overrides", "stages"),
    [
        (["edaan.variant=daan", "edaan.metric=triplet", "edaan.mining=all"], ["translation", "reid"]),
        (["edaan.variant=daan", "edaan.attention=false", "edaan.gan=squares"], ["translation", "reid"]),
        (["edaan.variant=cyclegan", "edaan.attention=false", "edaan.metric=none", "edaan.feature=pooled"], ["translation", "reid"]),
        (["edaan.attention=false", "runtime.precision=bf16", "edaan.feature=pooled"], ["joint"]),
        (["edaan.variant=direct", "input.erase=0.5", "input.pad=2"], ["reid"]),
    ],
)
def test_every_variant_runs(make: Make, overrides: list[str], stages: list[str]) -> None:
    result = run(
        make("edaan.epochs=1", "edaan.decay_epochs=0", "edaan.reid_decay_epochs=0", "edaan.mask_threshold=0.0", *overrides)
    )
    assert [line["stage"] for line in result["rounds"]] == stages
    assert np.isfinite(result["final"]["mAP"]) and np.isfinite(result["in_domain"]["mAP"])


@pytest.mark.slow
def test_the_second_stage_leaves_the_translator_alone(make: Make) -> None:
    config = make("edaan.variant=daan", "edaan.epochs=1", "edaan.decay_epochs=0")
    run(config)
    directory = RunDirectory(config.output)
    first, second = (load_tensors(directory.round_checkpoint(number))["model"] for number in (1, 2))
    changed = {name.split(".")[0] for name in second if not torch.equal(first[name], second[name])}
    assert changed == {"own_encoder", "head"}


def test_the_masks_area_and_binarity_are_held_where_asked(make: Make) -> None:
    how = dataclasses.replace(make().group(EDAANConfig), area_prior_weight=2.0, area_prior=0.25, binary_weight=3.0)
    trainer = method(make("edaan.network.attention_start=0.9"))
    assert trainer.model.source is not None and trainer.model.source.attention is not None
    started = trainer.model.source.attention(torch.rand(2, 3, 16, 8))
    torch.testing.assert_close(started, torch.full_like(started, 0.9))
    uneven(trainer.model)
    side = GeneratorSide(trainer.model, how, joint=False, masked=False)
    x_BCHW = torch.rand(4, 3, 16, 8) * 2 - 1
    rows = torch.arange(4).chunk(2)
    terms, _ = side(x_BCHW, *rows, Labelled(torch.zeros(2, dtype=torch.int64), torch.ones(4, 128, dtype=torch.bool)))
    area, binarity = 0.0, 0.0
    for translator, own in zip((side.source, side.target), rows, strict=True):
        assert translator is not None
        masks = translator(x_BCHW[own]).mask_B1HW.detach().double().numpy()
        area += np.mean([(mask.mean() - 0.25) ** 2 for mask in masks])
        binarity += np.mean([a * (1 - a) for a in masks.ravel()])
    assert float(terms["area"].detach()) == pytest.approx(2 * area, rel=1e-5)
    assert float(terms["binarity"].detach()) == pytest.approx(3 * binarity, rel=1e-5)


def test_a_learning_rate_that_is_far_too_high_is_one_line(make: Make) -> None:
    with pytest.raises(UserError, match=r"joint training, epoch 1: .*not finite.*edaan\.lr") as caught:
        run(make("edaan.lr=1e30"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("edaan.variant=cyclegan", "edaan.attention=false"),
        ("input.erase=0.5", "erased"),
        ("input.height=30", "multiples of 4"),
        ("edaan.group=5", "edaan.group=5 does not divide"),
        ("edaan.instances=3", "edaan.instances=3 does not divide"),
        ("edaan.instances=4", "quartet needs 3 identities"),
        ("runtime.workers=3", "edaan.group=8 does not divide"),
        ("edaan.metric=none", "set edaan.feature=pooled"),
        ("edaan.replay=24", "multiple of edaan.batch_size=16"),
        ("edaan.epoch=3", "did you mean 'edaan.epochs'"),
        ("edaan.network.dropout=1.0", "dropout=1.0"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(make: Make, override: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        make(override)
    assert "\n" not in str(caught.value)
