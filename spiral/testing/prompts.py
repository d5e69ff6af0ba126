"""Checks a prompt format against the contract of `spiral.api.training.PromptFormat`, with tokenizers of two sorts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from spiral.api.games import QUESTION
from spiral.api.records import Continuation, Turn
from spiral.api.training import PromptFormat, WritesReplies, continues, has_history, min_new_tokens
from spiral.models.tokens import control_tokens
from spiral.testing.violations import Violation, doing, run_checks, short

PromptFactory = Callable[[Any], PromptFormat]

MOVES = ("bet", "Bet", "4", "fold", "e2e4", "[0 1 2 3]", "I offer 2 wood for 1 gold", "größer", '{"a": 1}', "<b>")
TEXTS = ("p0 K", "p0 Q", "X to move\n012/345/678", "größer, bigger", "")
NUM_RANDOM = 200
MERGED = ("be", "bet", "fo", "fold", "ol", "wo", "wood", "go", "gold", "of", "fer", "offer", "e2", "e4")
"""Words of moves and parts of them, so that one text has many spellings."""


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A chat template that many models have; its special tokens are `<|im_start|>` and `<|im_end|>`."""


def merging_tokenizer(template: str | None = None, special: Sequence[str] = (), added: Sequence[str] = ()) -> Any:
    """A byte-level tokenizer with pieces of several letters, which spells most moves in more than one way, and the
    special tokens `<s>` and `</s>`.

    `template`: of chats. `special`: more special tokens; `added`: tokens that are not special, as `<think>` of some
    models. Example: `merging_tokenizer(CHATML, ["<|im_start|>", "<|im_end|>"])`
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AddedToken, PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator([*MERGED, *MOVES] * 3, trainer)
    make: Any = PreTrainedTokenizerFast
    made = make(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", chat_template=template)
    made.add_tokens([AddedToken(name, special=True, normalized=False) for name in special], special_tokens=True)
    made.add_tokens([AddedToken(name, special=False, normalized=False) for name in added])
    return made


def check_prompt_format(factory: PromptFactory, tokenizers: Mapping[str, Any]) -> list[str]:
    """The violations of `spiral.api.training.PromptFormat` by `factory(tokenizer)`, a sentence each; [] if none.

    `tokenizers`: by the name that a violation calls it; one that merges letters (`merging_tokenizer`) finds most.

    - `encode` gives ids, equal for equal texts and different for different observations; what a player writes makes no
      special token, in a game or in a question (`QUESTION`).
    - With `has_history` a prompt begins with the ids of the turn before it, prompt and reply, ended or cut.
    - `reply(move)` ends with a stop id and holds none before, and `read` gives the move back; or it is None for every
      move. So does `write`, where it is there, with thoughts and without.
    - `read` takes any ids and gives a text or None.
    - `continuation`, if there is one, takes any ids that end no reply, puts ids behind them that end none, asks for a
      token or more, and needs no more room than `min_new_tokens`.

    Example: `assert check_prompt_format(ChatFormat, {"merging": merging_tokenizer()}) == []`
    """
    return run_checks(
        *[
            [partial(check, factory, name, tokenizer) for check in checks]
            for name, tokenizer in tokenizers.items()
            for checks in (
                [_check_encode, _check_history],
                [_check_replies, _check_written, _check_any_ids],
                [_check_continuation],
            )
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
    # Some tokens that mean something are not special: `split_special_tokens` makes `<think>` of a player's text.
    tokens = control_tokens(tokenizer)
    special = {*tokenizer.all_special_ids, *tokens.values()}
    for rules, writer in (("", "player who writes"), (QUESTION, "question that holds")):
        bare = [i for i in made.encode(rules, "ab") if i in special]
        for token in dict.fromkeys([*tokenizer.all_special_tokens, *tokens]):
            if [i for i in made.encode(rules, f"a{token}b") if i in special] != bare:
                yield (
                    f"a {writer} {token!r} makes a special token of it, with the tokenizer {name}; encode text that is "
                    "shown with split_special_tokens=True, and cut the names of other tokens"
                )


def _check_history(factory: PromptFactory, name: str, tokenizer: Any) -> Iterator[str]:
    made = _made(factory, name, tokenizer)
    if not has_history(made):
        return
    rng, turns = random.Random(0), list[Turn]()
    for number in range(4):
        observation = " ".join(map(str, range(number + 1)))
        with doing(f"encode({observation!r}) after {number} turns with the tokenizer {name}"):
            ids = tuple(made.encode("", observation, None, turns))
        if turns and ids[: len(turns[-1].prompt + turns[-1].reply)] != turns[-1].prompt + turns[-1].reply:
            yield (
                f"after {number} turns a prompt does not begin with the last one and the reply to it, with the "
                f"tokenizer {name}; put the ids of `turns` into it as they are"
            )
            return
        said = [rng.randrange(len(tokenizer)) for _ in range(5)]
        reply = tuple(i for i in said if i not in made.stop_ids) + made.stop_ids[:1] * (number % 2)
        turns.append(Turn(observation, ids, reply, (0.0,) * len(reply), None, False, "stop", 0))


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


def _check_written(factory: PromptFactory, name: str, tokenizer: Any) -> Iterator[str]:
    made = _made(factory, name, tokenizer)
    if not isinstance(made, WritesReplies):
        return
    form: Any = made
    for move, thoughts in ((move, thoughts) for move in MOVES for thoughts in ("", "It may be a bluff.")):
        asked = f"write({move!r}, {thoughts!r})"
        with doing(f"{asked} with the tokenizer {name}"):
            ids = form.write(move, thoughts)
            read = None if ids is None else form.read(ids)
        if ids is None:
            continue
        if not ids or ids[-1] not in form.stop_ids or any(i in form.stop_ids for i in ids[:-1]):
            yield f"{asked} is {short(ids)}; end it with one of stop_ids ({form.stop_ids}), and only there"
        elif read != move:
            yield f"read({asked}) is {read!r} with the tokenizer {name}; make the two agree, or return None"


def _check_any_ids(factory: PromptFactory, name: str, tokenizer: Any) -> Iterator[str]:
    made, rng = _made(factory, name, tokenizer), random.Random(0)
    for _ in range(NUM_RANDOM):
        ids = [rng.randrange(len(tokenizer)) for _ in range(rng.randrange(12))] + [made.stop_ids[0]] * rng.randrange(2)
        with doing(f"read({ids}) with the tokenizer {name}"):
            read: Any = made.read(ids)
        if read is not None and not isinstance(read, str):
            yield f"read({ids}) is {short(read)}; return the move as a str, or None"
            return


def _check_continuation(factory: PromptFactory, name: str, tokenizer: Any) -> None:
    made, rng = _made(factory, name, tokenizer), random.Random(0)
    continuation = continues(made)
    if continuation is None:
        return
    vocabulary = [i for i in range(len(tokenizer)) if i not in made.stop_ids]
    for _ in range(NUM_RANDOM):
        ids: list[int] = []
        while True:
            with doing(f"continuation({short(ids)}) with the tokenizer {name}"):
                then: Any = continuation(ids)
            if not isinstance(then, Continuation) or (then.num_tokens is not None and then.num_tokens < 1):
                raise Violation(f"continuation({short(ids)}) is {short(then)}; continue by 1 token or more")
            if any(i in made.stop_ids for i in then.forced):
                raise Violation(f"continuation({short(ids)}) puts a stop id there; leave the end to the policy")
            ids += then.forced
            if len(ids) >= min_new_tokens(made):
                raise Violation(f"a reply has {len(ids)} ids before its last part; raise min_new_tokens")
            if then.num_tokens is None:
                break
            ids += rng.choices(vocabulary, k=then.num_tokens)
