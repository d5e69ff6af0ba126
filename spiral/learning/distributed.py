"""What crosses processes besides gradients: a step's episodes, in order; its errors; the main process's metrics."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list, gather_object, parse_flag_from_env

from spiral.api.errors import RunError, SpiralError
from spiral.api.records import Episode, VoidedGame
from spiral.config.schema import Config, LearnerConfig
from spiral.learning.launchers import START, check_accelerate_config, num_asked
from spiral.learning.stop_signals import StopRequested, StopSignals

T = TypeVar("T")


def make_accelerator(
    deadline_s: float = Config.process_deadline_s, learner: LearnerConfig | None = None
) -> Accelerator:
    """accelerate's view of this process among those of its run; on the CPU where there is nothing else. No process
    waits longer than `deadline_s` for the others. `learner`: what is to be trained.

    Raises RunError if what a launcher or accelerate's config asks for is not what is there, or not what a run can have.
    """
    asked = num_asked()
    check_accelerate_config(learner or LearnerConfig())
    here, num_devices = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.accelerator.device_count()
    on_cpu = num_devices == 0 or parse_flag_from_env("ACCELERATE_USE_CPU")
    if here > num_devices and not on_cpu:
        raise RunError(
            f"{here} processes were started on a machine with {num_devices} accelerators; start {num_devices}, or set "
            "ACCELERATE_USE_CPU=1 to train on the CPU"
        )
    # On by default with FSDP: only one process would read a model's file, and each needs what it plays with.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    group = InitProcessGroupKwargs(timeout=timedelta(seconds=min(deadline_s, 1e9)))
    accelerator = Accelerator(mixed_precision="no", cpu=asked > 1 and on_cpu, kwargs_handlers=[group])
    if accelerator.num_processes != asked:
        raise RunError(
            f"{asked} processes were asked for, and accelerate made a group of {accelerator.num_processes}; start them "
            f"with: {START}"
        )
    return accelerator


@contextmanager
def told_of_lost_processes(deadline_s: float, go_on: str) -> Iterator[None]:
    """A block whose end by another process, one that ended or did not answer in time, is one sentence: RunError.
    `go_on`: the command that resumes the run."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, SpiralError) or not is_of_the_group(error):
            raise
        reason = (str(error).strip().splitlines() or [""])[0]
        raise RunError(
            f"another process of the run ended, or did not answer within process_deadline_s={deadline_s:g} s "
            f"({reason[:200]}); its own last words tell the cause; go on from the last checkpoint with: {go_on}"
        ) from error


def is_of_the_group(error: Exception) -> bool:
    """Whether torch raised it for what the processes send each other; gloo's errors have no type of their own."""
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error).lower()


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

    @contextmanager
    def in_step(self) -> Iterator[None]:
        """A block in which all processes do the same and may exchange tensors: a signal to one of them gives it up only
        where that one is alone."""
        with self._stop.interrupted() if self.world == 1 else nullcontext():
            yield

    def from_main(self, value: T) -> T:
        """The main process's value: another might see another state of the disk, or hear other answers of a remote
        player."""
        if self.world == 1:
            return value
        main: T = broadcast_object_list([value])[0]
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
