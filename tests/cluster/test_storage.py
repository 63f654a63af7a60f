"""Real Ray workers whose run lies in an S3 bucket."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distreid.common.storage import Storage, cache_folder
from tests.cluster.runs import finish, start
from tests.storage import KEYS, TINY, s3_server, s3_uri

pytestmark = pytest.mark.ray


def test_two_workers_write_a_run_on_s3(packed_pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**KEYS, "XDG_CACHE_HOME": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    with s3_server() as port:
        uri = s3_uri(port, "runs/a")
        out, err = finish(start(tmp_path, packed_pair, f"output={uri}", *TINY))
        storage = Storage(uri)
        held = storage.list()
        assert {
            "config.yaml",
            "metrics.jsonl",
            "result.json",
            "report.html",
            "checkpoints/last.pt",
            "checkpoints/round-01.pt",
        } <= set(held)
        # Ray's own folder holds nothing but its hidden mark that the storage can be written.
        assert not [name for name in held if name.startswith("ray/")]
        last, words = storage.read("metrics.jsonl"), storage.read("progress.json")
        assert last is not None and words is not None
        assert [json.loads(line)["event"] for line in last.splitlines()] == ["epoch", "round", "labels", "epoch", "round"]
        assert json.loads(words)["state"] == "finished" and f"report: {uri.partition('?')[0]}/report.html" in out
        assert cache_folder().is_relative_to(tmp_path) and "Traceback" not in err
