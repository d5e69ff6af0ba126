"""Writes docs/reference/ from the code: config keys, commands, installed plug-ins, hooks, and the list of the API."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path

import click

import spiral
from spiral.api import hooks as hookspecs
from spiral.commands.main import main
from spiral.config import dropout, schema, sources
from spiral.config.default_layers import (
    DEMO,
    PRETRAINED,
    SUPERVISED,
    TASKS,
    TASKS_RANDOM_WEIGHTS,
    TEXT,
    TEXT_RANDOM_WEIGHTS,
)
from spiral.plugins.kinds import KINDS
from spiral.plugins.registry import Plugins, Registration

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
NUM_CORE_ARGS = {kind.name: kind.num_core_args for kind in KINDS if kind.num_core_args}
NOTICE = "<!-- written by `make docs`; edit the docstrings it is made of instead -->\n"

GROUPS = {
    "Config": "The whole run",
    "PluginConfig": "A plug-in: `curriculum`, `opponents`, `advantage`, `model`, `engine`, `prompt`, and each of "
    "`rewards`, `loggers`",
    "GameConfig": "Each of `games`",
    "ExamplesConfig": "`examples`",
    "TextConfig": "`text`",
    "PoolConfig": "`pool`",
    "MemberConfig": "Each of `pool.members` and `evaluate.opponents`",
    "RolloutConfig": "`rollout`",
    "LearnerConfig": "`learner`",
    "DropoutConfig": "`learner.dropout` and `warm_start.dropout`",
    "WarmStartConfig": "`warm_start`",
    "EvaluateConfig": "`evaluate`",
    "HealthConfig": "`health`",
    "CheckpointConfig": "`checkpoint`",
}

CONFIG_INTRO = """# Configuration

A run is configured by layers, each over the one before: the defaults (the Kuhn poker demo), those of a
[pretrained model](../guides/models.md#a-pretrained-model) where the run names one, a YAML file, and `key=value` words
on the command line. A file holds only what differs:

```yaml
games: [{name: kuhn_poker, weight: 2}, tic_tac_toe]
advantage: {name: rae, args: {decay: 0.9}}
learner: {lr: 0.0005}
```

`advantage=grpo` is short for `advantage={name: grpo}`, and another name drops the old plug-in's arguments. A list is
replaced as a whole; `games.0.weight=2` changes one entry. The arguments of a plug-in are those of its factory;
[plug-ins](plugins.md) has the names and arguments of the first-party ones. All errors are reported together, before a
model loads, with exit code 2.

`spiral train --show ...` prints the config that these words would train with, and behind each value where it comes
from: `defaults`, `pretrained defaults`, `the model's size`, `task defaults`, `supervised defaults`, `text defaults`,
the file's name or `command line`.
What it prints is a config file.

`${oc.env:KEY}` in an argument of a plug-in, or in the text that names a policy, is given to the plug-in as the
environment has it, and stays a reference in all that a run writes: config.yaml, the report, trackers, names in metrics.
A resumed run reads the environment again. Elsewhere, as in `steps`, it is read once, and the run keeps the value.

The demo's defaults:

```yaml
{DEMO}```

Over them, where the model is a pretrained one:

```yaml
{PRETRAINED}```

Over those, where all games are [tasks](../guides/tasks.md):

```yaml
{TASKS}```

Over those, where the model is not a pretrained one:

```yaml
{TASKS_RANDOM_WEIGHTS}```

Over those, where `examples` names a file to [learn from](../guides/supervised.md):

```yaml
examples: {path: games.jsonl}
{SUPERVISED}```

Over those, where `text` names what to [pretrain on](../guides/pretraining.md):

```yaml
text: {paths: [folder]}
{TEXT}```

And where the model is not pretrained:

```yaml
{TEXT_RANDOM_WEIGHTS}```
"""

HOOKS_INTRO = """# Hooks

Everything a plug-in may implement. A plug-in is a module or object whose functions carry `@spiral.hookimpl`, found
through the entry-point group `spiral`; [writing a plug-in](../guides/writing-a-plugin.md) shows a whole one. An
implementation may leave arguments out. The Protocols that factories must satisfy are in the [Python API](api.md).

`register(name, factory)` is called once for each plug-in; `register(name, factory, members)` once for a family, such as
all games of another library. Arguments from the config are bound against the factory's signature and checked before a
model loads. A name that two distributions take is an error, naming both, for who asks for it. With `SPIRAL_PLUGINS=a,b`
in the environment only the distributions a and b are loaded.
"""

CLI_INTRO = """# Command line

Exit codes: 0 done, 2 a mistake of the user in one sentence, 1 anything else, with its traceback.
`python -m spiral` is the same program.
"""

PLUGINS_INTRO = """# Plug-ins

What the first-party distributions register. `spiral plugins` lists what is installed, yours included, and
`spiral plugins NAME` shows one with its arguments. A config names a plug-in and its arguments as
`{name: NAME, args: {...}}`, a bot on the command line as `NAME:key=value,key=value`. `NAME/...` is a family of games.
"""

API_INTRO = """# Python API

The public names are those of `spiral`, `spiral.theory` and `spiral.testing`, listed here; every other module is private
and may change without notice. `import spiral` loads no model library.
"""

API_ORDER = ("runs", "games", "policies", "training", "records", "hooks", "errors")
"""The order of the page: what is not from `spiral.api`, for notebooks and scripts, then its modules; others follow."""

TITLES = {
    "game": "Games",
    "bot": "Bots",
    "opponents": "Opponent samplers",
    "curriculum": "Curricula",
    "reward": "Reward shapers",
    "advantage": "Advantage estimators",
    "model": "Models",
    "engine": "Engines",
    "prompt": "Prompt formats",
    "benchmark": "Benchmarks",
    "logger": "Loggers",
}


def config_page() -> str:
    """docs/reference/config.md, from the fields of the schema and their docstrings."""
    trees = [
        ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8")) for module in (schema, sources, dropout)
    ]
    classes = {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}
    intro = CONFIG_INTRO
    layers = {"DEMO": DEMO, "PRETRAINED": PRETRAINED, "SUPERVISED": SUPERVISED}
    layers |= {"TASKS": TASKS, "TASKS_RANDOM_WEIGHTS": TASKS_RANDOM_WEIGHTS}
    layers |= {"TEXT": TEXT, "TEXT_RANDOM_WEIGHTS": TEXT_RANDOM_WEIGHTS}
    for name, path in layers.items():
        intro = intro.replace(f"{{{name}}}", path.read_text(encoding="utf-8"))
    parts = [NOTICE, intro]
    for name, title in GROUPS.items():
        node = classes[name]
        parts.append(
            f"\n## {title}\n\n{ast.get_docstring(node)}\n\n| key | type | default | meaning |\n|---|---|---|---|\n"
        )
        parts += [f"| `{key}` | `{kind}` | {default} | {doc} |\n" for key, kind, default, doc in _fields(node)]
    return "".join(parts)


def hooks_page() -> str:
    """docs/reference/hooks.md, from the hookspecs."""
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


def cli_page() -> str:
    """docs/reference/cli.md, from what `--help` prints."""
    parts = [NOTICE, CLI_INTRO]
    context = click.Context(main, info_name="spiral")
    for name in main.list_commands(context):
        command = main.commands[name]
        inner = click.Context(command, info_name=name, parent=context)
        usage = " ".join(["spiral", name, *command.collect_usage_pieces(inner)])
        parts.append(f"\n## spiral {name}\n\n{inspect.cleandoc(command.help or '')}\n\n```text\n{usage}\n```\n")
        records = [p.get_help_record(inner) for p in command.params if isinstance(p, click.Option)]
        if rows := [_cells(record) for record in records if record]:
            parts += ["\n| option | |\n|---|---|\n", *rows]
    return "".join(parts)


def plugins_page() -> str:
    """docs/reference/plugins.md, from the registrations of the first-party distributions."""
    parts = [NOTICE, PLUGINS_INTRO]
    registrations = [r for r in Plugins.installed().registrations() if r.distribution.startswith("spiral-")]
    for kind in dict.fromkeys(r.kind for r in registrations):
        parts.append(f"\n## {TITLES.get(kind, kind)}\n\n| name | arguments | |\n|---|---|---|\n")
        parts += [f"| {_name(r)} | {_arguments(r)} | {_cell(r.doc)} |\n" for r in registrations if r.kind == kind]
    return "".join(parts)


def api_page() -> str:
    """docs/reference/api.md: the public names by module, for mkdocstrings to fill in."""
    parts = [NOTICE, API_INTRO]
    source = Path(spiral.__file__)
    groups: dict[str, list[str]] = {}
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            light = node.module.startswith("spiral.api.")
            group = node.module.rsplit(".", 1)[-1] if light else "runs"
            groups.setdefault(group, []).extend(a.name for a in node.names if a.name in spiral.__all__)
    for group in sorted(filter(groups.get, groups), key=lambda g: API_ORDER.index(g) if g in API_ORDER else 99):
        parts.append(f"\n## {group.capitalize()}\n\n")
        parts += [f"::: spiral.{name}\n" for name in groups[group]]
    for module in ("theory", "testing"):
        path = source.parent / module / "__init__.py"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        parts.append(f"\n## spiral.{module}\n\n{ast.get_docstring(tree)}\n\n")
        parts += [f"::: spiral.{module}.{name}\n" for name in _public(tree)]
    return "".join(parts)


def _public(tree: ast.Module) -> list[str]:
    """The names in `__all__`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__":
            return list(ast.literal_eval(node.value))
    raise ValueError("a public module needs __all__")


def _name(registration: Registration) -> str:
    return f"`{registration.name}/...`" if registration.members else f"`{registration.name}`"


def _arguments(registration: Registration) -> str:
    """Those that a config may give, with their defaults."""
    core = NUM_CORE_ARGS.get(registration.kind, 0) + bool(registration.members)
    parameters = list(inspect.signature(registration.factory).parameters.values())[core:]
    return ", ".join(f"`{p.replace(annotation=p.empty)}`" for p in parameters)


def _cells(record: tuple[str, str]) -> str:
    names, meaning = record
    escaped = names.replace("|", "\\|")
    return f"| `{escaped}` | {_cell(meaning)} |\n"


def _cell(text: str) -> str:
    """Text for a table: on one line, with brackets that make no link and bars that end no cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("[", "\\[")


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
    for page in (config_page, cli_page, plugins_page, hooks_page, api_page):
        path = REFERENCE / f"{page.__name__.removesuffix('_page')}.md"
        path.write_text(page(), encoding="utf-8")
