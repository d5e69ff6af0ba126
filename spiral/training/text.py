"""A run that learns from text: its steps' rows, what it measures of the text held out, and what it writes meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from spiral.api.errors import SpiralError
from spiral.api.progress import Phase, Progress
from spiral.api.records import Episode, PolicyId, Request, Sampling, Trajectory, VoidedGame
from spiral.api.text import printable_logger
from spiral.cluster.orders import Span
from spiral.config.schema import Config
from spiral.engines.waiting import Deadline, completions
from spiral.evaluation.held_out_text import HeldOutText
from spiral.learning.documents import read_documents
from spiral.learning.text_rows import TextRows, start_ids
from spiral.models.logits import context_length
from spiral.models.tokens import PlainText, spelt, stop_id
from spiral.runs import metric_names
from spiral.seeds import child, derive
from spiral.selfplay.setup import PlaySetup
from spiral.training.experience import Credit, alike

log = printable_logger(__name__)

BEGINNING = 80
"""Characters of a held-out document that a sample goes on from."""


def rows_a_step(config: Config) -> int:
    """How many rows a step of a run that learns from text has."""
    return config.text.step_tokens // config.text.row_tokens


class Text:
    """Rows of text, whose every token is to become likelier."""

    voided: Sequence[VoidedGame] = ()

    def __init__(self, config: Config, play: PlaySetup, progress: Progress) -> None:
        """Raises SpiralError for text that cannot be read, or of which too little is left to train on."""
        progress(Phase("reading text"))
        self._config, self._play, self._progress = config, play, progress
        text, context = config.text, context_length(play.model)
        if text.row_tokens > context:
            raise SpiralError(
                f"text.row_tokens is {text.row_tokens}, and the model's context is {context}; set "
                f"text.row_tokens={context}, or take a longer context (model.args.context)"
            )
        documents = read_documents(text.paths)
        trained, held_out = documents.split(text.held_out_bytes, text.trained_bytes)
        self.rows = TextRows(trained, play.tokenizer, text.row_tokens, config.seed)
        if not self.rows.num_rows:
            raise SpiralError(
                f"{', '.join(text.paths)} holds {len(documents.texts)} documents, and none is left to train on once "
                f"text.held_out_bytes={text.held_out_bytes} are held out; give more text, or set it lower"
            )
        self._held_out = HeldOutText(held_out, play.tokenizer, text.row_tokens) if held_out else None
        self.read_from: Mapping[str, str] = {"text.paths": documents.fingerprint}
        if documents.skipped or documents.repeated:
            log.warning(
                "of the files in %s %d are binary or not UTF-8, and %d repeat another; they are left out",
                ", ".join(text.paths), documents.skipped, documents.repeated,
            )  # fmt: skip

    def episodes(self, step: int) -> list[Episode]:
        return self.rows.of_step(step, rows_a_step(self._config))

    def advantages(self, policy: PolicyId, trajectories: Sequence[Trajectory]) -> Sequence[Sequence[float]]:
        return alike(trajectories)

    def metrics(self, step: int, policy: PolicyId, credit: Credit) -> dict[str, float]:
        num = rows_a_step(self._config)
        return {"text/epoch": (step + 1) * num / self.rows.num_rows}

    def evaluate(self, scorer: Any, step: int) -> dict[str, float]:
        """Bits per byte of the text held out: an estimate on the way, all of it after the last step."""
        if self._held_out is None:
            return {}
        c = self._config
        most = None if step == c.steps else c.text.evaluate_tokens
        self._progress(Phase("measuring bits per byte"))
        bits = self._held_out.bits_per_byte(scorer, c.learner.micro_batch_tokens, most)
        compared = {metric_names.bits_per_byte(name): value for name, value in self._compressed.items()}
        return {metric_names.bits_per_byte(): bits, **compared}

    @cached_property
    def _compressed(self) -> dict[str, float]:
        return {} if self._held_out is None else self._held_out.compressed()

    def take_spans(self) -> Sequence[Span]:
        return []

    def samples(self, policy: PolicyId, step: int) -> list[dict[str, Any]]:
        """Texts that `policy` writes at temperature 1, as records: one from nothing, others from the beginnings of
        documents held out."""
        c, play = self._config, self._play
        if not c.text.samples:
            return []
        encode, engine = PlainText(play.tokenizer).ids, play.completer.engine
        start = start_ids(play.tokenizer) or [stop_id(play.tokenizer)]
        beginnings = self._held_out.beginnings(c.text.samples - 1, BEGINNING) if self._held_out else []
        prompts = ["", *beginnings]
        sampling = Sampling(c.text.sample_tokens, (stop_id(play.tokenizer),))
        seed, room = derive(c.seed, "samples", step), context_length(play.model) - c.text.sample_tokens
        for number, prompt in enumerate(prompts):
            ids = [*start, *encode(prompt)][: max(1, room)]
            engine.submit(Request(number, policy, tuple(ids), sampling, child(seed, number)))
        deadline = Deadline(c.rollout.deadline_s, "set text.samples=0 to ask for none")
        replies = {done.request_id: done.ids for done in completions(engine, len(prompts), deadline)}
        return [
            {"step": step, "prompt": prompt, "text": spelt(play.tokenizer, replies[number])}
            for number, prompt in enumerate(prompts)
        ]
