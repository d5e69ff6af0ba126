"""Threads for bots that wait for something, such as a remote model, so that other games go on."""

from __future__ import annotations

import contextlib
import queue
import random
import threading
from typing import Generic, TypeVar

from spiral.api.games import Game
from spiral.api.policies import Bot, max_concurrent
from spiral.selfplay.bot_faults import choose, raised

Key = TypeVar("Key")


class BotThreads(Generic[Key]):
    """Calls of `choose` in threads. `len` is the number of answers that are still to come."""

    def __init__(self) -> None:
        self._questions: dict[int, queue.SimpleQueue[tuple[Key, Game, int, random.Random] | None]] = {}
        self._answers: queue.SimpleQueue[tuple[Key, str | Exception]] = queue.SimpleQueue()
        self._num_threads: dict[int, int] = {}
        self._pending = 0

    def __len__(self) -> int:
        return self._pending

    def submit(self, key: Key, bot: Bot, game: Game, player: int, rng: random.Random) -> None:
        """Have `bot.choose(game, player, rng)` called soon; the caller leaves game and rng alone until the answer."""
        questions = self._questions.setdefault(id(bot), queue.SimpleQueue())
        questions.put((key, game, player, rng))
        self._pending += 1
        if self._num_threads.get(id(bot), 0) < max_concurrent(bot):
            self._num_threads[id(bot)] = self._num_threads.get(id(bot), 0) + 1
            # Not an executor's threads: the interpreter would wait for them at its end, however long one hangs.
            threading.Thread(target=self._work, args=(bot, questions), daemon=True).start()

    def completed(self, wait_s: float) -> list[tuple[Key, str | Exception]]:
        """(key, the move or what was raised) of the calls that ended; waits up to `wait_s` seconds for the first."""
        found: list[tuple[Key, str | Exception]] = []
        while self._pending:
            try:
                found.append(self._answers.get(block=wait_s > 0 and not found, timeout=wait_s))
            except queue.Empty:
                break
            self._pending -= 1
        return found

    def close(self) -> None:
        """Let each thread end after its present call; calls that were not begun are dropped."""
        for bot, questions in self._questions.items():
            with contextlib.suppress(queue.Empty):
                while True:
                    questions.get_nowait()
            for _ in range(self._num_threads[bot]):
                questions.put(None)

    def _work(self, bot: Bot, questions: queue.SimpleQueue[tuple[Key, Game, int, random.Random] | None]) -> None:
        while (question := questions.get()) is not None:
            key, game, player, rng = question
            try:
                self._answers.put((key, choose(bot, game, player, rng)))
            except Exception as error:
                self._answers.put((key, error))
            # Such as an interrupt, which comes to the main thread alone and can only be the bot's own: it would end the
            # thread, and the match would wait for ever.
            except BaseException as error:
                self._answers.put((key, raised(error)))
