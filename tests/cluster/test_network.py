"""Where Gloo listens on a node."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from distreid.cluster.network import interface_of

pytestmark = pytest.mark.ray  # importing it brings Ray


@pytest.mark.skipif(shutil.which("ip") is None, reason="no ip on this machine (Debian: iproute2)")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="interfaces are told by Linux's ioctl")
def test_the_interface_of_an_address_is_found() -> None:
    listed = json.loads(subprocess.run(["ip", "-json", "-4", "address"], capture_output=True, text=True, check=True).stdout)
    first = {link["ifname"]: link["addr_info"][0]["local"] for link in listed if link.get("addr_info")}
    assert {address: interface_of(address) for address in first.values()} == {address: name for name, address in first.items()}
    assert interface_of("192.0.2.1") is None  # of the block for documentation
