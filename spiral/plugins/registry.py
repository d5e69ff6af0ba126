"""Finds, names and makes plug-ins; every error says what was asked, what is installed and what to do.

Our own loader, because pluggy's skips a second plug-in of one name in silence, and lets one broken distribution
stop everything with an error that does not name it. Here a broken plug-in, or a name that two distributions took, stops
only who asks for it.
"""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pluggy

from spiral.api import hooks as hookspecs
from spiral.api.errors import PluginError, SpiralError
from spiral.config.loading import as_written, resolved
from spiral.plugins.argument_text import argument_text
from spiral.plugins.arguments import mismatches
from spiral.plugins.faults import blamed, told
from spiral.plugins.kinds import BY_NAME, KINDS
from spiral.plugins.observers import Observers

GROUP = "spiral"

FIRST_PARTY = "spiral-selfplay[all]"
"""What brings the games, opponents, estimators and models that spiral's own authors wrote."""


class Bound(functools.partial[Any]):
    """A factory with arguments, which keeps its optional members, such as a bot's `external`."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.func, name)


@dataclass(frozen=True)
class Registration:
    """One thing that can be made by name."""

    kind: str
    name: str
    factory: Callable[..., Any]
    distribution: str
    version: str
    members: Callable[[], Iterable[str]] | None = None
    """For a family: lists the names that `member` takes."""

    @property
    def doc(self) -> str:
        """The first line of the factory's docstring, or an empty string."""
        return next(iter((inspect.getdoc(self.factory) or "").splitlines()), "")

    def member(self, name: str) -> Registration:
        """One of a family, as something that can be made by itself."""
        factory = Bound(self.factory, name)
        factory.__doc__ = f"{name}, one of {self.name}."
        return Registration(self.kind, f"{self.name}/{name}", factory, self.distribution, self.version)


@dataclass(frozen=True)
class FailedDistribution:
    """A distribution whose plug-in could not be loaded, and why."""

    distribution: str
    version: str
    value: str
    reason: str


class Plugins:
    """Everything installed, by kind and name; `hook` calls the observers."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self.hook = Observers(self._manager)
        """The observers of `hookspecs`, called by name with keyword arguments."""
        self._table: dict[tuple[str, str], list[Registration]] = {}
        """(kind, name) -> one registration; several where distributions took the same name."""
        self.failed: list[FailedDistribution] = []
        self.distributions: dict[str, str] = {}
        """Distribution -> version, of all that loaded."""

    @classmethod
    def installed(cls) -> Plugins:
        """All plug-ins of the installed distributions, or of those named in SPIRAL_PLUGINS=a,b only."""
        plugins = cls()
        only = [name for name in os.environ.get("SPIRAL_PLUGINS", "").split(",") if name]
        for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda p: (_dist(p), p.name)):
            if only and _dist(point) not in only:
                continue
            version = point.dist.version if point.dist else "?"
            try:
                plugins.add(point.load(), _dist(point), version)
            except (Exception, SystemExit) as error:
                plugins.failed.append(FailedDistribution(_dist(point), version, point.value, told(error)))
        return plugins

    def add(self, plugin: object, distribution: str, version: str = "0") -> None:
        """Register one plug-in object. Raises PluginError for one that registers a name twice, or nothing that can be
        found; nothing stays of one that fails."""
        manager = self._manager
        registered = manager.register(plugin, name=f"{distribution}:{len(manager.get_plugins())}")
        try:
            manager.check_pending()
            self._check_marked(plugin)
            found = self._collect(plugin, distribution, version)
        except BaseException:
            manager.unregister(name=registered)
            raise
        for r in found:
            self._table.setdefault((r.kind, r.name), []).append(r)
        self.distributions[distribution] = version

    def observe_with(self, observer: object, logger: str = "") -> None:
        """Let an object's hookimpls see the run. `logger`: the name of one that a config asks for, whose errors are
        warnings."""
        self._manager.register(observer)
        self._manager.check_pending()
        if logger:
            self.hook.tolerate(observer, logger)

    def registrations(self) -> list[Registration]:
        """All of them, by kind and then name."""
        order = list(BY_NAME)
        every = [r for found in self._table.values() for r in found]
        return sorted(every, key=lambda r: (order.index(r.kind), r.name))

    def clashes(self) -> list[str]:
        """Each name of a kind that several distributions took, as a sentence."""
        return [_clash(found) for found in self._table.values() if len(found) > 1]

    def names(self, kind: str) -> list[str]:
        """What can be made of a kind, sorted."""
        return sorted(name for k, name in self._table if k == kind)

    def lacks(self, kind: str) -> bool:
        """Whether nothing of a kind is there but families: the core's own has members of others alone."""
        return all(r.members for r in self.registrations() if r.kind == kind)

    def named(self, name: str) -> list[Registration]:
        """Whatever has this name, of any kind: for a family all its members, for `family/member` that one."""
        family, _, member = name.partition("/")
        found = [r for r in self.registrations() if r.name == name and not r.members]
        for r in self.registrations():
            if r.members and r.name == family:
                found += [r.member(one) for one in r.members() if member in ("", one)]
        return found

    def find(self, kind: str, name: str) -> Registration:
        """The registration of a name. Raises PluginError with what is installed, or with who took the name twice."""
        family, _, member = name.partition("/")
        several = self._table.get((kind, name)) or self._table.get((kind, family)) or []
        if len(several) > 1:
            raise PluginError(_clash(several))
        found = several[0] if several else None
        if found and member and found.members:
            return found.member(member)
        if found and not member and not found.members:
            return found
        if found and found.members:
            raise PluginError(f"{kind} '{family}' is a family; name one of it, such as {self._some(found)}")
        installed = ", ".join(self.names(kind)) or "none"
        remedy = self._remedy(kind, name) + self.failures()
        raise PluginError(f"no {kind} named '{name}' (installed: {installed}); {remedy}")

    def _remedy(self, kind: str, name: str) -> str:
        """What to do about a name that is not there."""
        holding = [known for known in self.names(kind) if name in known]  # `kuhn` of `kuhn_poker`
        near = difflib.get_close_matches(name, self.names(kind), n=1) or sorted(holding, key=len)
        only = os.environ.get("SPIRAL_PLUGINS")
        if near:
            hint = f"did you mean '{near[0]}'?"
        elif not self.lacks(kind) or self.failed or only:
            hint = "pip install a distribution that provides it"
        else:  # nothing of the kind, and nothing that failed or was left out: spiral was installed bare
            hint = f'pip install "{FIRST_PARTY}" brings the first-party ones'
        return f"{hint} (only SPIRAL_PLUGINS={only} was loaded)" if only else hint

    @staticmethod
    def _some(family: Registration) -> str:
        assert family.members is not None
        first = [f"{family.name}/{member}" for _, member in zip(range(3), family.members(), strict=False)]
        return ", ".join(first) or "none is known"

    def not_loaded(self) -> list[str]:
        """Each distribution that failed to load, and why."""
        return [f"{f.distribution} {f.version} ({f.value}) failed to load: {f.reason}" for f in self.failed]

    def failures(self) -> str:
        """What to add to an error that a name is missing: the distributions that might have brought it."""
        failed = "; ".join(f"{f.distribution} {f.version} failed to load: {f.reason}" for f in self.failed)
        return f" [{failed}]" if failed else ""

    def problem(self, kind: str, name: str, args: Mapping[str, Any]) -> str | None:
        """What is wrong with a name and its arguments, as one sentence, without making anything; None if nothing."""
        try:
            factory, args = self.find(kind, name).factory, resolved(args)
        except SpiralError as error:
            return str(error)
        signature, num_core_args = inspect.signature(factory), BY_NAME[kind].num_core_args
        try:
            bound = signature.bind(*[None] * num_core_args, **args)
        except TypeError as error:
            taken = ", ".join(list(signature.parameters)[num_core_args:]) or "none"
            return f"{kind} '{name}': {error}; its arguments are: {taken}"
        for argument, reason in mismatches(factory, {k: v for k, v in bound.arguments.items() if k in args}):
            return f"{kind} '{name}': argument {argument} {reason}"
        return None

    def make(self, kind: str, name: str, /, *core: Any, **args: Any) -> Any:
        """Call the factory. Raises PluginError for a name or arguments that do not fit."""
        if problem := self.problem(kind, name, args):
            raise PluginError(problem)
        with blamed(f"{kind} '{name}', as it was made,"):
            return self.bound(kind, name, args)(*core)

    def bound(self, kind: str, name: str, args: Mapping[str, Any]) -> Callable[..., Any]:
        """The factory with arguments, references to the environment resolved. Raises PluginError and ConfigError."""
        return Bound(self.find(kind, name).factory, **resolved(args))

    def _check_marked(self, plugin: object) -> None:
        """Raise PluginError for a plug-in none of whose functions, or not all that should be, are hooks."""
        marked = {caller.name for caller in self._manager.get_hookcallers(plugin) or ()}
        unmarked = [k.hook for k in KINDS if k.hook not in marked and callable(getattr(plugin, k.hook, None))]
        if unmarked:
            raise PluginError(f"{unmarked[0]} lacks the marker @spiral.hookimpl, and would register nothing; add it")
        if not marked:
            raise PluginError("no function in it has the marker @spiral.hookimpl, so it registers nothing; add a hook")

    def _collect(self, plugin: object, distribution: str, version: str) -> list[Registration]:
        found: dict[tuple[str, str], Registration] = {}
        for kind in KINDS:
            for impl in getattr(self._manager.hook, kind.hook).get_hookimpls():
                if impl.plugin is not plugin:
                    continue
                entries: list[tuple[str, Callable[..., Any], Any]] = []
                impl.function(*[lambda name, make, members=None, to=entries: to.append((name, make, members))])
                for name, factory, members in entries:
                    if (kind.name, name) in found:
                        raise PluginError(f"{kind.name} '{name}' is registered twice; give each its own name")
                    found[kind.name, name] = Registration(kind.name, name, factory, distribution, version, members)
        return list(found.values())


def _clash(found: Sequence[Registration]) -> str:
    by = " and by ".join(f"{r.distribution} {r.version}" for r in found)
    return (
        f"{found[0].kind} '{found[0].name}' is registered twice, by {by}; uninstall one, or load only the "
        "distributions named in SPIRAL_PLUGINS=a,b"
    )


def label(name: str, args: Mapping[str, Any]) -> str:
    """How a plug-in with arguments is called in records and tables: `kuhn_poker(rounds=5)`."""
    return f"{name}({argument_text(as_written(args))})" if args else name


def _dist(point: importlib.metadata.EntryPoint) -> str:
    return point.dist.name if point.dist else point.value
