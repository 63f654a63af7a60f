"""Networks, nothing else."""

from distreid.models.attention import DomainAdaptiveAttention
from distreid.models.backbone import Backbone, build_backbone
from distreid.models.daam import DAAMNet, DAAMOutput
from distreid.models.domain_norm import Domains, begin_target, domain_batchnorm, match_on, train_on
from distreid.models.edaan import EDAAN, Sizes, Translation, attended, compose
from distreid.models.encoder import EncoderNetwork, FeatureEncoder, GeM
from distreid.models.network import ReIDNetwork, load_weights, parameters_of
from distreid.models.norm import GroupedBatchNorm2d, freeze_statistics, group_batchnorm
from distreid.models.randomness import PlacedDropout, Rows, place_randomness

__all__ = [
    "EDAAN",
    "Backbone",
    "DAAMNet",
    "DAAMOutput",
    "DomainAdaptiveAttention",
    "Domains",
    "EncoderNetwork",
    "FeatureEncoder",
    "GeM",
    "GroupedBatchNorm2d",
    "PlacedDropout",
    "ReIDNetwork",
    "Rows",
    "Sizes",
    "Translation",
    "attended",
    "begin_target",
    "build_backbone",
    "compose",
    "domain_batchnorm",
    "freeze_statistics",
    "group_batchnorm",
    "load_weights",
    "match_on",
    "parameters_of",
    "place_randomness",
    "train_on",
]
