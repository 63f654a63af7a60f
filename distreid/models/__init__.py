"""Networks, nothing else."""

from distreid.models.attention import DomainAdaptiveAttention
from distreid.models.backbone import Backbone, build_backbone
from distreid.models.daam import DAAMNet, DAAMOutput
from distreid.models.norm import GroupedBatchNorm2d, group_batchnorm

__all__ = [
    "Backbone",
    "DAAMNet",
    "DAAMOutput",
    "DomainAdaptiveAttention",
    "GroupedBatchNorm2d",
    "build_backbone",
    "group_batchnorm",
]
