"""Pseudo-labels: features in, clusters out. Arrays only; exact; memory linear in the number of features (SPEC.md, Learning).

What is named here is imported on first use: a configuration needs the settings alone, not torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distreid.labels.api import PseudoLabels, dbscan, eps_from_proportion, jaccard_graph, make_pseudo_labels
    from distreid.labels.files import load_camids, load_features, save_labels
    from distreid.labels.settings import LabelSettings
    from distreid.labels.weights import soft_weights

__all__ = [
    "LabelSettings",
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
_FILES = {
    "LabelSettings": "settings",
    "load_camids": "files",
    "load_features": "files",
    "save_labels": "files",
    "soft_weights": "weights",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"distreid.labels.{_FILES.get(name, 'api')}"), name)
