"""`distreid bench`."""

from __future__ import annotations

from typing import Literal

from distreid.commands.options import Json
from distreid.common.terminal import show
from distreid.labels.settings import LabelSettings, label_settings

USUAL = LabelSettings()


def bench(
    what: Literal["labels", "score", "train", "input", "loop", "round"],
    /,
    *,
    n: int = 12_936,
    dim: int = 2048,
    p: float = USUAL.p,
    device: Literal["cpu", "cuda"] = "cpu",
    neighbours: Literal["exact", "ivf", "hnsw"] = "exact",
    images_per_identity: int = 20,
    oracle: bool = False,
    config: str = "",
    as_json: Json = False,
) -> None:
    """Measure this machine.

    Args:
        what: labels and score need nothing; train is one DAAM step; input is decoding, augmentation and the step apart, and
            which of them binds; loop is training, images and all, beside a bare loop of
            PyTorch; round moves features and labels through Ray.
        n: labels, round: features; score: gallery images.
        dim: Of the features.
        p: labels: see `distreid label --help`.
        device: labels: the engine.
        neighbours: labels: see `distreid label --help`.
        images_per_identity: labels: of the random features.
        oracle: labels: the dense N x N form beside it (n up to 4,000).
        config: input, loop: the YAML file whose data, size, batch and network are measured; drawn images and ResNet-18 without one.
    """
    from distreid.actions.bench import bench as run
    from distreid.common.errors import UserError

    if images_per_identity < 1:
        raise UserError(f"--images-per-identity {images_per_identity} must be greater than 0")
    settings = label_settings(p=p, device=device, neighbours=neighbours)
    labels = {"settings": settings, "oracle": oracle, "images_per_identity": images_per_identity}
    show(run(what, n=n, dim=dim, as_json=as_json, labels=labels, config=config))
