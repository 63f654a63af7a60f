"""The kernels' signatures, read from kernels.cu, and their launches: every argument is checked before a GPU is asked."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

SOURCE = Path(__file__).with_name("kernels.cu")
OPTIONS = ("--std=c++17", "--fmad=false")
TYPES: dict[str, type[np.generic]] = {
    "int": np.int32,
    "i64": np.int64,
    "u64": np.uint64,
    "u8": np.uint8,
    "float": np.float32,
    "double": np.float64,
}


class Parameter(NamedTuple):
    """One of a kernel. written: whether the kernel may write to the array."""

    kind: type[np.generic]
    pointer: bool
    written: bool


class Kernels(Protocol):
    """Runs a kernel of kernels.cu by name: blocks, threads of each, its arguments (None: no array), bytes of shared memory."""

    def __call__(self, name: str, blocks: int, threads: int, *arguments: Any, shared: int = 0) -> None: ...


def real_of(dtype: Any) -> str:
    """C's name of the features' type."""
    return "double" if np.dtype(dtype) == np.float64 else "float"


@cache
def signatures(real: str) -> dict[str, list[Parameter]]:
    """The parameters of every kernel. real: "float" or "double", the type of the features."""
    found = {}
    for name, parameters in re.findall(r"__global__ void (\w+)\(([^)]*)\)", SOURCE.read_text(encoding="utf-8")):
        found[name] = [_parameter(" ".join(text.split()), real) for text in parameters.split(",")]
    return found


def _parameter(text: str, real: str) -> Parameter:
    found = re.fullmatch(r"(const )?(\w+)(\*?) \w+", text)
    if found is None:
        raise ValueError(f"kernels.cu: {text} is not of the form 'const TYPE* name'")
    constant, kind, pointer = found.groups()
    return Parameter(TYPES[real if kind == "REAL" else kind], bool(pointer), bool(pointer) and not constant)


def checked(name: str, parameters: list[Parameter], arguments: tuple[Any, ...]) -> Iterator[Any]:
    """The arguments as the kernel takes them. TypeError for another type or layout: a GPU would read it as if it were right."""
    if len(arguments) != len(parameters):
        raise TypeError(f"{name}: {len(arguments)} arguments for {len(parameters)} parameters")
    for at, (argument, parameter) in enumerate(zip(arguments, parameters, strict=True)):
        if not parameter.pointer:
            yield parameter.kind(argument)
            continue
        if argument is not None and not (argument.dtype == parameter.kind and argument.flags.c_contiguous):
            raise TypeError(f"{name}, argument {at}: {argument.dtype} (contiguous: {argument.flags.c_contiguous})")
        yield argument


class CupyKernels:
    """Compiled by NVRTC on first use (a second; CuPy keeps the result on disk)."""

    def __init__(self, cupy: Any, real: str) -> None:
        code = f"#define REAL {real}\n{SOURCE.read_text(encoding='utf-8')}"
        self._module, self._parameters = cupy.RawModule(code=code, options=OPTIONS), signatures(real)

    def __call__(self, name: str, blocks: int, threads: int, *arguments: Any, shared: int = 0) -> None:
        given = tuple(checked(name, self._parameters[name], arguments))
        if blocks:  # a grid of none is an error to CUDA
            nulls = tuple(np.uint64(0) if argument is None else argument for argument in given)
            self._module.get_function(name)((blocks,), (threads,), nulls, shared_mem=shared)
