"""What crosses processes besides gradients: a step's episodes, in order; its errors; the main process's metrics."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env

from spiral.api.errors import RunError, SpiralError
from spiral.api.records import Episode, VoidedGame
from spiral.learning.stop_signals import StopRequested, StopSignals

START = "torchrun --nproc_per_node 2 -m spiral train --run-dir DIR"
"""What starts two processes of one run, with accelerators or without."""
_MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""Where MPI's launchers say how many processes they started."""


def make_accelerator() -> Accelerator:
    """accelerate's view of this process among those of its run; on the CPU where there is nothing else.

    Raises RunError if what a launcher was asked for is not what is there: each process would be a run of its own.
    """
    asked = _num_asked()
    here, num_devices = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.accelerator.device_count()
    on_cpu = num_devices == 0 or parse_flag_from_env("ACCELERATE_USE_CPU")
    if here > num_devices and not on_cpu:
        raise RunError(
            f"{here} processes were started on a machine with {num_devices} accelerators; start {num_devices}, or set "
            "ACCELERATE_USE_CPU=1 to train on the CPU"
        )
    accelerator = Accelerator(mixed_precision="no", cpu=asked > 1 and on_cpu)
    if accelerator.num_processes != asked:
        raise RunError(
            f"{asked} processes were asked for, and accelerate made a group of {accelerator.num_processes}; start them "
            f"with: {START}"
        )
    return accelerator


def _num_asked() -> int:
    """How many processes the launcher started, 1 without one. Raises RunError if they cannot find each other."""
    env = os.environ
    if "WORLD_SIZE" in env:
        if int(env["WORLD_SIZE"]) > 1 and "RANK" not in env:
            raise RunError(
                f"WORLD_SIZE is {env['WORLD_SIZE']}, and no RANK tells the processes apart; start with: {START}"
            )
        return int(env["WORLD_SIZE"])
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


class Processes:
    """The processes of a run, started by torchrun or accelerate; one alone needs neither."""

    def __init__(self, accelerator: Accelerator, stop: StopSignals) -> None:
        self._accelerator, self._stop = accelerator, stop

    @property
    def rank(self) -> int:
        """This process's number."""
        return int(self._accelerator.process_index)

    @property
    def world(self) -> int:
        """How many there are."""
        return int(self._accelerator.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this one writes the run's files."""
        return bool(self._accelerator.is_main_process)

    def gathered(
        self, episodes: list[Episode], voided: list[VoidedGame], group_size: int
    ) -> tuple[list[Episode], list[VoidedGame]]:
        """The episodes and voided games of all processes, in the order in which one alone would have them."""
        if self.world == 1:
            return episodes, voided
        parts = gather_object([(episodes, voided)])
        return in_order([part for part, _ in parts], group_size), [game for _, games in parts for game in games]

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block in which each process works by itself and changes nothing that a checkpoint keeps: what one of them
        raises at its end, be it SpiralError or StopRequested, all raise, since the others would wait for it."""
        error: BaseException | None = None
        try:
            with self._stop.interrupted():
                yield
        except (SpiralError, StopRequested) as raised:
            error = raised
        errors = [error] if self.world == 1 else gather_object([error])
        for found in errors:
            if found is not None:
                raise found

    def same_metrics(self, metrics: dict[str, float]) -> dict[str, float]:
        """The main process's metrics: a remote player may answer each process something else."""
        if self.world == 1:
            return metrics
        main: dict[str, float] = broadcast_object_list([metrics])[0]
        return main

    def wait(self) -> None:
        """Continue when all processes are here."""
        self._accelerator.wait_for_everyone()

    def close(self) -> None:
        """Leave the group of processes, where the run has one: a process alone may hold another's, as an engine's."""
        if self.world > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def in_order(parts: Sequence[Sequence[Episode]], group_size: int) -> list[Episode]:
    """The episodes of several processes, each given what `play` returned there, in the order of the games' numbers."""
    groups = [[part[i : i + group_size] for i in range(0, len(part), group_size)] for part in parts]
    rounds = itertools.zip_longest(*groups, fillvalue=())
    return [episode for by_rank in rounds for group in by_rank for episode in group]
