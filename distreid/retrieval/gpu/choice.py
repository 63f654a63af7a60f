"""Whether a GPU can run our kernels: CuPy is there, compiles them, and a few distances have the CPU's bits."""

from functools import cache

import numpy as np
import torch

from distreid.common.text import first_line
from distreid.retrieval.gpu import encoding
from distreid.retrieval.gpu.backend import Backend, CupyBackend


@cache
def find_backend(device: torch.device) -> tuple[CupyBackend | None, str]:
    """CuPy's backend after a trial on the device, once a process; or None and, in a few words, why not."""
    try:
        backend = CupyBackend(device)
        return (backend, "") if tried(backend) else (None, "its distances are not those of the CPU")
    except ImportError as error:
        return None, f"no CuPy: pip install 'distreid[gpu]' ({first_line(error)})"
    except Exception as error:  # whatever a broken driver, compiler or library raises
        return None, f"CuPy does not work here: {first_line(error)}"


def tried(backend: Backend) -> bool:
    """Whether the device compiles the kernels and ranks a few rows as the CPU does, to the last bit."""
    from distreid.retrieval.neighbours import nearest
    from distreid.retrieval.prepare import prepare

    random = np.random.default_rng(0)
    for kind in (np.float32, np.float64):
        prepared = prepare(random.standard_normal((6, 70)).astype(kind), 1, 1)
        rows_Uk, squared_Uk = nearest(prepared, 6)
        i_E, j_E = np.arange(6, dtype=np.int32).repeat(6), rows_Uk.ravel()
        with backend.scope():
            given = map(backend.xp.asarray, (prepared.x_ND, prepared.inverse_norms_N, i_E, j_E))
            found_E = backend.host(encoding.distances(backend, *given))
        if found_E.tobytes() != squared_Uk.tobytes():
            return False
    return True
