"""Which of its networks a node's worker talks through."""

from __future__ import annotations

import os
import socket
import struct
import sys
from contextlib import suppress
from typing import Any

import ray
from ray.train.torch import TorchConfig

_Backend: Any = TorchConfig().backend_cls  # Ray's types lack it


def interface_of(address: str) -> str | None:
    """The network interface that has this IPv4 address first, such as "eth0"; None if there is none, or not on Linux."""
    if not sys.platform.startswith("linux"):
        return None
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without an address
                answer = fcntl.ioctl(probe, 0x8915, struct.pack("256s", name.encode()))  # SIOCGIFADDR
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    return None


def name_interface() -> None:
    """Let Gloo, in this process, listen where Ray does.

    It would at the address of the machine's name, which on Debian and Ubuntu is 127.0.1.1: no other node reaches that.
    """
    name = interface_of(ray.util.get_node_ip_address())
    if name is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


class _Named(_Backend):
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        worker_group.execute(name_interface)
        super().on_start(worker_group, backend_config)


class NodesConfig(TorchConfig):
    """Of workers that may have several nodes: before they form their process group, each names its network."""

    @property
    def backend_cls(self) -> Any:
        return _Named
