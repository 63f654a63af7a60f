"""DAAM: domain adaptive attention learning (Huang et al., AAAI 2020), Algorithm 1, on one process or many."""

from __future__ import annotations

from torch import Tensor

from distreid.labels import PseudoLabels
from distreid.methods.daam.network import build_model
from distreid.methods.daam.stages import Adaptation, Pretraining
from distreid.methods.rounds import Rounds
from distreid.models import DAAMNet
from distreid.training.context import Context
from distreid.training.protocols import RoundLabels

# What line 1 does not train: a source model may be of a network with or without them.
UNTRAINED = ("domain_head.", "specific_attention.")


class DAAM(Rounds[DAAMNet]):
    """One process's part of a run; :meth:`run` is Algorithm 1."""

    def __init__(self, context: Context) -> None:
        super().__init__(context, build_model)

    def train_source(self) -> None:
        """L_cro_s only (Eq. 3)."""
        self.fit(Pretraining(self.context, self.model))

    def adopt(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        own = {name: value for name, value in self.model.state_dict().items() if name.startswith(UNTRAINED)}
        return own | {name: value for name, value in weights.items() if name in own or not name.startswith(UNTRAINED)}

    def begin(self, pseudo: PseudoLabels) -> None:
        """A new head for the round's clusters."""
        self.model.new_target_head(len(pseudo.centers), seed=self.config.seed * 1000 + self.state.round)

    def adapt(self, labels: RoundLabels) -> None:
        """Source and target with Eq. 7."""
        self.fit(Adaptation(self.context, self.model, self.state.round, labels))
