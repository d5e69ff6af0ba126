"""Imports TextArena and makes its environments: quietly, offline and on every supported Python.

The one place that imports it, because its modules print, download and draw chance while they are imported.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import io
import sys
from collections.abc import Iterator, Mapping
from importlib.machinery import PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

from spiral import SpiralError
from spiral_games.textarena import chance, mends
from spiral_games.textarena import dictionaries as words
from spiral_games.textarena.fstring_backport import for_python_311

INSTALL = "pip install 'spiral-games[textarena]'"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallow what is printed while modules are imported."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


@functools.cache
def registry() -> Mapping[str, Any]:
    """TextArena's registry: id -> its spec. Raises SpiralError where TextArena is not installed."""
    if not chance.is_installed():
        raise SpiralError(f"TextArena's games need the package textarena, which is not installed; {INSTALL}.")
    with quiet():
        module: Any = importlib.import_module("textarena.envs.registration")
    _accept_other_spellings(importlib.import_module("textarena"))
    specs: Mapping[str, Any] = module.ENV_REGISTRY
    return specs


def _accept_other_spellings(textarena: Any) -> None:
    """Let `TwoPlayerState` take a winner the way Tak and Checkers give it, which otherwise raise when a player wins."""
    state = textarena.TwoPlayerState
    set_winner = state.set_winner

    def set_any_winner(self: Any, player_id: Any = None, reason: str = "", player_ids: Any = None) -> None:
        winner = player_id if player_ids is None else player_ids
        set_winner(self, player_id=winner[0] if isinstance(winner, list) else winner, reason=reason)

    state.set_winner = state.set_winners = set_any_winner


@functools.cache
def environment_class(env_id: str, as_shipped: bool = True) -> Any:
    """The class behind an id, ready to be made offline, with its mends unless `as_shipped`.

    Raises whatever its module raises.
    """
    spec = registry()[env_id]
    path, name = spec.entry_point.split(":")
    words.prepare()
    words.share_dictionary()
    with quiet(), words.offline():
        module = _import(path)
    # After the import, which may bring modules of TextArena that have not got the stand-ins yet.
    chance.stand_in()
    made = getattr(module, name)
    return made if as_shipped else mends.mended(made)


def make(env_id: str, args: Mapping[str, Any], as_shipped: bool = True) -> Any:
    """A new environment without wrappers, with its mends unless `as_shipped`."""
    key = f"{env_id} {as_shipped} {sorted(args.items())}"
    if key in _pristine:
        return copy.deepcopy(_pristine[key], words.sharing(_pristine[key]))
    made = environment_class(env_id, as_shipped)
    with words.offline():
        env = made(**{**registry()[env_id].kwargs, **args})
    env.env_id = env_id
    if isinstance(getattr(env, "word_list", None), list):
        # Some take seconds to choose their words, and some make the list from a set, whose order no seed fixes.
        env.word_list.sort()
        _pristine[key] = copy.deepcopy(env, words.sharing(env))
    return env


_pristine: dict[str, Any] = {}
"""Word games as their constructors leave them, which draw no chance; every match copies one."""


def _import(path: str) -> ModuleType:
    try:
        return importlib.import_module(path)
    except SyntaxError:
        if sys.version_info >= (3, 12):
            raise
    rewriting = _Rewriting()
    sys.meta_path.insert(0, rewriting)
    try:
        return importlib.import_module(path)
    finally:
        sys.meta_path.remove(rewriting)


class _Rewriting:
    """Finds TextArena's modules, for a loader that rewrites what only Python 3.12 can read."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        spec = PathFinder.find_spec(name, path, target) if name.startswith("textarena.") else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _RewritingLoader(spec.loader.name, spec.loader.path)
        return spec


class _RewritingLoader(SourceFileLoader):
    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> Any:  # type: ignore[override]
        try:
            return super().source_to_code(data, path, _optimize=_optimize)
        except SyntaxError:
            return super().source_to_code(for_python_311(data.decode("utf-8")), path, _optimize=_optimize)

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        """Write no bytecode: what is in TextArena's cache is what its own source says."""
