"""Checks a prompt format against the contract of `spiral.api.training.PromptFormat`, with tokenizers of two sorts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from spiral.api.training import PromptFormat
from spiral.testing.violations import Violation, doing, run_checks, short

PromptFactory = Callable[[Any], PromptFormat]

MOVES = ("bet", "Bet", "4", "fold", "e2e4", "[0 1 2 3]", "I offer 2 wood for 1 gold", "größer", '{"a": 1}', "<b>")
TEXTS = ("p0 K", "p0 Q", "X to move\n012/345/678", "größer, bigger", "")
NUM_RANDOM = 200
MERGED = ("be", "bet", "fo", "fold", "ol", "wo", "wood", "go", "gold", "of", "fer", "offer", "e2", "e4")
"""Words of moves and parts of them, so that one text has many spellings."""


def merging_tokenizer() -> Any:
    """A byte-level tokenizer with pieces of several letters, which spells most moves in more than one way, and the
    special tokens `<s>` and `</s>`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator([*MERGED, *MOVES] * 3, trainer)
    make: Any = PreTrainedTokenizerFast
    return make(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")


def check_prompt_format(factory: PromptFactory, tokenizers: Mapping[str, Any]) -> list[str]:
    """The violations of `spiral.api.training.PromptFormat` by `factory(tokenizer)`, a sentence each; [] if none.

    `tokenizers`: by the name that a violation calls it; one that merges letters (`merging_tokenizer`) finds most.

    - `encode` gives ids, equal for equal texts and different for different observations; what a player writes makes no
      special token.
    - `reply(move)` ends with a stop id and holds none before, and `read` gives the move back; or it is None for every
      move.
    - `read` takes any ids and gives a text or None.

    Example: `assert check_prompt_format(ChatFormat, {"merging": merging_tokenizer()}) == []`
    """
    return run_checks(
        *[
            [partial(check, factory, name, tokenizer) for check in checks]
            for name, tokenizer in tokenizers.items()
            for checks in ([_check_encode], [_check_replies, _check_any_ids])
        ]
    )


def _made(factory: PromptFactory, name: str, tokenizer: Any) -> PromptFormat:
    with doing(f"making the format with the tokenizer {name}"):
        made = factory(tokenizer)
    stop_ids: Any = getattr(made, "stop_ids", None)
    if not isinstance(stop_ids, tuple) or not stop_ids or not all(isinstance(i, int) for i in stop_ids):
        raise Violation(f"stop_ids is {short(stop_ids)}; make it a tuple of ids, one or more")
    return made


def _check_encode(factory: PromptFactory, name: str, tokenizer: Any) -> Iterator[str]:
    made = _made(factory, name, tokenizer)
    prompts: dict[tuple[int, ...], str] = {}
    for text in TEXTS:
        with doing(f"encode('', {text!r}) with the tokenizer {name}"):
            ids, again = made.encode("", text), made.encode("", text)
        if not isinstance(ids, list) or not all(isinstance(i, int) for i in ids):
            raise Violation(f"encode('', {text!r}) gave {short(ids)}; return a list of ids")
        if ids != again:
            yield f"encode('', {text!r}) gave two answers; let nothing but its arguments decide"
        prompts.setdefault(tuple(ids), text)
    if len(prompts) < len(TEXTS):
        yield "two observations have one prompt; put the whole observation into it"
    special = {*tokenizer.all_special_ids}
    bare = [i for i in made.encode("", "ab") if i in special]
    for token in tokenizer.all_special_tokens:
        written = [i for i in made.encode("", f"a{token}b") if i in special]
        if written != bare:
            yield (
                f"a player who writes {token!r} makes a special token of it, with the tokenizer {name}; encode text "
                "from games with split_special_tokens=True"
            )


def _check_replies(factory: PromptFactory, name: str, tokenizer: Any) -> Iterator[str]:
    made = _made(factory, name, tokenizer)
    replies = {}
    for move in MOVES:
        with doing(f"reply({move!r}) with the tokenizer {name}"):
            replies[move] = made.reply(move)
    many = [move for move, ids in replies.items() if ids is None]
    if many and len(many) < len(MOVES):
        yield f"reply({many[0]!r}) is None and other moves have a reply; return None for all moves or for none"
    for move, ids in replies.items():
        if ids is None:
            continue
        if not ids or ids[-1] not in made.stop_ids or any(i in made.stop_ids for i in ids[:-1]):
            yield f"reply({move!r}) is {short(ids)}; end it with one of stop_ids ({made.stop_ids}), and only there"
            continue
        with doing(f"read(reply({move!r})) with the tokenizer {name}"):
            read = made.read(ids)
        if read != move:
            yield f"read(reply({move!r})) is {read!r} with the tokenizer {name}; make the two agree"


def _check_any_ids(factory: PromptFactory, name: str, tokenizer: Any) -> Iterator[str]:
    made, rng = _made(factory, name, tokenizer), random.Random(0)
    for _ in range(NUM_RANDOM):
        ids = [rng.randrange(len(tokenizer)) for _ in range(rng.randrange(12))] + [made.stop_ids[0]] * rng.randrange(2)
        with doing(f"read({ids}) with the tokenizer {name}"):
            read: Any = made.read(ids)
        if read is not None and not isinstance(read, str):
            yield f"read({ids}) is {short(read)}; return the move as a str, or None"
            return
