"""What crosses processes besides gradients: a step's episodes, in order; its errors; the main process's metrics."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from spiral.api.records import Episode, VoidedGame


class Processes:
    """The processes of a run, started by accelerate or torchrun; one alone needs neither."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator

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

    def raise_together(self, error: Exception | None) -> None:
        """Raise on all processes what one of them raised: the others would wait for it."""
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

    @staticmethod
    def close() -> None:
        """Leave the group of processes."""
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def in_order(parts: Sequence[Sequence[Episode]], group_size: int) -> list[Episode]:
    """The episodes of several processes, each given what `play` returned there, in the order of the games' numbers."""
    groups = [[part[i : i + group_size] for i in range(0, len(part), group_size)] for part in parts]
    rounds = itertools.zip_longest(*groups, fillvalue=())
    return [episode for by_rank in rounds for group in by_rank for episode in group]
