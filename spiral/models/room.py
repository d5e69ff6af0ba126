"""The memory of a model's weights, given up while they are not needed: that of the whole model beside one that the
processes share out, from which engines make theirs, which scores their probes, and which is saved.

A storage is emptied in place, so the parameters, their ties, shapes and device stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from spiral.models.adapted import own_parameters


def give_up_room(model: Any) -> None:
    """Free the memory of a model's own weights; what they were is lost, and they are used in `room_for` alone."""
    for parameter in own_parameters(model).values():
        storage = parameter.untyped_storage()
        if not storage.resizable() or storage.nbytes() != parameter.nbytes:  # that of a file, or of several tensors
            parameter.data = torch.empty_like(parameter)
        parameter.untyped_storage().resize_(0)


@contextmanager
def room_for(model: Any) -> Iterator[bool]:
    """A block in which a model's own weights have memory. Gives whether they had given it up: then they are undefined
    until they are loaded, and give it up again at the end."""
    without = [p for p in own_parameters(model).values() if p.numel() and not p.untyped_storage().nbytes()]
    for parameter in without:
        parameter.untyped_storage().resize_(parameter.nbytes)
    try:
        yield bool(without)
    finally:
        for parameter in without:
            parameter.untyped_storage().resize_(0)
