"""A real Prometheus scrapes a real run: every panel and every alert has something to show. And promtool reads the rules."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.runs import start
from tests.storage import TINY

ROOT = Path(__file__).parent.parent.parent
DASHBOARDS = ROOT / "dashboards"
PANELS = json.loads((DASHBOARDS / "grafana" / "dashboards" / "distreid.json").read_text())["panels"]
RULES = yaml.safe_load((DASHBOARDS / "alerts.yml").read_text())["groups"][0]["rules"]
QUERIES = {f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]}
FIGURES = {rule["alert"]: re.fullmatch(r"(.+) (?:==|<|>) [\d.]+", rule["expr"])[1] for rule in RULES}  # type: ignore[index]


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (Debian's package prometheus)")
    return path


def until(found: Callable[[], Any], what: str, seconds: float = 150) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < deadline, what
        time.sleep(0.5)
    return answer


class Scraper:
    """A Prometheus of our configuration, quicker and on a free port, that watches one Ray folder."""

    def __init__(self, folder: Path, ray: Path) -> None:
        config = (DASHBOARDS / "prometheus.yml").read_text().replace("10s", "1s").replace("/tmp/ray/", f"{ray}/")
        (folder / "prometheus.yml").write_text(config)
        (folder / "alerts.yml").write_text((DASHBOARDS / "alerts.yml").read_text().replace("for: 1m", "for: 1s"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", "--log.level=error"]
        command = [tool("prometheus"), *options, f"--web.listen-address={self.address}"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression has now; none while the server starts."""
        address = f"http://{self.address}/api/v1/query?query={urllib.parse.quote(expression)}"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from None
        except OSError:
            assert self.process.poll() is None, self.process.communicate()[1]
            return []


@pytest.fixture(scope="module")
def watched(packed_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scraper, Any, Path]]:
    """A run of many short rounds, the Prometheus that watches it, and the file that led it there."""
    tool("prometheus")
    folder = tmp_path_factory.mktemp("watched")
    short = Path(tempfile.mkdtemp(prefix="d", dir="/tmp"))  # Ray's sockets do not fit into pytest's long paths
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(short))
        patch.setenv("RAY_metrics_report_interval_ms", "1000")
        driver = start(folder, packed_pair, *TINY, "adapt.rounds=500")
    scraper = Scraper(folder, short / "ray")
    try:
        files = until(lambda: list((short / "ray").glob("prom_metrics_*.json")), "no file for Prometheus")
        yield scraper, driver, files[0]
    finally:
        for process in (driver, scraper.process):
            process.kill()
            process.communicate()
        shutil.rmtree(short, ignore_errors=True)


@pytest.mark.ray
def test_every_panel_and_every_alert_has_figures(watched: tuple[Scraper, Any, Path]) -> None:
    scraper, driver, file = watched
    targets = json.loads(file.read_text())[0]["targets"]
    assert targets and all(target.startswith("127.0.0.1:") for target in targets), "a run's own Ray is nobody else's business"
    open_queries = {name: query.replace("$run", "run") for name, query in QUERIES.items()} | FIGURES

    def answered() -> bool:
        assert driver.poll() is None, driver.communicate()
        for name in [name for name, query in open_queries.items() if scraper.ask(query)]:
            del open_queries[name]
        return not open_queries

    until(answered, f"no figures for {open_queries}")
    assert {series["metric"]["rank"] for series in scraper.ask("ray_distreid_images_per_second")} == {"0", "1"}
    [clusters] = scraper.ask("ray_distreid_clusters")
    assert 2 <= float(clusters["value"][1]) <= 40
    terms: set[str] = set()

    def adapting() -> bool:  # pre-training has one term only
        terms.update(series["metric"]["term"] for series in scraper.ask('ray_distreid_loss{rank="1"}'))
        return len(terms) > 1

    until(adapting, f"only {terms}")
    assert terms == {"source", "target", "domain"}


@pytest.mark.ray
def test_a_killed_run_raises_the_alarm(watched: tuple[Scraper, Any, Path]) -> None:
    scraper, driver, file = watched
    assert not scraper.ask('ALERTS{alertname="NodeGone"}')
    driver.kill()  # SIGKILL: nothing is cleaned up, the file stays
    until(lambda: scraper.ask('ALERTS{alertname="NodeGone", alertstate="firing"}'), "no alert")
    assert file.exists()


def test_promtool_finds_no_fault_and_each_alert_fires_when_it_should() -> None:
    promtool = tool("promtool")
    for command in (["check", "config", "prometheus.yml"], ["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run([promtool, *command], cwd=DASHBOARDS, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
    tested = (DASHBOARDS / "alerts_test.yml").read_text()
    assert all(f"{alert}\"}}', value: 1" in tested for alert in FIGURES), "each alert's firing is tested"


def test_the_dashboard_is_what_its_list_of_panels_says() -> None:
    command = [sys.executable, "-c", "import make; print(make.text(), end='')"]
    done = subprocess.run(command, cwd=DASHBOARDS, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == (DASHBOARDS / "grafana" / "dashboards" / "distreid.json").read_text(), "run dashboards/make.py"


def test_dashboard_and_alerts_ask_for_figures_that_exist() -> None:
    code = (ROOT / "distreid" / "cluster" / "metrics.py").read_text()
    known = {*re.findall(r'^ +"(\w+)": \("', code, re.M), *re.findall(r'"distreid_(\w+)"', code)}
    asked = set(re.findall(r"ray_distreid_(\w+?)(?:_total|_bucket)?\b", " ".join([*QUERIES.values(), *FIGURES.values()])))
    assert asked and asked <= known
