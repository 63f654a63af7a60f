"""`distreid score`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from distreid.commands.options import CameraNormalize, Json, NoCameras, PerQuery, Rerank, print_metrics


def score(
    query: Path,
    gallery: Path,
    /,
    *,
    protocol: Literal["single_query", "single_shot", "cross_camera"] | None = None,
    no_cameras: NoCameras = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    rerank: Rerank = False,
    camera_normalize: CameraNormalize = False,
    per_query: PerQuery = None,
    as_json: Json = False,
) -> None:
    """CMC and mAP of anybody's features.

    Args:
        query: NAME.npz with arrays features [n, d], pids [n] and, unless --no-cameras, camids [n].
        gallery: The same of the gallery.
        protocol: single_shot as for CUHK03, cross_camera as for PRID2011; the identities of each split stand in QUERY as test_pids
            [splits, identities]. QUERY's own protocol when empty, or single_query.
        device: Where to compute.
    """
    from distreid.actions.evaluate import score as run

    metrics = run(
        query, gallery, protocol=protocol, no_cameras=no_cameras, rerank=rerank, camera_normalize=camera_normalize,
        per_query=per_query, device=device,
    )  # fmt: skip
    print_metrics(metrics, as_json=as_json)
