"""The four prompts of SPIRAL's experiments by what they ask for, in words of our own.

Source: SPIRAL (arXiv 2506.24119). They are written out, whatever chat template a tokenizer has, since base models are
trained with them too. Each decision stands by itself, and the move is the inside of the last box.
"""

from __future__ import annotations

from typing import Any

from spiral.models.chat import ChatFormat, Style, Wording
from spiral.models.frames import Frame, plain_frame

_GAME = "You play a zero-sum game for two players. Choose valid moves, and win."
_BOX = r"Reason step by step, and put your final answer in \boxed{}."


def qwen3(tokenizer: Any, rules: bool = True, moves: bool = False) -> ChatFormat:
    """Of Qwen3, base and chat: ChatML; the game, the observation, then reasoning and a box are asked for."""
    end = "<|im_end|>"
    frame = Frame("<|im_start|>user\n", f"{end}\n<|im_start|>assistant\n", end=end)
    wording = Wording(_GAME, "Observation: ", _BOX, "\n")
    return _made(tokenizer, frame, wording, Wording("", "Question: ", _BOX, "\n"), rules, moves)


def octothinker(tokenizer: Any, rules: bool = True, moves: bool = False) -> ChatFormat:
    """Of OctoThinker base models: a talk in plain text, in which the assistant thinks first and boxes its answer."""
    return _made(tokenizer, plain_frame(tokenizer, _TALK), _TALK_WORDING, _TALK_QUESTION, rules, moves)


def r1_distill(tokenizer: Any, rules: bool = True, moves: bool = False) -> ChatFormat:
    """Of DeepSeek-R1-Distill: the same talk, with the assistant's thought opened by the prompt."""
    return _made(tokenizer, plain_frame(tokenizer, _TALK, " <think>\n"), _TALK_WORDING, _TALK_QUESTION, rules, moves)


def llama_instruct(tokenizer: Any, rules: bool = True, moves: bool = False) -> ChatFormat:
    """Of Llama-3-Instruct: its headers; the game is the system text, the observation and the box the user's."""
    end = "<|eot_id|>"
    start = tokenizer.bos_token if getattr(tokenizer, "bos_token", None) else ""
    frame = Frame(f"{start}{_header('system')}{_GAME}{end}{_header('user')}", f"{end}{_header('assistant')}", end=end)
    wording = Wording("", "The observation now: ", _BOX, "\n")
    # The system text speaks of games here too, since it stands in the frame.
    return _made(tokenizer, frame, wording, Wording("", "Question: ", _BOX, "\n"), rules, moves)


_TALK = (
    "User and Assistant talk. The user asks, and the assistant first thinks the matter through, then gives the answer."
)
_TALK_WORDING = Wording(rf"Give your answer in \boxed{{}}. {_GAME}", "Observation: ", "", "\n")
_TALK_QUESTION = Wording(r"Give your answer in \boxed{}.", "Question: ", "", "\n")


def _header(role: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n"


def _made(tokenizer: Any, frame: Frame, wording: Wording, question: Wording, rules: bool, moves: bool) -> ChatFormat:
    return ChatFormat(tokenizer, frame, Style(wording, question, rules=rules, moves=moves))
