"""What graded replies come to: accuracy with its interval, pass@k, differences between models, and the suite's mean."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from spiral.evaluation.benchmarks.benchmark import Benchmark
from spiral.evaluation.benchmarks.replies import Reply
from spiral.seeds import derive
from spiral.theory.accuracy import accuracy, mean_of_means, pass_at_k
from spiral.theory.paired import paired

Json = dict[str, Any]

MANY_UNREADABLE = 0.2
"""Share of replies without a readable answer above which a note warns: a format that is not understood reads as a model
that knows nothing."""


@dataclass(frozen=True)
class Scores:
    """The replies of one model to one benchmark, by question."""

    replies: Sequence[Reply]
    by_question: Mapping[str, Sequence[Reply]]
    """Id -> those with a grade; questions without any are left out."""

    @classmethod
    def of(cls, replies: Sequence[Reply]) -> Scores:
        found: dict[str, list[Reply]] = defaultdict(list)
        for reply in replies:
            if reply.grade is not None:
                found[reply.task].append(reply)
        return cls(replies, found)

    def shares(self) -> dict[str, float]:
        """Question -> the share of its replies that were right."""
        return {name: sum(r.right for r in rows) / len(rows) for name, rows in self.by_question.items()}

    def pass_at(self, k: int) -> float | None:
        """The mean over questions of pass@k; None where one has fewer graded replies."""
        counts = [(len(rows), sum(r.right for r in rows)) for rows in self.by_question.values()]
        if not counts or min(num for num, _ in counts) < k:
            return None
        return sum(pass_at_k(num, right, k) for num, right in counts) / len(counts)


def row(model: str, benchmark: Benchmark, scores: Scores) -> Json:
    """What one model got in one benchmark, as JSON values."""
    replies, samples, shares = scores.replies, benchmark.asking.samples, scores.shares()
    mean, low, high = accuracy(list(shares.values()), once=samples == 1)
    answered = [reply for reply in replies if reply.finish != "no room"]
    graded = [reply.grade for reply in replies if reply.grade is not None]
    return {
        "model": model,
        "benchmark": benchmark.label,
        "questions": len(benchmark.tasks),
        "replies": len(replies),
        "max_new_tokens": max((reply.limit for reply in replies), default=0),
        "accuracy": mean,
        "low": low,
        "high": high,
        "pass_at": {str(k): scores.pass_at(k) for k in _counts(samples)},
        "mean_grade": _mean(graded),
        "cut": _mean([reply.finish == "length" for reply in replies]),
        "unreadable": _mean([_unreadable(reply) for reply in replies]),
        "no_room": sum(reply.finish == "no room" for reply in replies),
        "ungraded": sum(reply.grade is None for reply in replies),
        "mean_reply_tokens": _mean([reply.reply_tokens for reply in answered]),
        "prompt_tokens": sum(reply.prompt_tokens for reply in answered),
        "reply_tokens": sum(reply.reply_tokens for reply in replies),
    }


def difference(first: Scores, model: str, other: Scores, benchmark: Benchmark, seed: int) -> Json | None:
    """`model` against the first one on the questions that both have a grade for; None without any."""
    of_first, of_other = first.shares(), other.shares()
    common = [task.id for task in benchmark.tasks if task.id in of_first and task.id in of_other]
    if not common:
        return None
    once = benchmark.asking.samples == 1
    seed = derive(seed, "bench", "bootstrap", benchmark.label)
    found = paired([of_first[name] for name in common], [of_other[name] for name in common], once, seed)
    return {"model": model, "benchmark": benchmark.label, "questions": len(common), **asdict(found)}


def means(models: Sequence[str], benchmarks: Sequence[Benchmark], scores: Mapping[tuple[str, str], Scores]) -> Json:
    """Of a suite: each model's unweighted mean over the benchmarks, and the differences to the first one's. Empty for
    one benchmark, and where one has no graded reply."""
    shares = {key: found.shares() for key, found in scores.items()}
    if len(benchmarks) < 2 or not all(shares.values()):
        return {"models": [], "differences": []}
    rows, differences = [], []
    for model in models:
        mean, low, high = mean_of_means([list(shares[model, b.label].values()) for b in benchmarks])
        tokens = sum(reply.reply_tokens for b in benchmarks for reply in scores[model, b.label].replies)
        rows.append({"model": model, "accuracy": mean, "low": low, "high": high, "reply_tokens": tokens})
        if model != models[0]:
            common = [_beyond(shares[models[0], b.label], shares[model, b.label]) for b in benchmarks]
            if all(common):
                mean, low, high = mean_of_means(common, -1.0, 1.0)
                differences.append({"model": model, "mean": mean, "low": low, "high": high})
    return {"models": rows, "differences": differences}


def notes(rows: Sequence[Json], replies: Sequence[Reply]) -> list[str]:
    """What a reader of the table must know, a sentence each."""
    found = _unlike_limits(rows)
    for model, benchmark, figures in ((r["model"], r["benchmark"], r) for r in rows):
        mine = [reply for reply in replies if (reply.model, reply.benchmark) == (model, benchmark)]
        if figures["no_room"]:
            ids = list(dict.fromkeys(reply.task for reply in mine if reply.finish == "no room"))
            why = next(reply.problem for reply in mine if reply.finish == "no room")
            found.append(
                f"{benchmark}, {model}: {len(ids)} of {figures['questions']} questions were not asked and count as "
                f"wrong, since the model's context is too short ({_listed(ids)}; the first: {why}); take a longer "
                "context, or a smaller --max-new-tokens."
            )
        if failed := [reply for reply in mine if reply.grade is None]:
            found.append(
                f"{benchmark}, {model}: the grader failed on {len(failed)} replies, which count as neither right nor "
                f"wrong ({_listed([reply.task for reply in failed])}; the first: {failed[0].problem})."
            )
        if figures["unreadable"] > MANY_UNREADABLE:
            unread = [reply for reply in mine if _unreadable(reply)]
            cut = sum(reply.finish == "length" for reply in unread) / len(unread)
            remedy = "a larger --max-new-tokens" if cut > 0.5 else "another --prompt"
            end = " ".join(unread[0].text[-60:].split()) or "nothing"
            found.append(
                f"{benchmark}, {model}: {figures['unreadable']:.0%} of the replies hold no answer in the form that was "
                f"asked for, {cut:.0%} of them since they were cut; {unread[0].task} ends in {end!r}; {remedy} may "
                "help."
            )
    return found


def _unlike_limits(rows: Sequence[Json]) -> list[str]:
    """A sentence for each benchmark in which models had replies of unlike lengths, since their contexts differ."""
    limits: dict[str, dict[str, int]] = defaultdict(dict)
    for one in rows:
        limits[one["benchmark"]][one["model"]] = one["max_new_tokens"]
    return [
        f"{benchmark}: replies may have {', '.join(f'{limit} tokens by {model}' for model, limit in of.items())}, half "
        "of a model's context at most; --max-new-tokens gives all the same."
        for benchmark, of in limits.items()
        if len(set(of.values())) > 1
    ]


def _counts(samples: int) -> list[int]:
    """1, 2, 4 and so on, and the number of samples."""
    return sorted({*(2**n for n in range(samples.bit_length())), samples})


def _unreadable(reply: Reply) -> bool:
    return not reply.readable and reply.finish != "no room"


def _beyond(first: Mapping[str, float], other: Mapping[str, float]) -> list[float]:
    return [other[name] - share for name, share in first.items() if name in other]


def _listed(ids: Sequence[str], most: int = 5) -> str:
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return ", ".join(ids[:most]) + more


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
