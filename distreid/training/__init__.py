"""What one training process needs; knows neither ray nor any method."""

from distreid.common.machine import Compute
from distreid.training.engine import Engine, Precision, learning_rate_factor
from distreid.training.files import load_checkpoint, load_tensors, save_tensors, write_json
from distreid.training.meters import LossMeter, timed
from distreid.training.process_group import ProcessGroup
from distreid.training.rundir import RunDirectory

__all__ = [
    "Compute",
    "Engine",
    "LossMeter",
    "Precision",
    "ProcessGroup",
    "RunDirectory",
    "learning_rate_factor",
    "load_checkpoint",
    "load_tensors",
    "save_tensors",
    "timed",
    "write_json",
]
