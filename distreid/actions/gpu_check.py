"""`distreid gpu-check`: the GPU's labels against the compiled engine's and scikit-learn's, as one table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from distreid.common.errors import UserError
from distreid.common.files import atomic_write
from distreid.common.terminal import bar
from distreid.common.text import number, text_table
from distreid.evaluation.check import check_reranking, engines_on
from distreid.evaluation.rerank import Engine
from distreid.labels.check import CASES, LARGE_DIM, LEAST, Case, Trial, check, check_large, product_error, trials_on
from distreid.training.environment import environment

PACKAGES = ("distreid", "torch", "numba", "scikit-learn", "cupy-cuda13x", "cuml-cu13", "faiss-gpu")  # what is shown of the versions


def gpu_check(n: int, large: int, out: Path | None) -> tuple[str, bool]:
    """(what is to be shown, whether all is as it should be). large: 0 for none. out: a JSON file of all of it.

    UserError, before anything is made, for sizes that say nothing, where there is no GPU, and where `out` cannot be written.
    """
    for option, count in (("--n", n), *([("--large", large)] if large else [])):
        if count < LEAST:
            raise UserError(f"{option} {count}: use {LEAST} or more, so that there are clusters to compare")
    if not torch.cuda.is_available():
        raise UserError("gpu-check needs a GPU, and torch sees none on this machine; distreid doctor says what there is")
    with nullcontext() if out is None else atomic_write(out) as stream:
        device = torch.device("cuda")
        found = compare(trials_on(device), n, large, rerankers=engines_on(device))
        if stream is not None:
            stream.write((json.dumps(found, indent=1) + "\n").encode())
    return page(found), found["equal"]


def compare(
    trials: Sequence[Trial],
    n: int,
    large: int,
    *,
    device: str = "cuda",
    large_dim: int = LARGE_DIM,
    cases: Sequence[Case] = CASES,
    rerankers: Mapping[str, Engine] | None = None,
) -> dict[str, Any]:
    """All that is compared and measured; `equal`: whether nothing differs."""
    threads = torch.get_num_threads()
    gpu = {} if device == "cpu" else {"memory": dict(zip(("free", "total"), torch.cuda.mem_get_info(), strict=True))}
    found: dict[str, Any] = {**environment(), **gpu, "n": n, "product_error": product_error(device)}
    with bar("checking") as progress:
        found["cases"] = check(trials, n, cases=cases, threads=threads, progress=progress)
    found["reranking"] = check_reranking(rerankers, n, threads=threads) if rerankers else []
    found["large"] = check_large(device, large, dim=large_dim, threads=threads) if large else None
    lines = [line for case in [*found["cases"], *found["reranking"]] for lines in case["engines"].values() for line in lines]
    lines += found["large"]["differences"] if large else []
    found["equal"] = not lines and found["product_error"] <= 1
    return found


def page(found: dict[str, Any]) -> str:
    """The table; above it what was compared, below it what was measured and what differs."""
    machine, versions, memory = found["machine"], found["versions"], found.get("memory")
    held = f", {memory['free'] / 1e9:.1f} of {memory['total'] / 1e9:.1f} GB free" if memory else ""
    head = [
        f"{', '.join(machine['gpus']) or machine['cpu']}{held}, CUDA {machine['cuda'] or 'none'}",
        ", ".join(f"{name} {versions[name]}" for name in PACKAGES if name in versions),
    ]
    engines = list(found["cases"][0]["engines"])
    if "kernels" not in engines:
        head.append("CuPy is not used here: it is plain torch that makes labels and is checked")
    elif "cuML" not in engines:
        head.append("there is no cuML here: clusters are found by the kernels alone")
    rows, told = [], []
    for case in found["cases"]:
        parts, differ = [case["kind"], case["dtype"], str(case["cameras"] or "no")], case["engines"]
        figures = [number(case["clusters"]), number(case["outliers"])]
        rows.append([*parts, *figures, *("DIFFERS" if differ[engine] else "equal" for engine in engines)])
        told += [f"{engine}, {' '.join(parts)} cameras: {line}" for engine, lines in differ.items() for line in lines]
    table = text_table(["features", "numbers", "cameras", "clusters", "outliers", *engines], rows, left=(0, 1))
    for case in found["reranking"]:
        told += [f"re-ranking by {engine}, {case['kind']}: {line}" for engine, lines in case["engines"].items() for line in lines]
    measured = [_reranking(found["reranking"])] if found["reranking"] else []
    measured += [f"float32 products: error {found['product_error']:.2g} of its bound"]
    if found["product_error"] > 1:
        told.append("products are not float32's: TF32 or another short format is on (NVIDIA_TF32_OVERRIDE?)")
    if found["large"]:
        measured.append(_large(found["large"]))
        told += [f"large: {line}" for line in found["large"]["differences"]]
    verdict = "all equal" if found["equal"] else "NOT equal: please report this page"
    return "\n".join([*head, "", table, "", *measured, "", *told, verdict])


def _reranking(cases: list[dict[str, Any]]) -> str:
    kinds = ", ".join(case["kind"] for case in cases)
    size = f"{cases[0]['queries']:,} queries among {cases[0]['gallery']:,} images, {kinds}"
    engines = [f"{engine} {_verdict(cases, engine)}" for engine in cases[0]["engines"]]
    return f"re-ranking ({size}): {'; '.join(engines)}"


def _verdict(cases: list[dict[str, Any]], engine: str) -> str:
    return "DIFFERS" if any(case["engines"][engine] for case in cases) else "equal"


def _large(figures: dict[str, Any]) -> str:
    size = f"{figures['n']:,} × {figures['dim']:,} by {figures['engine']}"
    if figures["differences"]:
        return f"{size}: DIFFERS"
    return (
        f"{size}: equal; {figures['seconds']:.2f} s, {figures['seconds'] / figures['seconds_product']:.2f} of one float32 product "
        f"({figures['seconds_product']:.2f} s); at most {figures['peak_bytes'] / 1e9:.2f} GB of the GPU "
        f"(features: {figures['features_bytes'] / 1e9:.2f})"
    )
