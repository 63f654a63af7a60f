"""Every setting of DeepSpeed 0.19 that has a default and could decide a result or a speed, written out with its why.

Most are the defaults of DeepSpeed 0.19.8; a test compares them with what its configuration object asks for and resolves to.
"""

from __future__ import annotations

import sys
from typing import Any


def zero_config(stage: int, *, accumulate: int, clip: float) -> dict[str, Any]:
    """What :func:`deepspeed.initialize` is given.

    Args:
        stage: of ZeRO, 0 to 3.
        accumulate: backward passes before each step.
        clip: the gradients' norm over all trained weights is brought down to this; 0: never.
    """
    return {
        # Batches are cut outside: only the ratio of these counts, and the third follows from the first two and the processes.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": accumulate,
        "managed_gradient_accumulation": True,  # the accumulate-th call of step() moves the weights
        # DeepSpeed's default is 1.0.
        "gradient_clipping": clip,
        # Gradients are averaged as DDP does: divided by the number of processes after the sum, in float32.
        "gradient_allreduce_op": "mean",
        "prescale_gradients": False,
        "gradient_predivide_factor": 1.0,
        "communication_data_type": "fp32",
        "seq_parallel_communication_data_type": "fp32",  # no sequences here
        "disable_allgather": False,
        # Weights, gradients and the optimiser's state stay float32; our own autocast is inside the network, the same for DDP.
        "data_types": {
            "grad_accum_dtype": "fp32", "param_dtype": None, "buffer_dtype": None, "keep_in_fp32_modules": "auto",
        },
        "torch_autocast": {"enabled": False},
        "bf16": {
            "enabled": False,
            "immediate_grad_update": False,
            "check_grad_overflow": True,
            "bf16_master_weights_and_grads": False,
            "bf16_optimizer_states": False,
        },
        "fp16": {  # refused with this strategy, so nothing is scaled
            "enabled": False,
            "auto_cast": False,
            "loss_scale": 0.0,
            "initial_scale_power": 16,
            "loss_scale_window": 1000,
            "hysteresis": 2,
            "consecutive_hysteresis": False,
            "min_loss_scale": 1,
            "fp16_master_weights_and_grads": False,
        },
        "zero_optimization": _zero_optimization(stage),
        "zero_allow_untested_optimizer": True,  # torch's own, the very ones that DDP trains with
        "zero_force_ds_cpu_optimizer": False,  # asks for DeepSpeed's Adam where state is kept on the host, which here it never is
        # Quiet, and nothing is measured that would wait for the GPU: we measure ourselves.
        "timers": {"throughput": {"enabled": False, "synchronized": False}},  # on by default, a wait before and after each step
        "wall_clock_breakdown": False,
        "memory_breakdown": False,
        "dump_state": False,
        "steps_per_print": None,
        "log_level": None,
        "disable_python_gc": False,
        "dataloader_drop_last": False,  # its loader is not used
    }  # fmt: skip


def _zero_optimization(stage: int) -> dict[str, Any]:
    return {
        "stage": stage,
        # How gradients travel. Bucket sizes are numbers of elements: a ResNet-50 is one bucket. Each GPU holds one in float32:
        # DeepSpeed's own 500 million would take 2 GB of each.
        "contiguous_gradients": True,
        "reduce_scatter": True,
        "reduce_bucket_size": 50_000_000,
        "use_multi_rank_bucket_allreduce": True,
        "allgather_partitions": True,
        "allgather_bucket_size": 50_000_000,
        "overlap_comm": stage == 3,  # DeepSpeed's own choice by the stage
        "round_robin_gradients": False,  # serves offloading to the host only
        "parameter_alignment": False,
        "ignore_unused_parameters": True,  # stage 2: a head without images of its domain in a part of a batch is no error
        # Stages 1 and 2: a step whose gradients are not finite is left out, as stage 3 always does.
        "compute_grad_norm": True,
        # Stage 3: which weights stay whole (the small ones) and how far ahead the others are fetched.
        "sub_group_size": 1_000_000_000,
        "stage3_param_persistence_threshold": 100_000,
        "stage3_model_persistence_threshold": sys.maxsize,
        "stage3_prefetch_bucket_size": 50_000_000,
        "stage3_max_live_parameters": 1_000_000_000,
        "stage3_max_reuse_distance": 1_000_000_000,
        "stage3_module_granularity_threshold": 0,
        "stage3_use_all_reduce_for_fetch_params": False,
        "stage3_allgather_sequential": False,
        "memory_efficient_linear": True,
        "override_module_apply": True,
        # Weights travel as they are, neither quantised nor in a second partition.
        "zero_hpz_partition_size": 1,
        "zero_quantized_weights": False,
        "zero_quantized_nontrainable_weights": False,
        "zero_quantized_gradients": False,
        # Checkpoints are our own; DeepSpeed writes and reads none.
        "load_from_fp32_weights": True,
        "elastic_checkpoint": False,
        "pipeline_loading_checkpoint": False,
        "stage3_gather_16bit_weights_on_model_save": False,
        "save_muon_momentum_buffer_in_memory": False,
        "legacy_stage1": False,
        "log_trace_cache_warnings": False,
        "enable_sanity_checks": False,
    }
