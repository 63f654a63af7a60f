"""From images to what is clustered and matched, with the parts that a method may have beside its paper's: GeM pooling, a neck, a
mean teacher."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from distreid.models.backbone import Backbone
from distreid.models.domain_norm import is_source_statistics, under_domain_names
from distreid.models.network import ReIDNetwork, copy_of

Pooling = Literal["mean", "gem"]
NEW = ("gem.", "neck.")  # parts that another run's encoder may lack
ENCODER = "encoder."  # before the names of an encoder that stands in a network as a module of its own


class GeM(nn.Module):
    """Generalised mean over the places of a map, (mean of x^p)^(1/p) (Radenovic et al. 2018): [B, c, h, w] to float32 [B, c].

    p is learnt; 1 is the mean, infinity the maximum. What is below ``least`` counts as ``least``: a root needs positive numbers.
    """

    def __init__(self, p: float = 3.0, least: float = 1e-6) -> None:
        super().__init__()
        self.p, self._least = nn.Parameter(torch.tensor([p])), least

    def forward(self, f_Bchw: Tensor) -> Tensor:
        return f_Bchw.float().clamp(min=self._least).pow(self.p).mean((2, 3)).pow(1 / self.p)


def gem(pooling: Pooling) -> GeM | None:
    """What :func:`pool` takes: None for the mean."""
    return GeM() if pooling == "gem" else None


def pool(f_Bchw: Tensor, gem: GeM | None = None) -> Tensor:
    """A map to a vector of each image, float32 [B, c]."""
    return f_Bchw.float().mean((2, 3)) if gem is None else gem(f_Bchw)


def through(neck: nn.Module | None, f_Bc: Tensor) -> Tensor:
    """Behind a BatchNorm over maps of one place (Luo et al. 2019), if there is one; BatchNorm1d would not be grouped."""
    return f_Bc if neck is None else neck(f_Bc[:, :, None, None])[:, :, 0, 0]


def classifier(inputs: int, outputs: int, generator: torch.Generator | None = None) -> nn.Linear:
    """Features to logits; small random weights, no offsets."""
    head = nn.Linear(inputs, outputs)
    nn.init.normal_(head.weight, std=0.001, generator=generator)
    nn.init.zeros_(head.bias)
    return head


class FeatureEncoder(nn.Module):
    """Backbone, attention A or none, pooling, neck or none: images [B, 3, H, W] to float32 [B, c], not normalised."""

    def __init__(self, backbone: Backbone, attention: nn.Module | None, gem: GeM | None, neck: nn.Module | None) -> None:
        super().__init__()
        self.backbone, self.attention, self.gem, self.neck = backbone, attention, gem, neck

    def pooled(self, x_BCHW: Tensor) -> Tensor:
        """What stands before the neck."""
        f_Bchw = self.backbone(x_BCHW)
        return pool(f_Bchw if self.attention is None else self.attention(f_Bchw) * f_Bchw, self.gem)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return through(self.neck, self.pooled(x_BCHW))


class EncoderNetwork(ReIDNetwork):
    """Gives the features of an encoder that trains, the student, or of a second one that follows it, the mean teacher.

    Attributes:
        teacher: after Tarvainen and Valpola (NIPS 2017); None without.
        student_prefix: of the student's weights, by their names in this network: "" or :data:`ENCODER`.
    """

    teacher: FeatureEncoder | None
    student_prefix = ""

    @abstractmethod
    def student(self) -> FeatureEncoder:
        """The encoder that trains."""

    @abstractmethod
    def trained_on_source(self) -> list[nn.Parameter]:
        """All that the source's classifier depends on."""

    def features(self, x_BCHW: Tensor) -> Tensor:
        return (self.student() if self.teacher is None else self.teacher)(x_BCHW)

    def begin_teacher(self) -> None:
        """Make a teacher that is the student as it stands."""
        self.teacher = copy_of(self.student())

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """theta' <- t theta' + (1 - t) theta: bring the teacher, if there is one, a step nearer to the student.

        Its weights and its BatchNorm's statistics are means over the student's past.
        """
        if self.teacher is None:
            return
        for slow, fast in zip(self.teacher.state_dict().values(), self.student().state_dict().values(), strict=True):
            if slow.is_floating_point():
                slow.lerp_(fast, 1 - momentum)
            else:
                slow.copy_(fast)

    def matches_by(self, name: str) -> bool:
        """Whether a weight, by its name, takes part in what is matched: of the teacher, of the target's BatchNorms."""
        encoder, prefix = (self.student(), self.student_prefix) if self.teacher is None else (self.teacher, "teacher.")
        own = name.startswith(prefix) and name[len(prefix) :] in encoder.state_dict()
        return own and not is_source_statistics(self, name)

    def with_own_parts(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of any method: the student's get the names that they have here. Parts that they lack begin anew (GeM, neck) or as
        copies (teacher, a domain's BatchNorm); a teacher too many is left out, and of two domains' BatchNorms the target's is taken
        where there is one."""
        bare = ((name.removeprefix(ENCODER), value) for name, value in weights.items())
        parts = tuple(f"{name}." for name, _ in self.student().named_children())
        weights = {self.student_prefix + name if name.startswith(parts) else name: value for name, value in bare}
        weights = under_domain_names(self, weights)
        taught = {name: value for name, value in weights.items() if name.startswith("teacher.")}
        own = {name: value for name, value in weights.items() if name not in taught}
        prefix = self.student_prefix
        for name, value in self.state_dict().items():
            if name.startswith(tuple(prefix + part for part in NEW)):
                own.setdefault(name, value)
        if self.teacher is None:
            return own
        copied = {f"teacher.{name}": own[prefix + name] for name in self.teacher.state_dict() if prefix + name in own}
        return own | (taught or copied)
