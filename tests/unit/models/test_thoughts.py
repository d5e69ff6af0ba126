"""What closes a thought that is too long, by what was said until then, in each form of answer and kind of thought."""

import pytest
from spiral_models.byte.tokenizer import ByteTokenizer

from spiral.api.errors import SpiralError
from spiral.api.records import Continuation
from spiral.models.chat import chat
from spiral.models.prompt_cache import Prompter
from spiral.policies.completer import Completer
from spiral.testing import merging_tokenizer
from spiral.testing.prompts import CHATML, check_prompt_format

SWITCH = CHATML.replace(
    "assistant\n{% endif",
    "assistant\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif",
)
OPEN = CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")
ROOM = 1000


def tokenizer(template=SWITCH, added=("<think>", "</think>")):
    made = merging_tokenizer(template, ["<|im_start|>", "<|im_end|>"], added)
    made.eos_token = "<|im_end|>"
    return made


def put(tokens, said, **args):
    """What is put behind a reply `said` that has run to its limit, as text."""
    ids = tokens.encode(said, add_special_tokens=False)
    form = chat(tokens, thought_tokens=len(ids), **args)
    assert form.continuation(()) == Continuation(num_tokens=len(ids))
    then = form.continuation(ids)
    assert then.num_tokens is None
    assert tokens.decode([*ids, *then.forced]) == said + tokens.decode([*then.forced])
    return tokens.decode([*then.forced])


BEGUN = "\n\nAnswer: \\boxed{"
CLOSED = "\n</think>\n\n"


@pytest.mark.parametrize("added", [("<think>", "</think>"), ()])
@pytest.mark.parametrize(
    ("template", "said", "expected"),
    [
        (SWITCH, "<think>\nmaybe \\boxed{bet}, or", CLOSED),
        (SWITCH, "<think>\nhm\n</think>\n\nI will", ""),
        (SWITCH, "<think>a</think> b <think>c", CLOSED),
        (SWITCH, "I have a K. So", BEGUN),
        (OPEN, "I have a K. So", CLOSED),
        (OPEN, "hm\n</think>\n\nI will", ""),
        (CHATML, "I have a K. So", BEGUN),
        (CHATML, "I put it in \\boxed{}, as", BEGUN),
        (CHATML, "Thus \\boxed{be", ""),
        (CHATML, "Thus \\boxed{bet}. Since", ""),
    ],
)
def test_an_open_thought_is_closed_and_reasoning_becomes_an_answer(template, said, expected, added):
    """Whether the thought's end is one id or several. What was closed in time goes on by itself, and so does an answer
    that is there or is being written."""
    assert put(tokenizer(template, added), said) == expected


@pytest.mark.parametrize("tokens", [ByteTokenizer(), merging_tokenizer()])
@pytest.mark.parametrize(("answer", "opener"), [("boxed", "\\boxed{"), ("brackets", "["), ("tags", "<answer>")])
def test_a_model_without_a_template_answers_in_its_form(tokens, answer, opener):
    """Reasoning that `reason` asked for; with bytes or pieces as ids. The move that follows is read."""
    said = "If I fold"
    assert put(tokens, said, answer=answer) == f"\n\nAnswer: {opener}"
    closer = {"boxed": "}", "brackets": "]", "tags": "</answer>"}[answer]
    form = chat(tokens, answer=answer, thought_tokens=4)
    text = f"{said}\n\nAnswer: {opener}bet{closer}"
    assert form.read([*tokens.encode(text, add_special_tokens=False), form.stop_ids[0]]) == "bet"


def test_a_plain_answer_has_a_thought_only_between_marks():
    """Behind them the move alone follows. What was said without any is the answer already."""
    args = {"answer": "plain", "thinking": True}
    assert put(tokenizer(), "<think>\nhm", **args) == CLOSED
    assert put(tokenizer(), "bet is my move", **args) == ""
    form = chat(tokenizer(), thought_tokens=9, **args)
    assert form.read(tokenizer().encode(f"<think>\nhm{CLOSED}bet<|im_end|>", add_special_tokens=False)) == "bet"


def test_the_shortest_reply_has_room_for_an_answer():
    """Thought, what closes it, a token of a move and the end: less is refused with what would do."""
    tokens = ByteTokenizer()
    prompter = Prompter(chat(tokens, thought_tokens=20))
    least = 20 + len(BEGUN) + 2
    assert prompter.min_new_tokens == least
    Completer.of(None, prompter, least)
    with pytest.raises(SpiralError, match=rf"set rollout\.max_new_tokens={least} or more"):
        Completer.of(None, prompter, least - 1)


@pytest.mark.parametrize(
    ("args", "found"),
    [
        ({"thought_tokens": 0}, "give 1 or more"),
        ({"thought_tokens": 9, "reason": False, "thinking": False}, "nothing but the move"),
        ({"thought_tokens": 9, "answer": "plain", "thinking": False}, "nothing but the move"),
        ({"thought_tokens": 9, "answer": "plain", "template": False}, "nothing but the move"),
    ],
)
def test_a_limit_without_a_thought_is_refused(args, found):
    with pytest.raises(SpiralError, match=found):
        chat(tokenizer(), **args)


def test_a_tokenizer_that_cannot_spell_a_thoughts_end_is_refused():
    """One that drops what closes a thought would leave it open."""
    tokens = tokenizer()
    encode = tokens.encode
    tokens.encode = lambda text, **args: [i for i in encode(text, **args) if i != encode("</think>", **args)[0]]
    with pytest.raises(SpiralError, match=r"spells '\\n</think>\\n\\n'.* as '\\n\\n\\n'"):
        chat(tokens, thought_tokens=9)


def test_without_a_limit_nothing_goes_on():
    """The engine is asked as it always was."""
    prompter = Prompter(chat(tokenizer()))
    assert (prompter.continuation, prompter.min_new_tokens) == (None, 1)
    assert Completer.of((engine := object()), prompter, 4).engine is engine


def test_a_limited_format_keeps_the_promises():
    def make(tokens):
        return chat(tokens, thought_tokens=5)

    assert check_prompt_format(make, {"chatml": tokenizer(), "byte": ByteTokenizer()}) == []
