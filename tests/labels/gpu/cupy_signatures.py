"""The signatures of CuPy's functions and the names of its arrays' methods, by which the tests check our calls where CuPy is not.

`python -m tests.labels.gpu.cupy_signatures` writes cupy_signatures.json where it is installed (it imports without a GPU).
"""

import inspect
import json
import re
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_suffix(".json")
# Those that the engine calls.
FUNCTIONS = ("arange", "argsort", "asarray", "concatenate", "cumsum", "empty", "full", "searchsorted", "where", "zeros")


def written(function: Any) -> str:
    """Its parameters without types, as Python writes them."""
    signature = inspect.signature(function)
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    text = str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))
    return re.sub(r"<class '(\w+)'>", r"\1", text)


def main() -> None:
    import cupy

    table = {
        "version": cupy.__version__,
        "functions": {name: written(getattr(cupy, name)) for name in FUNCTIONS},
        "methods": sorted(name for name in dir(cupy.ndarray) if not name.startswith("_")),
    }
    TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
