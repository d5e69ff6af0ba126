r"""A file of examples, which `spiral collect` writes and supervised training reads: a decision of a finished game as a
JSON line, the lines of a game one after another.

Text and no ids: who learns from it has another tokenizer. `prompt` and `completion` say the same once more as messages,
in the form that TRL's SFTTrainer takes as it stands; a run of its own reads the other fields and asks in its own prompt
format.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from spiral.api.errors import SpiralError
from spiral.api.records import Outcome
from spiral.models.chat import boxed, decision


@dataclass(frozen=True, slots=True)
class Example:
    """One decision. Where a type allows None, the field may be missing."""

    game: str
    """As tables label it, with its arguments."""
    number: int
    """Of the match in the file, from 0: examples of one number are one game."""
    deal: int | None
    """The seed of the game's own chance; None where the game cannot be played again."""
    player: int
    policy: str
    """Who decided."""
    policies: list[str]
    """One a player."""
    returns: list[float]
    """One a player."""
    outcome: Outcome
    """The player's, against the best of the others; of a game for one player, against 0."""
    ending: str
    """See `spiral.api.records.Ending`."""
    turn: int
    """Turns of all players before this one."""
    turns: int
    """Of the whole game."""
    history: list[str] | None
    """The moves before this one, of all players; None where they are not known."""
    rules: str
    observation: str
    legal_moves: list[str] | None
    """None where moves are free text."""
    thoughts: str
    """What the policy wrote before its answer."""
    move: str
    reply: str | None
    """The policy's own words, the move in them; None for one that gives moves alone."""
    tokens: list[str] | None = None
    """What the reply was sampled as, the id that ended it among them; None where that is not known, or not wholly."""
    logprobs: list[float] | None = None
    """Of those, in nats; 0 for one that the prompt format put there."""


_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "int | None": (int, type(None)),
    "str": (str,),
    "str | None": (str, type(None)),
    "Outcome": (str,),
    "list[str]": (list,),
    "list[str] | None": (list, type(None)),
    "list[float]": (list,),
    "list[float] | None": (list, type(None)),
}
_FIELDS: dict[str, tuple[type, ...]] = {field.name: _TYPES[str(field.type)] for field in fields(Example)}
_ITEMS: dict[str, tuple[type, ...]] = {
    "policies": (str,), "returns": (int, float), "history": (str,), "legal_moves": (str,), "tokens": (str,),
    "logprobs": (int, float),
}  # fmt: skip


def line_of(example: Example) -> bytes:
    """The line of an example, its end included."""
    return json.dumps(asdict(example) | messages(example), allow_nan=False).encode() + b"\n"


def messages(example: Example) -> dict[str, list[dict[str, str]]]:
    """`prompt` and `completion`: what `prompt=chat` says for a first decision, and the reply in the form that it asks
    for, in the policy's own words where those have that form."""
    e, reasons = example, bool(example.thoughts)
    answer = f"{e.thoughts}\n\n{boxed(e.move)}" if reasons else boxed(e.move)
    said = e.reply if e.reply is not None and reasons and boxed(e.move) in e.reply else answer
    asked = decision(e.rules, e.observation, e.legal_moves, reasons)
    return {
        "prompt": [{"role": "user", "content": asked}],
        "completion": [{"role": "assistant", "content": said}],
    }


def record_path(path: Path) -> Path:
    """Where the record of a collection lies, beside its file."""
    return path.with_name(f"{path.name}.collect.json")


_parsed: dict[str, tuple[Example, ...]] = {}
"""Those of the file that was read last, by its SHA-256. A supervised run asks for them three times: for its games, to
check them, and to train on them; parsing JSON takes long."""


def read_examples(path: Path) -> list[Example]:
    """All examples of a file that is whole.

    Raises SpiralError for a file that is not there, one whose collection is not finished or that was changed since, and
    for a line that is no example, with its number.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SpiralError(
            f"{path} cannot be read ({error.strerror}); give a file that `spiral collect` wrote"
        ) from error
    found = hashlib.sha256(data).hexdigest()
    _check_record(path, found)
    if found not in _parsed:
        _parsed.clear()  # before the next one is in memory too
        examples = tuple(_example(path, number, line) for number, line in _lines(data))
        if not examples:
            raise SpiralError(f"{path} holds no example; give a file that `spiral collect` wrote")
        _parsed[found] = examples
    return list(_parsed[found])


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        if line.strip():
            yield number, line


def _check_record(path: Path, found: str) -> None:
    """Compare a file, whose SHA-256 is `found`, with the record of its collection, where there is one."""
    record = record_path(path)
    if not record.exists():
        return
    told = read_record(record)
    if told["kept"] < told["request"]["num"]:
        raise SpiralError(
            f"{path} holds {told['kept']:,} of the {told['request']['num']:,} games that were asked for; give the same "
            f"`spiral collect` again, which goes on, or delete {record} to take the file as it is"
        )
    if found != told["sha256"]:
        raise SpiralError(
            f"{path} is not what `spiral collect` wrote: its SHA-256 is {found[:16]}..., and was "
            f"{told['sha256'][:16]}...; collect it again, or delete {record} if the change is meant"
        )


def read_record(path: Path) -> dict[str, Any]:
    """The record of a collection. Raises SpiralError for one that is damaged."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        complete = {"request", "kept", "sha256", "bytes"} <= told.keys() and "num" in told["request"]
    except (OSError, ValueError, AttributeError, TypeError):
        complete = False
    if not complete:
        raise SpiralError(f"{path} is damaged, so what lies beside it is not known to be whole; delete both")
    result: dict[str, Any] = told
    return result


def _example(path: Path, number: int, line: bytes) -> Example:
    where = f"{path}, line {number}"
    try:
        told = json.loads(line)
    except ValueError as error:
        if not line.endswith(b"\n"):
            raise SpiralError(
                f"{where}, the last one, ends in the middle: what wrote it was killed; finish the file, or delete "
                "that line"
            ) from error
        raise SpiralError(f"{where} is no JSON ({error}); mend or delete that line") from error
    if not isinstance(told, dict):
        raise SpiralError(f"{where} is a JSON {type(told).__name__}, not an example; mend or delete that line")
    for name, types in _FIELDS.items():
        value = told.get(name)
        if not isinstance(value, types) or isinstance(value, bool):
            what = f"has no '{name}'" if name not in told else f"has {name}={_short(value)}"
            raise SpiralError(f"{where} {what}; an example needs {_said(types)} there")
        if isinstance(value, list) and not all(isinstance(item, _ITEMS[name]) for item in value):
            raise SpiralError(f"{where} has {name}={_short(value)}; an example needs {_said(_ITEMS[name])} in it")
    if not 0 <= told["player"] < len(told["policies"]):
        raise SpiralError(f"{where} is of player {told['player']} in a game for {len(told['policies'])}; mend it")
    values: dict[str, Any] = {name: told.get(name) for name in _FIELDS}
    return Example(**values)


def _said(types: Sequence[type]) -> str:
    names = {int: "a whole number", float: "a number", str: "text", list: "a list", type(None): "null"}
    return " or ".join(names[one] for one in types)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}..."


def by_game(examples: Iterable[Example]) -> list[list[Example]]:
    """The examples of each game, in the order of the games' first lines."""
    games: dict[int, list[Example]] = {}
    for example in examples:
        games.setdefault(example.number, []).append(example)
    return list(games.values())
