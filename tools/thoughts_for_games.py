"""Gives recorded moves the thoughts of a model: python -m tools.thoughts_for_games GAMES MODEL OUT

A model that is shown moves alone stops thinking. One that is shown its own thoughts, each followed by a recorded move,
goes on thinking and learns how a move is given. GAMES is a file of `spiral collect`, such as that of `random`; MODEL is
a folder with a chat template; OUT is a file for `spiral sft`. A thought is what MODEL says, at temperature 1, when
`chat` asks it to reason before the move; it ends after `--tokens`, and before the first answer of MODEL's own.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from spiral.models.chat import decision
from spiral.selfplay.examples import line_of, read_examples

BATCH = 64
_ANSWER = re.compile(r"\\boxed|\\\[|\$|final (move|answer)", re.IGNORECASE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("games", type=Path)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokens", type=int, default=20, help="of a thought, at most")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model: Any = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    model.eval()
    examples = read_examples(args.games)
    asked = [decision(e.rules, e.observation, e.legal_moves, reasons=True) for e in examples]
    said: dict[str, list[str]] = {}
    for number, (prompt, count) in enumerate(Counter(asked).items(), 1):
        said[prompt] = thoughts(model, tokenizer, prompt, count, args.tokens)
        print(f"{number} of {len(set(asked))} decisions, {count} thoughts such as {said[prompt][0]!r}", flush=True)
    with args.out.open("wb") as file:
        for example, prompt in zip(examples, asked, strict=True):
            file.write(line_of(replace(example, thoughts=said[prompt].pop(), reply=None)))


def thoughts(model: Any, tokenizer: Any, prompt: str, count: int, num_tokens: int) -> list[str]:
    """`count` thoughts of up to `num_tokens` tokens on one decision."""
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )["input_ids"]
    said: list[str] = []
    with torch.inference_mode():
        while len(said) < count:
            num = min(BATCH, count - len(said))
            # The prompt is computed once and not for each thought: `generate` goes on behind what the cache holds.
            cache = model(ids[:, :-1], use_cache=True, logits_to_keep=1).past_key_values
            cache.batch_repeat_interleave(num)
            replies = model.generate(
                ids.repeat(num, 1),
                attention_mask=torch.ones(num, ids.shape[1], dtype=torch.long),
                past_key_values=cache,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                max_new_tokens=num_tokens,
            )
            said += tokenizer.batch_decode(replies[:, ids.shape[1] :], skip_special_tokens=True)
    return [_ANSWER.split(text, maxsplit=1)[0].strip() for text in said]


if __name__ == "__main__":
    main()
