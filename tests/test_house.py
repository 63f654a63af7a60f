"""The rules of the house that a reader cannot see from one file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from distreid.actions.demo import synthetic_settings
from distreid.config import load_config
from distreid.sweeps.plan import read_plan

ROOT = Path(__file__).parent.parent
# From the ground up. A room may import its own files and all of the floors below.
FLOORS: list[tuple[str, ...]] = [
    ("common",),
    ("retrieval",),
    ("labels", "config", "data", "evaluation", "losses", "models"),
    ("training",),
    ("methods",),
    ("cluster",),
    ("report",),
    ("actions",),
    ("sweeps",),
    ("commands",),
    ("cli",),
]
BESIDE = {("config", "labels")}  # LabelSettings is the configuration's group


def imports_of(file: Path) -> set[str]:
    """distreid's rooms that a file imports, and ray."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    rooms = {name.split(".")[1] for name in names if name.startswith("distreid.")}
    return rooms | ({"ray"} if any(name.split(".")[0] == "ray" for name in names) else set())


@pytest.mark.parametrize("floor", range(len(FLOORS)), ids=["-".join(floor) for floor in FLOORS])
def test_no_import_runs_upward_or_across(floor: int) -> None:
    below = {room for rooms in FLOORS[:floor] for room in rooms}
    for room in FLOORS[floor]:
        place = ROOT / "distreid" / room
        for file in place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]:
            beside = {other for mine, other in BESIDE if mine == room}
            assert imports_of(file) - {room, "ray"} <= below | beside, file


def test_every_room_has_its_floor() -> None:
    there = {path.stem for path in (ROOT / "distreid").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there - {"__init__", "__main__"} == {room for floor in FLOORS for room in floor}


def test_only_cluster_imports_ray() -> None:
    for file in (ROOT / "distreid").rglob("*.py"):
        if file.parent.name != "cluster":
            assert "ray" not in imports_of(file), file


OF_METHODS = {"DAAM", "DAAMNet", "EDAAN", "EDAANMethod", "EDAANConfig", "Contrast", "ContrastNet", "ContrastConfig"}


def test_only_the_registry_and_its_folder_know_a_method() -> None:
    """`"daam"` is also the default of `method:`."""
    for file in (ROOT / "distreid").rglob("*.py"):
        if file.relative_to(ROOT / "distreid").parts[0] in {"methods", "models"}:
            continue
        tree = ast.parse(file.read_text())
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert not names & OF_METHODS and "edaan" not in texts, file


def test_the_registry_brings_no_torch() -> None:
    """`distreid --help` and `distreid status` are to be quick."""
    code = "import sys, distreid; assert len(distreid.methods.registry.SPECS) > 1 and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


BARE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {'ray', 'faiss', 'cupy', 'cuml', 'numba', 'timm', 'deepspeed'}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import distreid.labels, distreid.models, distreid.methods, distreid.methods.daam.algorithm, distreid.evaluation
"""


@pytest.mark.slow
def test_the_core_imports_without_the_optional_packages() -> None:
    subprocess.run([sys.executable, "-c", BARE], check=True, timeout=120)


JOBS = sorted((ROOT / "jobs").rglob("*.yaml"))


@pytest.mark.parametrize("file", [file for file in JOBS if file.parent.name == "sweeps"], ids=lambda file: file.stem)
def test_every_sweep_is_valid(file: Path) -> None:
    plan = read_plan(file, lambda seed: synthetic_settings(Path("runs") / str(seed), seed))
    assert plan.output.is_relative_to(Path("runs").resolve()) and len(plan.trials) > 1


@pytest.mark.parametrize("file", [file for file in JOBS if file.parent.name != "sweeps"], ids=lambda file: file.stem)
def test_every_job_is_a_valid_configuration(file: Path) -> None:
    config = load_config(file)
    assert config.output.startswith("runs/")
    assert yaml.safe_load(file.read_text())["method"] == config.method


def test_page_and_terminal_know_no_method_by_name() -> None:
    package = ROOT / "distreid"
    files = [
        *package.glob("report/*.py"),
        *package.glob("report/templates/*"),
        package / "common" / "terminal.py",
        package / "actions" / "status.py",
    ]
    for file in files:
        assert not re.search("daam|edaan", file.read_text(encoding="utf-8"), re.IGNORECASE), file


def test_only_the_commands_print() -> None:
    """What lies below them logs: whoever uses the library decides what is shown."""
    for file in (ROOT / "distreid").rglob("*.py"):
        if file.relative_to(ROOT / "distreid").parts[0] in {"commands", "cli.py"} or file.name == "terminal.py":
            continue
        calls = [node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
        assert not any(isinstance(call, ast.Name) and call.id == "print" for call in calls), file


def test_no_test_imports_another() -> None:
    """What several tests share stands in a module of its own, or is a fixture."""
    imports = re.compile(r"^\s*(?:from|import) tests\.(?:\w+\.)*(?:\w+ import )?(?:test_\w+|conftest)\b", re.MULTILINE)
    assert not [str(file) for file in (ROOT / "tests").rglob("*.py") if imports.search(file.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(
    ("module", "heavy"),
    [("distreid.config", {"torch", "numba", "ray"}), ("distreid.cluster.monitor", {"torch", "numba"})],
    ids=["config", "monitor"],
)
def test_what_starts_often_stays_light(module: str, heavy: set[str]) -> None:
    """A command's first answer, and the monitor's process: torch alone is two seconds and half a gigabyte."""
    code = f"import sys, {module}; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
