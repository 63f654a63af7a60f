"""Group `runtime`: where and how fast. Nothing here is meant to change a result, but for the precision."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from distreid.common.settings import ONLY_WHOLE, SETTINGS, SWITCH_OR_TEXT, AutoOrNumber, Number, Switch, Whole


def _yes_or_no(value: Any) -> Any:
    """YAML 1.1 reads no and yes as booleans."""
    return ("yes" if value else "no") if isinstance(value, bool) else value


AutoYesNo = Annotated[
    Literal["auto", "yes", "no"],
    BeforeValidator(_yes_or_no, json_schema_input_type=Literal["auto", "yes", "no", True, False]),
]


@dataclass(config=SETTINGS)
class RuntimeConfig:
    """The machines. What they decide is decided once, when the run starts, and then kept."""

    workers: Whole = Field(default=1, ge=0, description="Ray Train workers; 0 trains in this process without Ray")
    min_workers: Whole = Field(
        default=0, ge=0, description="go on with as few when nodes are lost, and take new ones; 0: never fewer than `workers`"
    )
    cpus_per_worker: Whole = Field(
        default=0,
        ge=0,
        description="threads of a worker, also with workers=0; 0: the cores that may be used, divided by the workers",
    )
    gpu: AutoYesNo = Field(default="auto", description="a GPU for each worker; auto: where there are enough, yes: or not at all")
    strategy: Literal["ddp", "deepspeed"] = Field(
        default="ddp", description="how the workers share a step; deepspeed needs the extra `deepspeed`"
    )
    zero_stage: Annotated[Literal[0, 1, 2, 3], ONLY_WHOLE] = Field(
        default=1, description="of DeepSpeed: what the workers share (1 optimiser, 2 gradients, 3 weights)"
    )
    accumulate: Whole = Field(
        default=1,
        gt=0,
        description="parts of a worker's slice of a batch that pass through the network one after another, to save memory",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto",
        description="auto: bf16 where every worker has it in hardware, else fp32; fp16, for GPUs without bf16, is never taken by"
        " itself",
    )
    channels_last: Annotated[Literal["auto", True, False], SWITCH_OR_TEXT] = Field(
        default="auto", description="memory layout; auto: on CPUs, and on GPUs with bf16 or fp16"
    )
    compile: Switch = Field(default=False, description="compile the network with torch.compile")
    max_failures: Whole = Field(
        default=3, ge=0, description="how often Ray restarts the workers after a fault before the run gives up"
    )
    hang_timeout: Number = Field(
        default=900.0,
        ge=0,
        allow_inf_nan=True,
        description="seconds without a step after which the worker that holds all up is named and restarted; 0: never",
    )
    label_gpus: AutoOrNumber = Field(
        default="auto",
        description="GPUs for the labelling actor, or a share of one; auto: one where there are more than workers take, else a"
        " quarter of a worker's; 0: labels on CPUs",
    )
    feature_dtype: Literal["float32", "float16"] = Field(
        default="float32", description="as which the target's features travel and are kept"
    )
    tensorboard: Switch = Field(
        default=False, description="also write event files for TensorBoard to the run directory (extra: tensorboard)"
    )
