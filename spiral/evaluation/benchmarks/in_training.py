"""Benchmarks that are asked in training: the questions of `evaluate.tasks`, on the run's own engine and prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from spiral.api.progress import Progress, no_progress
from spiral.api.records import PolicyId
from spiral.config.schema import BenchmarkConfig, Config, PluginConfig
from spiral.evaluation.benchmarks.asking import Asker
from spiral.evaluation.benchmarks.benchmark import Asking, Benchmark, Chosen, load_benchmarks
from spiral.evaluation.benchmarks.replies import Reply, in_order
from spiral.evaluation.benchmarks.results import Scores, row
from spiral.plugins.registry import Plugins
from spiral.policies.completer import Completer
from spiral.runs import metric_names

QUANTITIES = {
    "accuracy": "accuracy",
    "accuracy_low": "low",
    "accuracy_high": "high",
    "tokens": "mean_reply_tokens",
    "cut_replies": "cut",
    "unreadable": "unreadable",
}
"""Quantity of a metric -> where it stands in a row of results."""


def load_tasks(config: Config, plugins: Plugins) -> list[Benchmark]:
    """The benchmarks of `evaluate.tasks`. Raises SpiralError for one that cannot be asked."""
    return load_benchmarks([_chosen(one, config.rollout.max_new_tokens) for one in config.evaluate.tasks], plugins)


def _chosen(one: BenchmarkConfig, reply_limit: int) -> Chosen:
    asking = Asking(one.samples, one.temperature, 1.0, one.max_new_tokens or reply_limit, one.limit)
    return Chosen(PluginConfig(one.name, one.args), asking)


class TaskEvaluator:
    """Asks a run's benchmarks of the weights that its engine has."""

    def __init__(
        self,
        benchmarks: Sequence[Benchmark],
        completer: Completer,
        decode: Callable[[list[int]], str],
        config: Config,
        progress: Progress = no_progress,
    ) -> None:
        self._benchmarks, self._completer, self._decode = benchmarks, completer, decode
        self._config, self._progress = config, progress

    def metrics(self, policy: PolicyId) -> dict[str, float]:
        """Accuracy with its interval, and the length of replies, of each benchmark, as metrics.

        Seeds are the same at each step, so that two steps differ by their weights alone, and a resumed run measures
        what one that was not stopped did.
        """
        found: dict[str, float] = {}
        asker = Asker(
            policy, self._completer.engine, policy, self._completer.prompter, self._decode, self._config.rollout
        )
        for benchmark in self._benchmarks:
            questions = list(asker.questions(benchmark))
            replies: list[Reply] = [
                reply
                for part in asker.ask(questions, self._config.seed, self._progress, f"asking {benchmark.label}")
                for reply in part
            ]
            # In order: the same bits, whichever thread graded first.
            results = row(policy, benchmark, Scores.of(in_order(replies, [policy], [benchmark.label])))
            found |= {
                metric_names.task(benchmark.label, quantity): float(results[key])
                for quantity, key in QUANTITIES.items()
            }
        return found
