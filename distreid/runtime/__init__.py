"""What one training process needs; knows neither ray nor any method."""

from distreid.runtime.engine import Engine, Precision, learning_rate_factor
from distreid.runtime.files import load_tensors, save_tensors, write_json
from distreid.runtime.machine import Compute
from distreid.runtime.meters import LossMeter, timed
from distreid.runtime.rundir import RunDirectory
from distreid.runtime.team import Team

__all__ = [
    "Compute",
    "Engine",
    "LossMeter",
    "Precision",
    "RunDirectory",
    "Team",
    "learning_rate_factor",
    "load_tensors",
    "save_tensors",
    "timed",
    "write_json",
]
