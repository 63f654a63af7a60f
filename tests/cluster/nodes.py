"""Machines on this machine: namespaces with a network, a name, processes, memory and folders of their own, and an S3 server.

What they share is the operating system's programs and this repository. Nothing of it touches the host's network, and all of it goes
when this process does: each machine's first process reads from a pipe that ends with it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.storage import KEYS

ROOT = Path(__file__).parents[2]
PORT = 6379
S3 = 9000
DATA = "/var/tmp/data"  # on every machine: its own folder
NET = "10.213.77"  # seen by these machines only
APART = ("--net", "--mount", "--uts", "--ipc", "--pid")

# As Debian's installer leaves /etc/hosts: the machine's own name is no address of its network. Its first process is a shell that
# waits, for it has to bury its orphans: Ray's workers take a raylet that is dead and unburied for one that lives.
SETUP = """
exec 2>{folder}/log
set -e
hostname {name}
ip link set lo up
mount --bind {folder} /var/tmp
mount --bind {folder}/hosts /etc/hosts
mount -t tmpfs -o size=2g shm /dev/shm
{more}
echo ready
cat
exit
"""


SWITCH = f"ip link add lan type bridge && ip link set lan up && ip addr add {NET}.254/24 dev lan"


class Machine:
    """A machine that is on.

    Args:
        number: its address is NET.number.
        folder: what it keeps, as /var/tmp.
    """

    def __init__(self, name: str, number: int, folder: Path, more: str = "") -> None:
        self.name, self.address, self.folder = name, f"{NET}.{number}", folder
        for part in ("data", "home", "ray"):
            (folder / part).mkdir(parents=True)
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n")
        setup = SETUP.format(name=name, folder=folder, more=more)
        self._outer = subprocess.Popen(
            ["unshare", *APART, "--fork", "--kill-child", "--mount-proc", "sh", "-c", setup],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self._outer.stdout is not None
        assert self._outer.stdout.readline() == "ready\n", (folder / "log").read_text()
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
        self.first = int(children[0])

    def command(self, *words: str) -> list[str]:
        """What runs ``words`` there, from here."""
        enter = ["nsenter", "--target", str(self.first), "--net", "--mount", "--uts", "--ipc", "--pid", f"--wdns={ROOT}"]
        return [*enter, "env", "HOME=/var/tmp/home", *words]

    def popen(self, *words: str, environment: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(self.command(*words), env=_clean() | dict(environment or {}), text=True, **options)

    def run(self, *words: str, environment: Mapping[str, str] | None = None, timeout: float = 240) -> str:
        """Its output; it must end well."""
        process = self.popen(*words, environment=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(timeout=timeout)
        assert process.returncode == 0, f"{self.name}: {words}: exit {process.returncode}\n{out}\n{err}"
        return out

    def off(self) -> None:
        """As if the power went: nothing says goodbye, all processes are gone."""
        if self._outer.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.first, 9)
            self._outer.wait(60)


MAKE_BUCKET = f"""
import time, urllib.request
for _ in range(600):
    try:
        urllib.request.urlopen(urllib.request.Request("http://{NET}.254:{S3}/bucket", method="PUT"), timeout=60).close()
        break
    except OSError:
        time.sleep(0.1)
"""
READ_ALL = """
import base64, json, sys
from pyarrow import fs
system, root = fs.FileSystem.from_uri(sys.argv[1])
files = [info.path for info in system.get_file_info(fs.FileSelector(root, recursive=True)) if info.is_file]
print(json.dumps({file[len(root) + 1:]: base64.b64encode(system.open_input_stream(file).read()).decode() for file in files}))
"""


ALIVE = """
import sys, ray
ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
print(sum(node["Alive"] for node in ray.nodes()))
"""


class Site:
    """Machines on one switch, beside a machine that is an S3 server with a bucket."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._machines = folder, list[Machine]()
        self.storage = Machine("storage", 254, folder / "storage", more=SWITCH)
        self._machines.append(self.storage)
        moto = "from moto.server import main; main()"
        self._log = (folder / "s3.log").open("w")
        self._s3 = self.storage.popen(
            sys.executable, "-c", moto, "-H", "0.0.0.0", "-p", str(S3), stdout=self._log, stderr=self._log
        )
        self.storage.run(sys.executable, "-c", MAKE_BUCKET)

    def uri(self, path: str) -> str:
        return f"s3://bucket/{path}?endpoint_override={NET}.254:{S3}&scheme=http"

    def machine(self, name: str, data: tuple[Path, ...] = ()) -> Machine:
        """A new one, with copies of the data of its own in DATA."""
        number = len(self._machines)
        made = Machine(name, number, self._folder / name)
        self._machines.append(made)
        for file in data:
            shutil.copyfile(file, made.folder / "data" / file.name)
        port = f"p{number}"
        wire = ["ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(made.first)]
        subprocess.run(["nsenter", "--target", str(self.storage.first), "--net", *wire], check=True)
        self._switch("ip", "link", "set", port, "master", "lan", "up")
        made.run("sh", "-c", f"ip addr add {made.address}/24 dev eth0 && ip link set eth0 up && ip route add default via {NET}.254")
        return made

    def lose(self, machine: Machine) -> None:
        """Its power goes: the others hear nothing more of it, not even that its connections end."""
        self._switch("ip", "link", "delete", f"p{machine.address.rpartition('.')[2]}")
        machine.off()

    def link(self, machine: Machine, state: str) -> None:
        """Its cable is "down", or "up" again; it does not know."""
        self._switch("ip", "link", "set", f"p{machine.address.rpartition('.')[2]}", state)

    def _switch(self, *words: str) -> None:
        subprocess.run(["nsenter", "--target", str(self.storage.first), "--net", *words], check=True)

    def held(self, path: str) -> dict[str, bytes]:
        """All objects below ``path`` of the bucket, as the server holds them."""
        found = json.loads(self.storage.run(sys.executable, "-c", READ_ALL, self.uri(path), environment=KEYS))
        return {name: base64.b64decode(content) for name, content in found.items()}

    def close(self) -> None:
        for machine in reversed(self._machines):
            machine.off()
        self._log.close()


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """Skips the test where this process may not make namespaces."""
    needed = ("unshare", "nsenter", "ip")
    missing = [name for name in needed if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} on this machine (Debian: util-linux, iproute2)")
    probe = "ip link add one type veth peer name two && ip link add lan type bridge && mount -t tmpfs none /dev/shm"
    tried = subprocess.run(["unshare", *APART, "--fork", "--mount-proc", "sh", "-c", probe], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"machines of its own need root's rights over namespaces and networks ({tried.stderr.strip() or 'none here'})")
    folder = Path(tempfile.mkdtemp(prefix="site-"))
    made = None
    try:
        made = Site(folder)
        yield made
    finally:
        if made is not None:
            made.close()
        shutil.rmtree(folder, ignore_errors=True)


def start_ray(machine: Machine, head: Machine | None = None, cpus: int = 1) -> None:
    """`ray start`, as a user types it there. A lost node is noticed after 10 s; workers do not give way to the host's programs."""
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--num-cpus={cpus}", f"--node-ip-address={machine.address}"]
    if head is None:
        quick = {
            "worker_niceness": 0,
            "health_check_initial_delay_ms": 0,
            "health_check_period_ms": 1000,
            "health_check_failure_threshold": 10,
        }
        ray += ["--head", f"--port={PORT}", "--include-dashboard=false", "--temp-dir=/var/tmp/ray"]
        ray += [f"--system-config={json.dumps(quick)}"]
    else:
        ray += [f"--address={head.address}:{PORT}"]
    machine.run(*ray, "--disable-usage-stats", environment=KEYS)


def _clean() -> dict[str, str]:
    """This process's environment without what names its own folders or Ray."""
    hidden = ("RAY_", "XDG_", "AWS_", "TMPDIR", "HOME")
    return {key: value for key, value in os.environ.items() if not key.startswith(hidden)} | {"PYTHONPATH": str(ROOT)}


def stop_ray(machine: Machine) -> None:
    """`ray stop`, as a user types it there."""
    machine.run(sys.executable, "-m", "ray.scripts.scripts", "stop", "--force")


def alive(head: Machine) -> int:
    """Machines that the Ray of ``head`` counts on."""
    return int(head.run(sys.executable, "-c", ALIVE, f"{head.address}:{PORT}").split()[0])  # Ray may have something to say, too


def workers(machine: Machine) -> list[int]:
    """Processes of Ray Train's workers there, by their numbers here."""
    inside = Path(f"/proc/{machine.first}/ns/pid").stat().st_ino
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (place / "ns" / "pid").stat().st_ino == inside and b"RayTrainWorker" in (place / "cmdline").read_bytes():
                found.append(int(place.name))
    return found
