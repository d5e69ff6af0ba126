"""Writes the pages that are read off the code: docs/reference/config.md from the schema, docs/reference/hooks.md from the hookspecs."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path

from spiral.api import hooks as hookspecs
from spiral.config import schema
from spiral.config.loading import DEFAULTS
from spiral.plugins.registry import NUM_CORE_ARGS

DOCS = Path(__file__).parents[1] / "docs"
NOTICE = "<!-- written by `make docs`; edit the docstrings it is made of instead -->\n"

GROUPS = {
    "Config": "The whole run",
    "PluginConfig": "A plug-in: `curriculum`, `opponents`, `advantage`, `model`, `engine`, `prompt`, and each of "
    "`rewards`, `loggers`",
    "GameConfig": "Each of `games`",
    "PoolConfig": "`pool`",
    "MemberConfig": "Each of `pool.members`",
    "RolloutConfig": "`rollout`",
    "LearnerConfig": "`learner`",
    "WarmStartConfig": "`warm_start`",
    "EvaluateConfig": "`evaluate`",
    "HealthConfig": "`health`",
    "CheckpointConfig": "`checkpoint`",
}

CONFIG_INTRO = """# Configuration

A run is configured by three layers, each over the one before: `spiral/defaults.yaml` (the Kuhn poker demo), a YAML
file, and `key=value` words on the command line. A file holds only what differs:

```yaml
games: [{name: kuhn_poker, weight: 2}, tic_tac_toe]
advantage: {name: rae, args: {decay: 0.9}}
learner: {lr: 0.0005}
```

`advantage=grpo` is short for `advantage={name: grpo}`, and another name drops the old plug-in's arguments. A list is
replaced as a whole; `games.0.weight=2` changes one entry. The arguments of a plug-in are those of its factory;
`spiral plugins` lists the names. Whatever is wrong is reported at once, before a model loads, with exit code 2.

The demo's defaults:

```yaml
DEFAULTS```
"""

HOOKS_INTRO = """# Hooks

Everything a plug-in may implement. A plug-in is a module or object whose functions carry `@spiral.hookimpl`, found
through the entry-point group `spiral`; [writing a plug-in](writing-a-plugin.md) shows a whole one. An implementation
may leave arguments out. The Protocols that factories must satisfy are in `spiral/interfaces.py`.

`register(name, factory)` is called once a thing; `register(name, factory, members)` once a family, such as all games of
another library. Arguments from the config are bound against the factory's signature
and checked before a model loads. A name that is taken raises an error that names both distributions. With
`SPIRAL_PLUGINS=a,b` in the environment only the distributions a and b are loaded.
"""


def config_page() -> str:
    """docs/reference/config.md."""
    tree = ast.parse(Path(schema.__file__).read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    parts = [NOTICE, CONFIG_INTRO.replace("DEFAULTS", DEFAULTS.read_text(encoding="utf-8"))]
    for name, title in GROUPS.items():
        node = classes[name]
        parts.append(
            f"\n## {title}\n\n{ast.get_docstring(node)}\n\n| key | type | default | meaning |\n|---|---|---|---|\n"
        )
        parts += [f"| `{key}` | `{kind}` | {default} | {doc} |\n" for key, kind, default, doc in _fields(node)]
    return "".join(parts)


def hooks_page() -> str:
    """docs/reference/hooks.md."""
    parts = [NOTICE, HOOKS_INTRO, "\n## Registration\n"]
    for name, function in _hooks():
        if name == "run_started":
            parts.append(
                "\n## Observers\n\nCalled at most once a step, on the main process. An exception stops the run.\n"
            )
        signature = str(inspect.signature(function)).replace("'", "")  # annotations are kept as text
        parts.append(f"\n### {name}{signature}\n\n{inspect.getdoc(function)}\n")
    filled = ", ".join(f"{kind} {n}" for kind, n in NUM_CORE_ARGS.items())
    parts.append(f"\nLeading arguments that the core fills in itself, by kind: {filled}; none for the others.\n")
    return "".join(parts)


def _hooks() -> Iterator[tuple[str, Callable[..., None]]]:
    for name, function in vars(hookspecs).items():
        if hasattr(function, "spiral_spec"):
            yield name, function


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, str, str, str]]:
    """(key, type, default, meaning) of each field, from the source: docstrings of attributes exist nowhere else."""
    for field, doc in zip(node.body, node.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        text = ""
        if isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant):
            text = " ".join(str(doc.value.value).split())
        kind = ast.unparse(field.annotation).replace("|", "\\|")
        yield field.target.id, kind, _default(field.value), text.replace("|", "\\|")


def _default(value: ast.expr | None) -> str:
    if value is None:
        return "see the demo"
    text = ast.unparse(value)
    if text.startswith("field("):
        return "empty" if "=list" in text or "=dict" in text else "below"
    return f"`{text}`"


if __name__ == "__main__":
    (DOCS / "config.md").write_text(config_page(), encoding="utf-8")
    (DOCS / "hooks.md").write_text(hooks_page(), encoding="utf-8")
