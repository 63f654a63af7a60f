"""The matching network (images in, features out) as one file for other programs: safetensors or ONNX, checked against PyTorch."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distreid import __version__
from distreid.common.errors import UserError
from distreid.common.files import atomic_write, check_writable
from distreid.config import Config
from distreid.data.transforms import normalize
from distreid.methods.networks import build_model, load_model
from distreid.methods.registry import find
from distreid.models import ReIDNetwork

TOLERANCE = 1e-4  # of the largest feature: another runtime sums in another order


class MatchingNetwork(nn.Module):
    """uint8 RGB images [B, 3, H, W] to what is matched, float32 [B, c]; the input's normalisation is part of it."""

    def __init__(self, model: ReIDNetwork) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.model.features(normalize(x_BCHW, self.model.mean, self.model.std))


@dataclass(frozen=True)
class Exported:
    """What was written, and the largest difference from PyTorch as a part of the largest feature."""

    path: Path
    checkpoint: Path
    size: int
    channels: int
    difference: float


def export(checkpoint: Path, out: Path) -> Exported:
    """Write the network of a run (its last finished round) or a checkpoint to ``out``, by its ending.

    ``.safetensors`` holds the weights, named as in the method's network; ``.onnx`` the graph with a free batch size.
    The metadata of both say how to prepare an image. What other software makes of the file is compared with PyTorch before it
    appears.

    Raises:
        UserError: unknown ending, missing package, unreadable checkpoint, or features that differ from PyTorch's.
    """
    writers: dict[str, Callable[[ReIDNetwork, Config, dict[str, str]], tuple[bytes, float]]] = {
        ".safetensors": _safetensors,
        ".onnx": _onnx,
    }
    if out.suffix not in writers:
        raise UserError(f"{out}: the ending says what to write: {' or '.join(writers)}, or .csv or .parquet for labels")
    check_writable(out)
    model, config, file = load_model(checkpoint)
    content, difference = writers[out.suffix](model, config, metadata(model, config, file))
    if not difference <= TOLERANCE:
        raise UserError(f"{out}: not written, for its features differ from PyTorch's by {difference:.1e} of the largest")
    with atomic_write(out) as stream:
        stream.write(content)
    return Exported(out, file, len(content), model.feature_channels, difference)


def metadata(model: ReIDNetwork, config: Config, file: Path) -> dict[str, str]:
    """What a stranger must know to use the file; every value is text, as both formats want it."""
    height, width = config.input.height, config.input.width
    what, architecture = find(config.method).describe(model, config)
    return {
        "distreid": __version__,
        "checkpoint": file.name,
        "method": config.method,
        "input": f"images: uint8 RGB [batch, 3, {height}, {width}], 0 to 255, resized to {height} x {width} (height x width), "
        "bilinear with antialiasing",
        "normalisation": f"part of the network: (x / 255 - mean) / deviation with mean {_numbers(model.mean)} and deviation "
        f"{_numbers(model.std)}; weights alone (safetensors) need it done before the network",
        "output": f"features: float32 [batch, {model.feature_channels}], {what}, not normalised; "
        "match by the Euclidean distance of L2-normalised features",
        "model": json.dumps(architecture),
    }


def _numbers(colour: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in colour)


def _safetensors(model: ReIDNetwork, config: Config, metadata: dict[str, str]) -> tuple[bytes, float]:
    try:
        from safetensors.torch import load, save
    except ImportError:
        raise _missing("safetensors") from None
    matching = find(config.method).matching
    weights = {name: value.contiguous() for name, value in model.state_dict().items() if matching(model, name)}
    content = save(weights, metadata)
    again = build_model(config, identities=1, weights=False)
    unknown = again.load_state_dict(load(content), strict=False)
    assert not unknown.unexpected_keys and not any(matching(model, name) for name in unknown.missing_keys)
    network = MatchingNetwork(again).eval()
    return content, _difference(model, config, lambda x_BCHW: _features(network, x_BCHW))


def _onnx(model: ReIDNetwork, config: Config, metadata: dict[str, str]) -> tuple[bytes, float]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  what torch.onnx builds the graph with
    except ImportError as error:
        raise _missing(str(error.name)) from None
    network = MatchingNetwork(model).eval()
    example = torch.zeros(2, 3, config.input.height, config.input.width, dtype=torch.uint8)
    program = torch.onnx.export(
        network,
        (example,),
        input_names=["images"],
        output_names=["features"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(metadata)
    buffer = io.BytesIO()
    program.save(buffer)  # type: ignore[arg-type]  # takes a buffer just as well
    content = buffer.getvalue()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return content, _difference(model, config, lambda x_BCHW: session.run(None, {"images": x_BCHW.numpy()})[0])


def _difference(model: ReIDNetwork, config: Config, other: Callable[[Tensor], np.ndarray[Any, Any]]) -> float:
    """Of ``other``'s features from the model's own, over batches of several sizes."""
    network, worst = MatchingNetwork(model).eval(), 0.0
    generator = torch.Generator().manual_seed(0)
    for batch in (1, 3):
        shape = (batch, 3, config.input.height, config.input.width)
        x_BCHW = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        own_Bc = _features(network, x_BCHW)
        worst = max(worst, float(np.abs(own_Bc - other(x_BCHW)).max() / np.abs(own_Bc).max()))
    return worst


def _features(network: MatchingNetwork, x_BCHW: Tensor) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        return network(x_BCHW).numpy()


def _missing(package: str) -> UserError:
    return UserError(f"export needs {package}, which is not installed: pip install 'distreid[export]'")
