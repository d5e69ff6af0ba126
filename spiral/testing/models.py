"""Checks a model plug-in: its own forward under given masks, its tokenizer, and the prompts that are made with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from spiral.api.errors import SpiralError
from spiral.testing.prompts import PromptFactory, check_prompt_format
from spiral.testing.violations import Violation, doing, run_checks, short

ModelFactory = Callable[[], tuple[Any, Any]]


def check_model(factory: ModelFactory, formats: Mapping[str, PromptFactory]) -> list[str]:
    """The violations of a model plug-in by `factory()`, a sentence each; [] if there are none.

    - It gives a transformers causal language model and its tokenizer, which has an end-of-sequence token, and no id
      beyond the model's vocabulary.
    - It is causal: no token's probability depends on one that comes after it.
    - Engine and learner, who give the model their own masks, compute what its own forward does.
    - Each of `formats`, by name, keeps its promises with this tokenizer.
    """
    made: list[tuple[Any, Any]] = []
    return run_checks(
        [lambda: made.append(_made(factory))],
        [lambda: _check_vocabulary(*made[0]), lambda: _check_causal(made[0][0]), lambda: _check_forward(made[0][0])],
        [partial(_check_format, name, make, made) for name, make in formats.items()],
    )


def _made(factory: ModelFactory) -> tuple[Any, Any]:
    with doing("making the model"):
        made: Any = factory()
    if not isinstance(made, tuple) or len(made) != 2:
        raise Violation(f"the factory returned {short(made)}; return a model and its tokenizer")
    return made


def _check_vocabulary(model: Any, tokenizer: Any) -> Iterator[str]:
    if tokenizer.eos_token_id is None:
        yield "the tokenizer has no end-of-sequence token, so no reply could ever end; set eos_token"
    num = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > num:
        yield f"the tokenizer has {len(tokenizer)} ids and the model {num}; give both one vocabulary"


def _check_causal(model: Any) -> Iterator[str]:
    from spiral.models.own_forward import TOLERANCE, largest_look_ahead

    with doing("its own forward pass over random tokens"):
        gap = largest_look_ahead(model.eval())
    if gap > TOLERANCE:
        yield (
            f"a token changes the log-probabilities of tokens before it (by up to {gap:.3g} nats), so what the model "
            "trains on would tell it the answer; make every layer causal"
        )


def _check_forward(model: Any) -> Iterator[str]:
    from spiral.models.own_forward import check_own_forward  # loads torch, which the kit needs for models alone

    try:
        check_own_forward(model.eval())
    except SpiralError as error:
        yield str(error)


def _check_format(name: str, make: PromptFactory, made: list[tuple[Any, Any]]) -> Iterator[str]:
    for violation in check_prompt_format(make, {"of the model": made[0][1]}):
        yield f"prompt {name}: {violation}"
