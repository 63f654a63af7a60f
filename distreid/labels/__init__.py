"""Pseudo-labels: features in, clusters out. Arrays only; exact; memory linear in the number of features (SPEC.md, Learning)."""

from distreid.labels.api import dbscan, eps_from_proportion, jaccard_graph, make_pseudo_labels
from distreid.labels.files import load_camids, load_features
from distreid.labels.result import PseudoLabels, save_labels
from distreid.labels.settings import CameraLists
from distreid.labels.weights import soft_weights

__all__ = [
    "CameraLists",
    "PseudoLabels",
    "dbscan",
    "eps_from_proportion",
    "jaccard_graph",
    "load_camids",
    "load_features",
    "make_pseudo_labels",
    "save_labels",
    "soft_weights",
]
