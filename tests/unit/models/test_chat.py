"""Chat prompts: what a player is told, how its answer is read, and each trap of chat templates and tokenizers.

Each trap has a tokenizer here that has it. The text of the prompts is compared through `decode`, the ids by themselves.
"""

import itertools
import os

import pytest
from spiral_models.byte.tokenizer import ByteTokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from spiral.api.errors import SpiralError
from spiral.api.games import QUESTION
from spiral.api.records import Turn
from spiral.learning.packing import pack
from spiral.models.chat import chat, decision
from spiral.models.paper_prompts import llama_instruct, octothinker, qwen3, r1_distill
from spiral.models.prompt_cache import Prompter
from spiral.testing import make_trajectory, merging_tokenizer
from spiral.testing.prompts import CHATML, check_prompt_format

MODEL_FOLDER = os.environ.get("SPIRAL_TEST_MODEL", "")
NAMES = ["<|im_start|>", "<|im_end|>"]
THINKING = CHATML.replace(
    "assistant\n{% endif",
    "assistant\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif",
)


def chatml(template=CHATML, added=("<think>", "</think>")):
    tokenizer = merging_tokenizer(template, NAMES, added)
    tokenizer.eos_token = "<|im_end|>"
    return tokenizer


def shown(tokenizer, *decision, **args):
    return tokenizer.decode(chat(tokenizer, **args).encode(*decision), skip_special_tokens=False)


def turn(prompt, reply, observation, moves=None, left_out=0):
    return Turn(
        observation, tuple(prompt), tuple(reply), (-1.0,) * len(reply), "x", True, "stop", 0,
        legal_moves=moves, left_out=left_out,
    )  # fmt: skip


# What is told


def test_a_prompt_by_hand():
    """The template around rules, observation, moves and how to answer."""
    assert shown(chatml(), "Be nice.", "p0 K", ["bet", "check"], moves=True, system="You play.") == (
        "<|im_start|>system\nYou play.<|im_end|>\n<|im_start|>user\nBe nice.\n\np0 K\n\nLegal moves, one a line:\nbet\n"
        "check\n\nReason step by step, then give your final move within \\boxed{}, exactly as the game writes moves."
        "<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            chat,
            "<|im_start|>user\n1 + 1?\n\nReason step by step, then give your final answer within \\boxed{}."
            "<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            qwen3,
            "<|im_start|>user\nQuestion: 1 + 1?\nReason step by step, and put your final answer in \\boxed{}."
            "<|im_end|>\n<|im_start|>assistant\n",
        ),
    ],
)
def test_a_question_is_asked_without_a_word_of_games(make, told):
    """Whose rules say that it is one: it has words of its own, as in the paper."""
    tokenizer = chatml()
    assert tokenizer.decode(make(tokenizer).encode(QUESTION, "1 + 1?"), skip_special_tokens=False) == told
    silent = make(tokenizer, rules=False)
    assert silent.encode(QUESTION, "1 + 1?") == make(tokenizer).encode(QUESTION, "1 + 1?")


def test_a_file_of_examples_asks_a_question_as_a_benchmark_does():
    """`decision` is what its `prompt` says."""
    told = decision(QUESTION, "1 + 1?", None, reasons=True)
    assert told == "1 + 1?\n\nReason step by step, then give your final answer within \\boxed{}."


def test_all_that_is_said_to_a_question_is_graded():
    """The end is left out, special tokens inside are not, and a thought that the prompt opened begins with its mark, so
    that one without an end is known as a thought."""
    tokenizer = chatml()
    said = tokenizer.encode("<think>maybe 3</think>\\boxed{2}")
    assert chat(tokenizer).said([*said, tokenizer.eos_token_id]) == "<think>maybe 3</think>\\boxed{2}"
    assert r1_distill(tokenizer).said(tokenizer.encode("maybe 3")) == "<think>maybe 3"
    assert Prompter(chat(tokenizer)).said(said, decode=None) == "<think>maybe 3</think>\\boxed{2}"


def test_rules_and_moves_are_told_if_asked():
    assert "Be nice" not in shown(chatml(), "Be nice.", "p0 K", rules=False)
    assert "Legal" not in shown(chatml(), "", "p0 K", None, moves=True)
    assert not chat(chatml()).lists_moves
    assert chat(chatml(), moves=True).lists_moves


def test_a_prompt_does_not_depend_on_who_has_the_moves_at_hand():
    """Training has them for the anchor, exact figures for their table: a format that lists none shows none to either."""
    silent, telling = Prompter(chat(chatml())), Prompter(chat(chatml(), moves=True))
    assert silent.encode("r", "p0 K", ["bet", "check"]) == silent.encode("r", "p0 K")
    assert telling.encode("r", "p0 K", ["bet", "check"]) != telling.encode("r", "p0 K")


@pytest.mark.parametrize(
    ("answer", "wrote", "told"),
    [
        ("boxed", "hm \\boxed{bet}", "within \\boxed{}"),
        ("brackets", "[check], no: [bet]", "square brackets"),
        ("tags", "so <answer>bet</answer>", "<answer>"),
        ("plain", "bet", "your move alone"),
    ],
)
def test_each_form_of_answer_is_asked_for_and_read(answer, wrote, told):
    tokenizer = chatml()
    assert told in shown(tokenizer, "", "p0 K", answer=answer)
    made = chat(tokenizer, answer=answer)
    assert made.read([*tokenizer.encode(wrote, add_special_tokens=False), *made.stop_ids]) == "bet"
    assert made.read(made.stop_ids) is None


@pytest.mark.parametrize("answer", ["boxed", "brackets", "tags", "plain"])
def test_without_reasoning_a_move_has_one_reply(answer):
    """So that its probability can be scored, and play takes that reply alone; a move that the form cannot hold has
    none."""
    tokenizer = chatml()
    prompter = Prompter(chat(tokenizer, answer=answer, reason=False))
    reply = prompter.reply("bet")
    assert prompter.read(reply) == "bet"
    assert prompter.is_scored(["bet", "[0 1]"])
    wordy = (*tokenizer.encode("I say ", add_special_tokens=False), *reply)
    assert prompter.read(wordy) != "bet"
    assert (prompter.reply(" bet") is None) == (answer != "plain")
    if answer != "plain":
        assert chat(tokenizer, answer=answer).reply("bet") is None


@pytest.mark.parametrize("answer", ["boxed", "brackets", "tags"])
@pytest.mark.parametrize("thoughts", ["", "Not <|im_end|>, </think> or \\boxed{check}."])
def test_a_reply_can_be_written_with_thoughts_to_learn_from(answer, thoughts):
    """Thoughts as text, whatever they hold, then the answer and the end of the turn, which stands there alone."""
    tokenizer = chatml()
    made = chat(tokenizer, answer=answer)
    reply = made.write("bet", thoughts)
    assert made.read(reply) == "bet"
    assert [i for i in reply if i in made.stop_ids] == [reply[-1]]
    assert tokenizer.decode(reply).startswith(thoughts)
    assert Prompter(made).write("bet", thoughts) == tuple(reply)
    exact = Prompter(chat(tokenizer, answer=answer, reason=False))
    assert exact.write("bet", thoughts) == exact.reply("bet")


def test_thoughts_stand_between_the_marks_of_a_model_that_thinks():
    """Marks that the tokenizer knows are single ids; a prompt that opens the thought is not opened again."""
    tokenizer = chatml(THINKING)
    start, end = (tokenizer.convert_tokens_to_ids(mark) for mark in ("<think>", "</think>"))
    made = chat(tokenizer)
    reply = made.write("bet", "a bluff")
    assert (reply[0], reply.count(start), reply.count(end)) == (start, 1, 1)
    assert made.read(reply) == "bet"
    assert start not in made.write("bet", "")
    opened = r1_distill(tokenizer)
    reply = opened.write("bet", "a bluff")
    assert (reply.count(start), reply.count(end)) == (0, 1)
    assert opened.read(reply) == "bet"
    assert opened.read(opened.write("bet", "")) == "bet"
    assert chat(tokenizer, thinking=False).write("bet", "a bluff").count(start) == 0


def test_a_special_token_inside_an_answer_does_not_vanish():
    """`be<|im_start|>t` is not `bet`: what is scored as legal is what was sampled."""
    tokenizer = chatml()
    made = chat(tokenizer)
    assert made.read(tokenizer.encode("\\boxed{be<|im_start|>t}<|im_end|>", add_special_tokens=False)) != "bet"


@pytest.mark.parametrize(
    ("args", "found"),
    [
        ({"when_full": "void"}, "set history=transcript"),
        ({"keep_thoughts": False}, "set history=transcript"),
        ({"answer": "plain", "reason": True}, "cannot tell reasoning from a plain answer"),
        ({"thinking": True}, "no switch for it"),
        ({"thinking": False}, "no switch for it"),
        ({"thinking": True, "template": False}, "without a chat template"),
        ({"date": "today"}, "write it as 2025-01-31"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(args, found):
    with pytest.raises(SpiralError, match=found):
        chat(chatml(), **args)


@pytest.mark.parametrize("make", [qwen3, octothinker, r1_distill, llama_instruct])
def test_the_papers_prompts_ask_for_reasoning_and_a_box(make):
    """Whatever the tokenizer's template; they keep the promises of prompt formats."""
    tokenizer = chatml("{{ raise_exception('not asked') }}")
    text = tokenizer.decode(make(tokenizer).encode("Be nice.", "p0 K", ["bet"]), skip_special_tokens=False)
    for part in ("zero-sum", "\\boxed{}", "Be nice.\n\np0 K"):
        assert part in text
    assert check_prompt_format(make, {"chatml": tokenizer, "byte": ByteTokenizer()}) == []


def test_the_papers_frames():
    """ChatML for Qwen3, a talk for OctoThinker and R1, whose thought is open, and headers for Llama."""
    tokenizer = chatml()
    ends = {make.__name__: tokenizer.decode(make(tokenizer).encode("", "o")) for make in (qwen3, octothinker)}
    assert ends["qwen3"].endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert ends["octothinker"].endswith("\nAssistant:")
    made = r1_distill(tokenizer)
    assert tokenizer.decode(made.encode("", "o")).endswith("\nAssistant: <think>\n")
    assert made.read(tokenizer.encode("\\boxed{a}", add_special_tokens=False)) is None
    assert made.read(tokenizer.encode("\\boxed{a}</think>\\boxed{b}", add_special_tokens=False)) == "b"
    assert "<|start_header_id|>assistant<|end_header_id|>" in tokenizer.decode(
        llama_instruct(tokenizer).encode("", "o")
    )


# Traps of tokenizers and templates


def test_the_ids_are_those_of_the_template():
    """For text without special tokens: what the pieces make is what the model was trained on."""
    tokenizer = chatml()
    ids = chat(tokenizer, rules=False).encode("", "wood")
    text = tokenizer.decode(ids, skip_special_tokens=False)
    said = text.split("user\n")[1].split("<|im_end|>")[0]
    message = [{"role": "user", "content": said}]
    assert ids == tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=True)["input_ids"]


@pytest.mark.parametrize("history", ["fresh", "transcript"])
@pytest.mark.parametrize("answer", ["boxed", "plain"])
def test_the_promises_of_prompt_formats_hold(history, answer):
    """Text of players never makes a special token, nor `<think>`, which is none and means as much."""

    def make(tokenizer):
        return chat(tokenizer, history=history, answer=answer)

    bare = merging_tokenizer()
    assert check_prompt_format(make, {"chatml": chatml(), "none": bare, "byte": ByteTokenizer()}) == []


def test_a_pad_that_equals_the_end_does_not_erase_it():
    """Masks are by position: the end that was sampled is trained, in rows of different lengths too."""
    tokenizer = chatml()
    tokenizer.pad_token = tokenizer.eos_token
    made = chat(tokenizer, answer="plain")
    turns = [turn(made.encode("", o), made.reply(m), o) for o, m in (("a", "bet"), ("b b b b", "I offer 2 wood"))]
    trajectories = [make_trajectory(num_turns=0) for _ in turns]
    trajectories = [type(t)(t.game, 0, t.policy, 1.0, (one,), 0) for t, one in zip(trajectories, turns, strict=True)]
    batch = pack(trajectories, [[1.0], [1.0]], 10_000)
    targets = [i for micro in batch.micro_batches for i in micro.targets.tolist()]
    assert targets.count(tokenizer.eos_token_id) == 2
    assert len(targets) == sum(len(one.reply) for one in turns)


def test_any_of_several_ends_ends_a_reply():
    """The tokenizer's and the template's differ in base models, and a generation config may name more."""
    tokenizer = chatml()
    tokenizer.eos_token = "</s>"
    other = tokenizer.convert_tokens_to_ids("<s>")
    made = chat(tokenizer)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    prompter = Prompter(made, (end, other))
    assert prompter.stop_ids == (end, tokenizer.eos_token_id, other)
    body = tokenizer.encode("\\boxed{bet}", add_special_tokens=False)
    assert [prompter.read((*body, stop)) for stop in prompter.stop_ids] == ["bet"] * 3


def test_without_a_chat_template_there_is_plain_text():
    """One start token where the tokenizer has one; the same with `template=false`."""
    tokenizer = merging_tokenizer()
    assert shown(tokenizer, "", "p0 K", answer="plain") == (
        "<s>User: p0 K\n\nAnswer with your move alone, exactly as the game writes moves.\nAssistant:"
    )
    assert shown(chatml(), "", "o", template=False).startswith("<s>User: o")


DEMANDS = "{% if messages[0]['role'] != 'system' %}{{ raise_exception('System text needed') }}{% endif %}" + CHATML
FORBIDS = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system text') }}{% endif %}" + CHATML
IGNORES = CHATML.replace("%}<|im_start|>{{ m", "%}{% if m['role'] != 'system' %}<|im_start|>{{ m", 1).replace(
    "<|im_end|>\n{% endfor", "<|im_end|>\n{% endif %}{% endfor"
)


def test_a_template_that_demands_a_system_text_gets_one():
    assert "system\nYou are a player of games.<|im_end|>" in shown(chatml(DEMANDS), "", "o")
    assert "system\nBe bold.<|im_end|>" in shown(chatml(DEMANDS), "", "o", system="Be bold.")


@pytest.mark.parametrize("template", [FORBIDS, IGNORES])
@pytest.mark.parametrize("history", ["fresh", "transcript"])
def test_a_template_that_takes_no_system_text_has_it_before_the_first_text(template, history):
    """One that raises, and one that leaves it out without a word."""
    text = shown(chatml(template), "", "o", system="Be bold.", history=history)
    assert text.startswith("<|im_start|>user\nBe bold.\n\no\n\n")


def test_a_start_token_that_template_and_tokenizer_write_stands_once():
    tokenizer = chatml("{{ bos_token }}" + CHATML)
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    assert tokenizer.encode("a")[0] == tokenizer.bos_token_id
    assert chat(tokenizer).encode("", "o").count(tokenizer.bos_token_id) == 1


def test_todays_date_is_pinned():
    """A template that asks the clock gets the date of the config: no prompt changes from one day to the next."""
    tokenizer = chatml("{{ strftime_now('%d %b %Y') }} " + CHATML)
    assert shown(tokenizer, "", "o").startswith("01 Jan 2025 <|im_start|>")
    assert shown(tokenizer, "", "o", date="2026-03-04").startswith("04 Mar 2026 ")


def test_a_template_that_strips_is_followed():
    """White space around a text that its own rendering would not hold is not put there."""
    tokenizer = chatml(CHATML.replace("m['content']", "m['content'] | trim"))
    assert "user\no\n\nReason" in shown(tokenizer, "", "  o")
    assert "user\n  o\n\nReason" in shown(chatml(), "", "  o")


@pytest.mark.parametrize("observation", ["user", "move: ", "", "\x00said 0\x00", "a\n"])
def test_a_text_stands_as_it_is_whatever_it_says(observation):
    """Nothing is searched for in what is said: a word of the template, a trailing space, nothing, a mark."""
    ids = chat(chatml(), answer="plain", history="transcript").encode("", observation)
    text = chatml().decode(ids, skip_special_tokens=False)
    parts = [observation] * bool(observation) + ["Answer with your move alone, exactly as the game writes moves."]
    said = "\n\n".join(parts)
    assert text == f"<|im_start|>user\n{said}<|im_end|>\n<|im_start|>assistant\n"


def test_thinking_is_turned_on_and_off_where_the_template_can():
    """Off: the template closes the thought. A policy that may think has no one reply for a move, and what it says
    inside a thought is no move."""
    tokenizer = chatml(THINKING)
    assert shown(tokenizer, "", "o", thinking=False).endswith("assistant\n<think>\n\n</think>\n\n")
    assert shown(tokenizer, "", "o", thinking=True).endswith("assistant\n")
    off, on = (chat(tokenizer, thinking=switch, answer="plain") for switch in (False, True))
    assert off.reply("bet") is not None
    assert on.reply("bet") is None
    assert on.read(tokenizer.encode("<think>\ncheck</think>\n\nbet", add_special_tokens=False)) == "bet"
    assert on.read(tokenizer.encode("<think>\ncheck", add_special_tokens=False)) is None


def test_a_prefix_space_is_named():
    """A tokenizer that puts a space before all that it is given cannot spell a prompt from pieces."""
    inner = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "▁": 2} | {chr(i): i for i in range(3, 127)}, "<s>"))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="always"), pre_tokenizers.Split("", "isolated")]
    )
    inner.decoder = decoders.Metaspace(prepend_scheme="never")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")
    with pytest.raises(SpiralError, match="spells the pieces of a prompt as"):
        chat(tokenizer)


# Transcripts


def told(tokenizer, *, replies, observations, **args):
    """The prompts of a game as a player saw it, and its turns."""
    made, turns = chat(tokenizer, history="transcript", **args), []
    for number, observation in enumerate(observations):
        prompt = made.encode("R", observation, None, turns)
        reply = tokenizer.encode(replies[number], add_special_tokens=False)
        turns.append(turn(prompt, reply, observation))
    return turns


def test_a_transcript_by_hand():
    """Rules and how to answer once; of an observation that goes on, the new part; each prompt begins with the last
    prompt and the ids of its reply."""
    tokenizer = chatml()
    turns = told(tokenizer, replies=["b<|im_end|>"] * 3, observations=["o", "o, b", "other"], answer="plain")
    for a, b in itertools.pairwise(turns):
        assert b.prompt[: len(a.prompt + a.reply)] == a.prompt + a.reply
    assert tokenizer.decode(turns[-1].prompt, skip_special_tokens=False) == (
        "<|im_start|>user\nR\n\no\n\nAnswer with your move alone, exactly as the game writes moves.<|im_end|>\n"
        "<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\n, b<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
        "<|im_start|>user\nother<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_decision_that_is_asked_again_is_told_again():
    """A retry has the same observation, of which nothing is new."""
    turns = told(chatml(), replies=["b<|im_end|>"] * 2, observations=["o", "o"], answer="plain")
    assert chatml().decode(turns[1].prompt).endswith("user\no<|im_end|>\n<|im_start|>assistant\n")


def test_a_reply_that_was_cut_gets_the_end_that_it_lacks():
    """In the next prompt, as text of the template: it was not sampled and is not trained."""
    turns = told(chatml(), replies=["be", ""], observations=["o", "p"], answer="plain")
    assert "assistant\nbe<|im_end|>\n<|im_start|>user\np" in chatml().decode(turns[1].prompt)


def test_thoughts_stay_or_leave_the_history():
    """Kept, every prompt begins with the last reply; left out, as many templates do it, the answer's own ids stay."""
    tokenizer, said = (
        chatml(THINKING),
        {"replies": ["<think>hm</think>\n\nb<|im_end|>", ""], "observations": ["o", "p"]},
    )
    kept = told(tokenizer, **said)
    assert "assistant\n<think>hm</think>\n\nb<|im_end|>" in tokenizer.decode(kept[1].prompt)
    left = told(tokenizer, **said, keep_thoughts=False)
    text = tokenizer.decode(left[1].prompt)
    assert "<think>" not in text
    assert "assistant\n\n\nb<|im_end|>" in text


@pytest.mark.parametrize(
    ("template", "found"),
    [
        (CHATML.replace("m['role'] }}", "m['role'] }}{{ loop.length if loop.first else '' }}"), "once there is a second"),
        (CHATML.replace("{% if add_generation_prompt %}", "{% if false %}"), "shows a past one behind"),
        (CHATML.replace("m['content']", "m['content'] | upper"), "as it stands"),
        (CHATML.replace("m['content']", "m['content'] + m['content']"), "as it stands"),
        (CHATML.replace("{% for m", "{% if messages | length > 1 %}{{ raise_exception('one only') }}{% endif %}{% for m"), "of several turns .TemplateError: one only"),
        (CHATML.replace("{{ m['content'] }}", "{{ m['content'] }}{% if loop.last %}!{% endif %}"), "shows a past one behind"),
        ("{{ nothing.at.all }}", "renders no conversation"),
    ],
)  # fmt: skip
def test_what_breaks_a_transcript_is_named(template, found):
    """Before anything is played."""
    with pytest.raises(SpiralError, match=found):
        chat(chatml(template), history="transcript")


def test_a_thought_that_the_template_closes_for_the_next_reply_alone_may_stay():
    """As with thinking turned off: the closed thought stays before each reply, since its prompt was sampled behind it."""
    turns = told(chatml(THINKING), replies=["b<|im_end|>"] * 2, observations=["o", "p"], thinking=False)
    a, b = turns
    assert b.prompt[: len(a.prompt + a.reply)] == a.prompt + a.reply
    assert chatml(THINKING).decode(b.prompt).count("<think>") == 2


@pytest.mark.skipif(not MODEL_FOLDER, reason="SPIRAL_TEST_MODEL names no model folder")
@pytest.mark.parametrize("history", ["fresh", "transcript"])
def test_a_real_chat_tokenizer_keeps_the_promises(history):
    """Its own default system text, its own end, and ids as its template makes them."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL_FOLDER, local_files_only=True)
    made = chat(tokenizer, history=history, answer="plain")
    assert check_prompt_format(lambda t: chat(t, history=history, answer="plain"), {"real": tokenizer}) == []
    message = [
        {"role": "user", "content": tokenizer.decode(made.encode("", "o")).split("user\n")[1].split("<|im_end|>")[0]}
    ]
    whole = tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert made.encode("", "o") == whole
