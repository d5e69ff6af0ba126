"""A bench beside EleutherAI's lm-evaluation-harness: the same model, questions, prompts and limits, reply by reply.

    spiral bench model:FOLDER --tasks math500:path=FILE --limit 32 --max-new-tokens 256 --out BENCH
    python -m tools.compare_lm_eval BENCH FOLDER FILE [--batch 8] [--out FILE.json]

The harness runs its own task minerva_math500, with its own graders, chat template and generation, on the file's
questions and the bench's words around them. Both sets of replies are then graded by both. Where replies part, the
harness's logits at that token are computed again for that text alone: the two likeliest tokens, and how far they are
apart. Needs an environment with `lm_eval` (0.4.13 was used), math-verify and this repository.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

Grades = dict[str, float]
"""Grader -> its grade of one reply."""
TASK = "minerva_math500"


@dataclass(frozen=True)
class Question:
    """One question, asked by both."""

    id: str
    problem: str
    gold: str
    same_prompt: bool
    """Whether both prompts are the same ids."""
    replies: dict[str, str]
    """Of `spiral` and `harness`."""
    grades: dict[str, Grades]
    """Whose reply -> the grades of it."""
    parts: str
    """Where the replies part; empty for equal ones."""

    @property
    def same_reply(self) -> bool:
        return self.replies["spiral"] == self.replies["harness"]


def main(words: Sequence[str]) -> int:
    """Compare, print the table and write what it is made of."""
    parser = argparse.ArgumentParser(prog="python -m tools.compare_lm_eval", description=__doc__)
    parser.add_argument("bench", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--batch", type=int, default=8, help="replies that the harness computes at once")
    parser.add_argument("--graded", type=Path, help="another file, for what both graders say of gold answers")
    parser.add_argument("--golds", type=int, help="of so many questions both graders are given the gold answer; all")
    parser.add_argument("--out", type=Path, help="a file for the record, as JSON")
    given = parser.parse_args(words)
    kept = [json.loads(line) for line in (given.bench / "replies.jsonl").read_text(encoding="utf-8").splitlines()]
    found = compare({reply["task"]: reply for reply in kept}, given.model, given.questions, given.batch)
    print("\n".join(table(found)), flush=True)
    record: dict[str, Any] = {"questions": [asdict(one) for one in found]}
    _write(given.out, record)
    record["answers"] = compare_graders(given.graded or given.questions, given.golds)
    print("\n".join(answers_told(record["answers"])))
    _write(given.out, record)
    return 0


def _write(file: Path | None, record: Mapping[str, Any]) -> None:
    if file is not None:
        file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def table(found: Sequence[Question]) -> Iterator[str]:
    """What is the same and what is not, in words."""
    yield f"{len(found)} questions"
    yield f"prompts that are the same ids: {sum(one.same_prompt for one in found)}"
    yield f"replies that are the same text: {sum(one.same_reply for one in found)}"
    graders = list(found[0].grades["spiral"])
    yield f"| right by | {' | '.join(f'replies of {name}' for name in ('spiral', 'harness'))} |"
    yield "|---|---|---|"
    for grader in graders:
        rights = [sum(one.grades[name][grader] == 1 for one in found) for name in ("spiral", "harness")]
        yield f"| {grader} | {' | '.join(map(str, rights))} |"
    for one in found:
        if not one.same_reply:
            yield f"{one.id}: {one.parts}"
        for name, grades in one.grades.items():
            if len({grades["spiral"], grades["harness math_verify"]}) > 1:
                yield f"{one.id}: the graders differ on the reply of {name}: {grades}"


def answers_told(answers: Mapping[str, Any]) -> Iterator[str]:
    """The graders on answers that no model wrote."""
    for kind, row in answers.items():
        yield f"{row['num']} {kind}: right by {row['right']}"
        for id, gold, answer, grades in row["differing"]:
            yield f"  {id}: {answer!r} for {gold!r}: {grades}"


def compare(kept: Mapping[str, Mapping[str, Any]], folder: Path, questions: Path, batch: int) -> list[Question]:
    """`kept`: the bench's replies by question."""
    from lm_eval.models.huggingface import HFLM
    from spiral_tasks.known_sets import KnownBenchmark

    from spiral.api.games import QUESTION
    from spiral.models.chat import chat

    tasks = KnownBenchmark("math500")(str(questions), pinned=False)
    # The harness takes the first so many; of a bench that was stopped a later reply may have come first.
    asked = list(itertools.takewhile(lambda task: task.id in kept, tasks))
    lm = HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=batch)
    question = partial(chat(lm.tokenizer, template=True).encode, QUESTION)
    limit = kept[asked[0].id]["limit"]
    rows = _harness(lm, questions, len(asked), closing(lm.tokenizer, question), limit)
    grade = _graders()
    found = []
    for task, row in zip(asked, rows, strict=True):
        (prompt, _), reply, said = row["arguments"][0], row["resps"][0][0], kept[task.id]["text"]
        ids = lm.tok_encode(prompt)
        graded = {name: grade(task, row["doc"], text) for name, text in (("spiral", said), ("harness", reply))}
        # What it counted itself, not what is counted here again.
        graded["harness"] |= {f"harness {name}": row[name] for name in ("exact_match", "math_verify")}
        parts = "" if said == reply else where(lm, ids, said, reply)
        same_prompt = ids == question(task.prompt)
        found.append(
            Question(task.id, task.prompt, task.gold, same_prompt, {"spiral": said, "harness": reply}, graded, parts)
        )
    return found


def closing(tokenizer: Any, question: Callable[[str], Sequence[int]]) -> str:
    """What a prompt format says after a question, without the model's chat template."""
    mark = "QUESTION"
    whole = str(tokenizer.decode(list(question(mark)), skip_special_tokens=False))
    chat = [{"role": "user", "content": mark}]
    before, _, after = str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)).partition(
        mark
    )
    if not (whole.startswith(before + mark) and whole.endswith(after)):
        raise SystemExit("the bench's prompt is no question and words behind it in the model's chat template")
    return whole[len(before + mark) : len(whole) - len(after)]


def where(lm: Any, prompt: Sequence[int], said: str, reply: str) -> str:
    """At which token of its reply the harness parts from `said`, and how near to each other the likeliest two are."""
    import torch

    ids = lm.tok_encode(reply, add_special_tokens=False)
    same = next((n for n in range(len(ids)) if not said.startswith(lm.tok_decode(ids[: n + 1]))), len(ids))
    with torch.no_grad():
        logits = lm.model(torch.tensor([[*prompt, *ids[:same]]])).logits[0, -1]
    best = logits.float().topk(2)
    one, two = (lm.tok_decode([int(id)], skip_special_tokens=False) for id in best.indices)
    return f"part at token {same}, where {one!r} is {float(best.values[0] - best.values[1]):.2g} nats above {two!r}"


def compare_graders(questions: Path, num: int | None) -> dict[str, Any]:
    """Both graders on the gold answers of `num` questions, of all without it, in a box, and on the gold answer of the
    next question, which is wrong."""
    from spiral_tasks.known_sets import KnownBenchmark

    rows = [json.loads(line) for line in questions.read_text(encoding="utf-8").splitlines()][:num]
    grade, tasks = _graders(), KnownBenchmark("math500")(str(questions), pinned=False)[:num]
    nexts = [(task, row, other.gold) for task, row, other in zip(tasks, rows, [*tasks[1:], tasks[0]], strict=True)]
    kinds = {
        "gold answers": list(zip(tasks, rows, [task.gold for task in tasks], strict=True)),
        "gold answers of another question": [one for one in nexts if one[0].gold != one[2]],
    }
    found: dict[str, Any] = {}
    for kind, answers in kinds.items():
        graded = [grade(task, row, f"The answer is $\\boxed{{{answer}}}$.") for task, row, answer in answers]
        found[kind] = {
            "num": len(answers),
            "right": {name: sum(one[name] == 1 for one in graded) for name in ("spiral", "harness math_verify")},
            "differing": [
                (task.id, task.gold, answer, one)
                for (task, _, answer), one in zip(answers, graded, strict=True)
                if one["spiral"] != one["harness math_verify"]
            ],
        }
    return found


def _graders() -> Callable[[Any, Mapping[str, Any], str], Grades]:
    """Of a task, its row and a reply: the grade of a bench, and those of the harness's task."""
    from lm_eval.tasks._yaml_loader import load_yaml

    results = load_yaml(_yaml())["process_results"]

    def graded(task: Any, row: Mapping[str, Any], reply: str) -> Grades:
        theirs = results(dict(row), [reply])
        return {"spiral": task.grade(reply), **{f"harness {name}": float(value) for name, value in theirs.items()}}

    return graded


def _yaml() -> Path:
    import lm_eval

    return Path(lm_eval.__file__).parent / "tasks" / "minerva_math" / f"{TASK}.yaml"


def _harness(lm: Any, questions: Path, num: int, words: str, limit: int) -> list[dict[str, Any]]:
    """The harness's samples of its own task on a file's first `num` questions; its words around a question and its
    examples, which are for base models, are replaced by `words` behind it."""
    import lm_eval
    import yaml
    from lm_eval.tasks import TaskManager

    overlay = {
        "include": str(_yaml()),
        "task": "same_questions",
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"test": str(questions.resolve())}},
        "num_fewshot": 0,
        "doc_to_text": "{{problem}}" + words,
        "generation_kwargs": {"until": [], "do_sample": False, "temperature": 0.0, "max_gen_toks": limit},
    }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "same_questions.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
        ran = lm_eval.simple_evaluate(
            lm,
            tasks=["same_questions"],
            task_manager=TaskManager(include_path=folder, include_defaults=False),
            limit=num,
            apply_chat_template=True,
            log_samples=True,
            bootstrap_iters=0,
        )
    return sorted(ran["samples"]["same_questions"], key=lambda row: int(row["doc_id"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
