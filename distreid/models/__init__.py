"""Networks, nothing else."""

from distreid.models.attention import DomainAdaptiveAttention
from distreid.models.backbone import Backbone, build_backbone
from distreid.models.daam import DAAMNet, DAAMOutput
from distreid.models.edaan import EDAAN, Sizes, Translation, attended, compose, parameters_of
from distreid.models.network import ReIDNetwork, load_weights
from distreid.models.norm import GroupedBatchNorm2d, group_batchnorm
from distreid.models.randomness import PlacedDropout, Rows, place_randomness

__all__ = [
    "EDAAN",
    "Backbone",
    "DAAMNet",
    "DAAMOutput",
    "DomainAdaptiveAttention",
    "GroupedBatchNorm2d",
    "PlacedDropout",
    "ReIDNetwork",
    "Rows",
    "Sizes",
    "Translation",
    "attended",
    "build_backbone",
    "compose",
    "group_batchnorm",
    "load_weights",
    "parameters_of",
    "place_randomness",
]
