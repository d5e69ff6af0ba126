"""Random generators of its own for every match, where TextArena's environments draw from the process's.

The environments call the functions of the modules `random` and `numpy.random`. In the modules of TextArena (and in no
others) those two names are bound to stand-ins, which draw from the match that is being touched in this thread, and from
the real modules when none is: a user who also plays TextArena by hand notices nothing. Nothing is saved and restored,
so this costs nothing a turn, and the process's own generators are never touched, not even for a moment. `print` has a
stand-in too, which prints nothing while a match is touched.
"""

from __future__ import annotations

import importlib.util
import random
import sys
import threading
from types import ModuleType, TracebackType
from typing import Any

PACKAGE = "textarena"


class Chance:
    """The generators of one match, seeded alike; `with chance:` makes the stand-ins draw from them."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self._numpy: Any = None
        self._before: Chance | None = None

    @property
    def numpy(self) -> Any:
        """A numpy RandomState, made when it is first asked for, since few environments use one."""
        if self._numpy is None:
            from numpy.random import RandomState

            self._numpy = RandomState(self.seed)
        return self._numpy

    def __enter__(self) -> None:
        # The match that was being touched before: a bot that tries moves on a copy touches one within another.
        self._before = _active.chance
        _active.chance = self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _active.chance = self._before
        self._before = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Chance:
        # copy.deepcopy goes through the 625 numbers of the state one by one, which is ten times slower.
        other = Chance.__new__(Chance)
        other.__setstate__(self.__getstate__())
        return other

    def __getstate__(self) -> tuple[Any, ...]:
        numpy = None if self._numpy is None else self._numpy.get_state()
        return self.seed, self.random.getstate(), numpy

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.seed, own, numpy = state
        self.random = random.Random()
        self.random.setstate(own)
        self._numpy = self._before = None
        if numpy is not None:
            self.numpy.set_state(numpy)


class _Active(threading.local):
    """The match that this thread is touching."""

    chance: Chance | None = None


_active = _Active()


class _Random(ModuleType):
    """Stands in for the module `random`."""

    def __getattr__(self, name: str) -> Any:
        chance = _active.chance
        # The class `Random` is passed through: what is made of it is a generator of the environment's own.
        return getattr(random if chance is None or name == "Random" else chance.random, name)


class _NumpyRandom(ModuleType):
    """Stands in for `numpy.random`."""

    def __getattr__(self, name: str) -> Any:
        import numpy

        chance = _active.chance
        if chance is None:
            return getattr(numpy.random, name)
        if name == "default_rng":
            # Without a seed it would ask the operating system.
            return lambda seed=None: numpy.random.default_rng(chance.random.getrandbits(64) if seed is None else seed)
        return getattr(chance.numpy, name, None) or getattr(numpy.random, name)


class _Numpy(ModuleType):
    """Stands in for `numpy`: all of it but `numpy.random`."""

    def __getattr__(self, name: str) -> Any:
        import numpy

        return _NUMPY_RANDOM if name == "random" else getattr(numpy, name)


def _print(*values: object, **options: Any) -> None:
    """Stands in for `print`: some environments print while they are reset, some at every move."""
    if _active.chance is None:
        print(*values, **options)


_RANDOM = _Random("random")
_NUMPY_RANDOM = _NumpyRandom("numpy.random")
_NUMPY = _Numpy("numpy")


def stand_in() -> None:
    """Bind the stand-ins in every module of TextArena that has been imported so far."""
    real: dict[int, ModuleType] = {id(random): _RANDOM}
    if "numpy" in sys.modules:
        real[id(sys.modules["numpy"])] = _NUMPY
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != PACKAGE or module is None:
            continue
        for key, value in list(vars(module).items()):
            if id(value) in real:
                setattr(module, key, real[id(value)])
        vars(module)["print"] = _print


def is_installed() -> bool:
    """Whether TextArena can be imported at all; imports nothing."""
    return importlib.util.find_spec(PACKAGE) is not None
