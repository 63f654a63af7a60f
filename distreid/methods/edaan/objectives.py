"""The networks of EDAAN that one optimiser moves, each as one module with one forward pass to its loss.

One forward and one backward a step is what DDP asks for: gradients are averaged once, although images pass the generators several
times. What a side only looks at (the generators at the discriminators, re-ID's second stage at the translator) is no part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from distreid.losses import (
    adversarial_loss,
    area_loss,
    attention_consistency_loss,
    binarity_loss,
    cycle_loss,
    hard_label_loss,
    quartet_loss,
    triplet_loss,
)
from distreid.methods.edaan.config import EDAANConfig
from distreid.models import EDAAN, Translation, attended
from distreid.models.edaan import ReIDHead

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Labelled:
    """The source images of a batch as the re-ID loss needs them.

    Attributes:
        labels_S: int64 [S].
        keep_RD: what dropout keeps of each row of the re-ID batch (:func:`interleave`); bool [S * views, 128].
    """

    labels_S: Tensor
    keep_RD: Tensor


class GeneratorSide(nn.Module):
    """Both translators and, end to end, the re-ID head: Eq. 9 without the discriminators' part.

    ``masked``: whether the discriminators see the attended region only.
    """

    def __init__(self, model: EDAAN, settings: EDAANConfig, *, joint: bool, masked: bool) -> None:
        super().__init__()
        self.source, self.target = model.source, model.target
        self.head = model.head if joint else None
        self._discriminators = (model.source_discriminator, model.target_discriminator)  # in a tuple: not a part
        self._settings, self._masked = settings, masked

    def forward(self, x_BCHW: Tensor, source_S: Tensor, target_T: Tensor, labelled: Labelled) -> tuple[Terms, tuple[Tensor, ...]]:
        """Signed images to the loss terms, whose sum is Eq. 9, and what :class:`DiscriminatorSide` is to judge.

        source_S, target_T: rows of the source's images and of the target's, int64.
        """
        assert self.source is not None and self.target is not None
        x_S, x_T, settings = x_BCHW[source_S], x_BCHW[target_T], self._settings
        there_S, there_T = self.source(x_S), self.target(x_T)  # G(x), Eq. 1; F(x), Eq. 2
        back_S, back_T = self.target(there_S.image_BCHW), self.source(there_T.image_BCHW)
        fake_T, fake_S = self._seen(there_S.image_BCHW, there_S), self._seen(there_T.image_BCHW, there_T)
        terms = {
            "gan": settings.gan_weight * self.deception(fake_S, fake_T),
            "cycle": settings.cycle_weight * (cycle_loss(x_S, back_S.image_BCHW) + cycle_loss(x_T, back_T.image_BCHW)),  # Eq. 4
        }
        if there_S.mask_B1HW is not None:
            consistency = attention_consistency(there_S, back_S) + attention_consistency(there_T, back_T)
            terms |= {"attention": settings.attention_weight * consistency, **mask_priors([there_S, there_T], settings)}
        if self.head is not None:
            terms |= reid_terms(self.head, self.views(x_S, there_S), labelled, settings)
        seen = (self._seen(x_S, there_S), fake_S, self._seen(x_T, there_T), fake_T)
        return terms, tuple(images.detach() for images in seen)

    def deception(self, fake_S: Tensor, fake_T: Tensor) -> Tensor:
        """Eq. 3 in both directions, as the generators minimise it."""
        source_judge, target_judge = self._discriminators
        assert source_judge is not None and target_judge is not None
        kind = self._settings.gan
        return adversarial_loss(target_judge(fake_T), real=True, kind=kind) + adversarial_loss(
            source_judge(fake_S), real=True, kind=kind
        )

    def views(self, x_S: Tensor, there_S: Translation) -> list[Tensor]:
        """The re-ID encoder's features of the source images as they are, translated and, where asked, their foreground alone."""
        assert self.source is not None
        views = [there_S.features_Bchw, self.source.encoder(there_S.image_BCHW)]
        if self._settings.foreground_view and there_S.mask_B1HW is not None:
            views.append(self.source.encoder(there_S.mask_B1HW * x_S))
        return views

    def _seen(self, image_BCHW: Tensor, translation: Translation) -> Tensor:
        """What a discriminator sees of an image, real or translated, with the attention that the real one was given."""
        return attended(image_BCHW, translation.mask_B1HW, self._settings.mask_threshold) if self._masked else image_BCHW


def attention_consistency(there: Translation, back: Translation) -> Tensor:
    """One direction of Eq. 5."""
    assert there.mask_B1HW is not None and back.mask_B1HW is not None
    return attention_consistency_loss(there.mask_B1HW, back.mask_B1HW)


def mask_priors(translations: Sequence[Translation], settings: EDAANConfig) -> Terms:
    """Ours, not the paper's: how much a mask keeps, and that it decides."""
    masks = [translation.mask_B1HW for translation in translations if translation.mask_B1HW is not None]
    priors = (
        ("area", settings.area_prior_weight, partial(area_loss, area=settings.area_prior)),
        ("binarity", settings.binary_weight, binarity_loss),
    )
    return {name: weight * torch.stack([prior(mask) for mask in masks]).sum() for name, weight, prior in priors if weight}


class DiscriminatorSide(nn.Module):
    """D_S and D_T: Eq. 3 as they maximise it, each the mean of its real and its generated images."""

    def __init__(self, model: EDAAN, settings: EDAANConfig) -> None:
        super().__init__()
        self.source, self.target = model.source_discriminator, model.target_discriminator
        self._kind = settings.gan

    def forward(self, real_S: Tensor, fake_S: Tensor, real_T: Tensor, fake_T: Tensor) -> Tensor:
        assert self.source is not None and self.target is not None
        judged = ((self.source(real_S), self.source(fake_S)), (self.target(real_T), self.target(fake_T)))
        return sum(
            (
                adversarial_loss(logits, real=is_real, kind=self._kind) / 2
                for pair in judged
                for logits, is_real in zip(pair, (True, False), strict=True)
            ),
            torch.zeros((), device=real_S.device),
        )


class ReIDSide(nn.Module):
    """A re-ID network of its own: direct transfer, or a second stage on real and translated images (cyclegan: on the latter)."""

    def __init__(self, model: EDAAN, settings: EDAANConfig) -> None:
        super().__init__()
        self.encoder, self.head = model.encoder, model.head
        self._translators = (model.source,)
        self._settings = settings

    def forward(self, x_S: Tensor, labelled: Labelled) -> Terms:
        """Signed source images to the loss terms."""
        (translator,) = self._translators
        views = [] if self._settings.variant == "cyclegan" else [x_S]
        if translator is not None:
            with torch.no_grad():
                views.append(translator(x_S).image_BCHW)
        return reid_terms(self.head, [self.encoder(view) for view in views], labelled, self._settings)


def interleave(views: Sequence[Tensor], group: int) -> Tensor:
    """[S, ...] each to [S * views, ...]: group by group, all views of ``group`` images stand together.

    BatchNorm and the tuples of a metric loss so see real and translated images side by side, on any number of workers.
    """
    return torch.stack([view.unflatten(0, (-1, group)) for view in views], 1).flatten(0, 2)


def reid_terms(head: ReIDHead, features: Sequence[Tensor], labelled: Labelled, settings: EDAANConfig) -> Terms:
    """Eq. 8 and Eq. 6 or 7 over all views of the source images, a view's identities being the images' own."""
    labels_R = interleave([labelled.labels_S] * len(features), settings.group)
    logits_RN, embeddings_RD = head(interleave(features, settings.group), labelled.keep_RD)
    terms = {"identity": settings.identity_weight * hard_label_loss(logits_RN, labels_R)}
    if settings.metric == "none":
        terms["identity"] = terms["identity"] + 0 * embeddings_RD.sum()  # DDP waits for every parameter's gradient
    else:
        loss = quartet_loss if settings.metric == "quartet" else triplet_loss
        rows = settings.group * len(features)
        groups = zip(embeddings_RD.split(rows), labels_R.split(rows), strict=True)
        losses = [loss(embeddings, labels, margin=settings.margin, mining=settings.mining) for embeddings, labels in groups]
        terms["metric"] = settings.metric_weight * torch.stack(losses).mean()
    return terms
