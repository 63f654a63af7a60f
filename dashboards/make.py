"""Writes grafana/dashboards/distreid.json from the list of panels below: python dashboards/make.py"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).parent / "grafana" / "dashboards" / "distreid.json"
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
WIDTH, HEIGHT = 8, 7  # of 24 columns; three panels a line


class Panel(NamedTuple):
    """``queries``: PromQL and its legend; $run is what the reader chose at the top."""

    title: str
    unit: str  # Grafana's name
    queries: dict[str, str]
    description: str


def _q(name: str, rest: str = "") -> str:
    return f'ray_distreid_{name}{{run=~"$run"}}{rest}'


PANELS = [
    Panel(
        "Accuracy", "percentunit",
        {
            f"max by (run, test) ({_q('map')})": "mAP, {{run}}, {{test}}",
            f"max by (run, test) ({_q('rank1')})": "Rank-1, {{run}}, {{test}}",
        },
        "Of the last scoring of each test set.",
    ),
    Panel("Clusters", "short", {_q("clusters"): "{{run}}"}, "Of the last labelling. Fewer and fewer: identities are merged."),
    Panel(
        "Outliers", "percentunit", {f"{_q('outliers')} / {_q('target_images')}": "{{run}}"},
        "Share of the target images outside every cluster; they sit the round out.",
    ),
    Panel("eps", "short", {_q("eps"): "{{run}}"}, "DBSCAN's eps, a Jaccard distance, of the last labelling."),
    Panel(
        "Loss", "short", {f"avg by (run, term) ({_q('loss')})": "{{run}}, {{term}}"},
        "Each term: mean over the workers and the epoch so far.",
    ),
    Panel(
        "Images a second", "short", {f"sum by (run) ({_q('images_per_second')})": "{{run}}"},
        "Training images of all workers together; keeps its last value while labels are made.",
    ),
    Panel(
        "Progress", "ops", {f"sum by (run) (rate({_q('progress_total', '[2m]')}))": "{{run}}"},
        "Steps, batches and stages a second, all workers together. 0: labels are being made, or it hangs.",
    ),
    Panel(
        "Seconds a step", "s",
        {
            f"histogram_quantile({part}, sum by (le, stage) (rate({_q('step_seconds_bucket', '[5m]')})))": f"{name}, {{{{stage}}}}"
            for part, name in ((0.5, "median"), (0.95, "95 %"))
        },
        "A training step, or a batch of features.",
    ),
    Panel(
        "Seconds a stage", "s", {f"max by (run, stage) ({_q('stage_seconds')})": "{{run}}, {{stage}}"},
        "How long each stage took when it was last finished.",
    ),
    Panel(
        "The labelling actor", "s", {_q("actor_seconds"): "{{run}}, {{work}}"},
        "Seconds of the last labelling and of the last scoring.",
    ),
    Panel(
        "GPU memory", "bytes", {f"max by (run, rank) ({_q('gpu_memory_bytes')})": "{{run}}, worker {{rank}}"},
        "Peak of what tensors took on each worker's GPU; 0 without one.",
    ),
    Panel(
        "Object store", "bytes",
        {
            "sum by (instance) (ray_object_store_memory)": "used, {{instance}}",
            'sum by (instance) (ray_resources{Name="object_store_memory"})': "size, {{instance}}",
        },
        "Through which features and labels travel.",
    ),
    Panel("CPU", "percent", {"ray_node_cpu_utilization": "{{instance}}"}, "Of each node."),
    Panel("Memory", "percentunit", {"ray_node_mem_used / ray_node_mem_total": "{{instance}}"}, "Of each node."),
]  # fmt: skip


def dashboard() -> dict[str, Any]:
    run = {
        "name": "run", "label": "Run", "type": "query", "datasource": DATASOURCE, "refresh": 2, "sort": 1,
        "query": {"query": "label_values(ray_distreid_progress_total, run)", "refId": "run"},
        "includeAll": True, "multi": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip
    return {
        "uid": "distreid",
        "title": "distreid",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [run]},
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": {"x": number % 3 * WIDTH, "y": number // 3 * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": DATASOURCE, "expr": expression, "legendFormat": legend}
            for index, (expression, legend) in enumerate(panel.queries.items())
        ],
    }


def text() -> str:
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
