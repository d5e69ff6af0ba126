"""How well a model predicts text that it was not trained on, in bits per byte, and how well general compressors do."""

from __future__ import annotations

import gzip
import lzma
import math
from collections.abc import Sequence
from typing import Any

from spiral.evaluation.move_probabilities import sequence_logprobs
from spiral.learning.documents import num_bytes
from spiral.learning.samples import Sample
from spiral.learning.text_rows import Stream, window_starts
from spiral.models.logits import TokenLogits


class HeldOutText:
    """Documents, one after another as in training."""

    def __init__(self, texts: Sequence[str], tokenizer: Any, row_tokens: int) -> None:
        self._texts, self._row_tokens = texts, row_tokens
        self._stream = Stream.of(texts, tokenizer)
        self._starts = window_starts(len(self._stream.ids), row_tokens)
        self.num_bytes = sum(map(num_bytes, texts))

    def bits_per_byte(self, lm: TokenLogits, micro_batch_tokens: int, max_tokens: int | None = None) -> float:
        """Total nats / ln 2 / bytes of the text as UTF-8. Nats are those of all tokens but the stream's first one, the
        end of each document among them, which a compressor has to tell too.

        With `max_tokens` as an estimate: nats a token of about so many, in windows spread evenly, times tokens a byte
        of all.
        """
        starts = self._starts
        if max_tokens is not None:
            num = min(len(starts), max(1, max_tokens // self._row_tokens))
            starts = [starts[k * len(starts) // num] for k in range(num)]
        samples = [self._sample(*start) for start in starts]
        samples = sorted((s for s in samples if s.num_trained), key=lambda s: (s.prompt + s.reply, len(s.prompt)))
        nats = -float(sequence_logprobs(lm, samples, micro_batch_tokens).double().sum())
        nats_per_token = nats / sum(sample.num_trained for sample in samples)
        return nats_per_token * self._stream.num_predicted / math.log(2) / self.num_bytes

    def compressed(self) -> dict[str, float]:
        """Bits per byte of all the text, its documents joined, by `gzip -9` and `xz -9`."""
        raw = "".join(self._texts).encode("utf-8")
        sizes = {"gzip": len(gzip.compress(raw, 9, mtime=0)), "xz": len(lzma.compress(raw, preset=9))}
        return {name: 8 * size / self.num_bytes for name, size in sizes.items()}

    def beginnings(self, num: int, num_characters: int) -> list[str]:
        """The first characters of so many documents, of the longest ones that there are."""
        longest = sorted(range(len(self._texts)), key=lambda place: (-len(self._texts[place]), place))
        return [self._texts[place][:num_characters] for place in sorted(longest[:num])]

    def _sample(self, start: int, first: int) -> Sample:
        turn = self._stream.turn(start, first, min(start + self._row_tokens, len(self._stream.ids)))
        return Sample(turn.prompt, turn.reply, turn.logprobs, count=1, forced=turn.forced)
