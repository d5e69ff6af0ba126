"""What a launcher and accelerate's config ask of a run, as they leave it in the environment, and what is refused."""

from __future__ import annotations

import os

from accelerate.utils import parse_flag_from_env

from spiral.api.errors import RunError
from spiral.config.schema import LearnerConfig

START = "torchrun --nproc_per_node 2 -m spiral train --run-dir DIR"
"""What starts two processes of one run, with accelerators or without."""
_MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""Where MPI's launchers say how many processes they started."""
_FSDP2 = "set distributed_type: FSDP and fsdp_version: 2 there, as examples/fsdp2.yaml does"
_REFUSED = {
    "ACCELERATE_USE_DEEPSPEED": (
        "DeepSpeed, whose engine averages gradients over processes and keeps optimiser and checkpoints to itself, so "
        f"that a run would be another than in one process; {_FSDP2}"
    ),
    "ACCELERATE_USE_MEGATRON_LM": f"Megatron-LM, which has models of its own; {_FSDP2}",
    "ACCELERATE_USE_PARALLELISM_CONFIG": (
        "a parallelism_config, and a run is shared out over all processes in one way; remove it"
    ),
    "FSDP_OFFLOAD_PARAMS": (
        "fsdp_offload_params, and the optimiser steps where the weights are; set it to false, and start more processes "
        "where memory is short"
    ),
    "FSDP_ACTIVATION_CHECKPOINTING": (
        "fsdp_activation_checkpointing, which is the run's own setting; set it to false, and "
        "learner.checkpoint_activations=true"
    ),
    "FSDP_IGNORED_MODULES": "fsdp_ignored_modules, and every weight of a run is shared out; remove it",
}
"""What accelerate's config may ask for, by the variable that says so, and no run can have."""


def num_asked() -> int:
    """How many processes the launcher started, 1 without one. Raises RunError if they cannot find each other."""
    env = os.environ
    if "WORLD_SIZE" in env:
        num = int(env["WORLD_SIZE"])
        if num > 1 and "RANK" not in env:
            raise RunError(f"WORLD_SIZE is {num}, and no RANK tells the processes apart; start with: {START}")
        if num > 1 and not (env.get("MASTER_ADDR") and env.get("MASTER_PORT")):
            raise RunError(
                f"WORLD_SIZE is {num}, and the processes have no place to meet (MASTER_ADDR and MASTER_PORT); on "
                "several machines start torchrun on each with --nnodes and --rdzv-endpoint HOST:PORT of one of them"
            )
        return num
    # Without a multi-GPU machine `accelerate launch` starts one process, however many it is asked for; what it leaves
    # in the environment of one that should be several is the main process's address.
    if "ACCELERATE_MIXED_PRECISION" in env and "MASTER_ADDR" in env:
        raise RunError(
            "accelerate launch was asked for several processes and started one, as it does without several GPUs; "
            f"start them with: {START}"
        )
    if any(int(env.get(name, "1")) > 1 for name in _MPI):
        raise RunError(f"MPI started several processes, which would each be a run of its own; start them with: {START}")
    return 1


def check_accelerate_config(learner: LearnerConfig) -> None:
    """Raise RunError if accelerate's config contradicts the run, or asks for what its learner cannot have."""
    precision = learner.precision
    for variable, what in _REFUSED.items():
        asked = os.environ.get(variable, "false").lower()
        if asked not in ("", "0", "false", "no", "none"):
            raise RunError(f"accelerate's config asks for {what}")
    if parse_flag_from_env("ACCELERATE_USE_FSDP") and os.environ.get("FSDP_VERSION", "1") != "2":
        raise RunError(f"accelerate's config asks for version 1 of FSDP, which torch has deprecated; {_FSDP2}")
    if parse_flag_from_env("ACCELERATE_USE_FSDP") and num_asked() > 1 and learner.optimizer == "adamw_8bit":
        raise RunError(
            "accelerate's config asks for FSDP, and learner.optimizer is adamw_8bit, whose blocks of 256 moments are "
            "cut from each process's part of a weight, so that no other number of processes could read a checkpoint of "
            "them; set learner.optimizer=adamw, whose moments take two bytes each with learner.precision=bf16"
        )
    mixed = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if mixed not in ("", "no", "bf16" if precision == "mixed" else "no"):
        raise RunError(
            f"accelerate's config asks for mixed_precision: {mixed}, and learner.precision is {precision}, which "
            "decides; set mixed_precision: no there, and learner.precision=mixed for bfloat16 over float32"
        )
