"""The only folder that imports ray."""

import os


def cluster_is_given() -> bool:
    """Whether RAY_ADDRESS or a submitted job names a Ray to join; otherwise a run starts one of its own."""
    return bool(os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"))


# A Ray of one's own has no business on the network: with this it listens on loopback only, its metrics too, on Linux as it does
# elsewhere. Ray reads the variable once, when it is imported.
if not cluster_is_given():
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
