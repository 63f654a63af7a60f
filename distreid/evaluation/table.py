"""Every query's own figures, as a Parquet file for whatever reads those."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distreid.common.files import atomic_write
from distreid.evaluation.metrics import per_query
from distreid.evaluation.protocols import Trial


def write_per_query(out: Path, trials: Sequence[Trial], images: Mapping[str, NDArray[Any]]) -> None:
    """One line a query and ranking.

    images: what is known of each image (path, pid, camid), query images first and then the gallery's, [Q + G] each; a line gets its
        query's. The other columns: ``image``, its number in that order; ``split`` and ``shot`` (see `Trial`); ``positives``, right
        answers in the ``gallery`` of that many images; ``first_hit``, the rank of the nearest; ``ap_hits``, ``ap_trapezoid`` and
        ``inp`` in [0, 1]. The last four are null where there is no right answer.
    """
    import pyarrow as pa
    from pyarrow import parquet

    parts = []
    for trial in trials:
        each, count = per_query(trial.hits), len(trial.rows)
        nothing = each.positives == 0
        columns: dict[str, Any] = {name: pa.array(values[trial.rows]) for name, values in images.items()}
        columns["image"] = pa.array(trial.rows)
        for name, number in (("split", trial.split), ("shot", trial.shot), ("gallery", trial.hits.gallery)):
            columns[name] = pa.array(np.full(count, number))
        columns["positives"] = pa.array(each.positives)
        for name in ("first_hit", "ap_hits", "ap_trapezoid", "inp"):
            columns[name] = pa.array(getattr(each, name), mask=nothing)
        parts.append(pa.table(columns))
    with atomic_write(out) as file:
        parquet.write_table(pa.concat_tables(parts), file)
