"""The players of the house: bots and policies with weights, which play as many matches at once as they are asked to."""

from __future__ import annotations

import asyncio
import queue
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from spiral.api.errors import PromptTooLong, SpiralError
from spiral.api.policies import Bot, max_concurrent
from spiral.api.records import Completion, PolicyId, Turn
from spiral.arena.database import storable
from spiral.arena.game_process import GameHost
from spiral.arena.records import Player
from spiral.arena.reply_tokens import tokens_of
from spiral.arena.room import Left, Over, Question, Said
from spiral.seeds import derive
from spiral.selfplay.bot_faults import BotFault, choose

if TYPE_CHECKING:  # an arena whose house has bots alone loads no model library
    from spiral.policies.completer import Completer

GATHER_S = 0.02
"""How long an engine waits, at most, for the matches that it has just answered to ask again."""


class Chooser(Protocol):
    """Decides for a player of the house; any number of calls at once."""

    async def move(self, host: GameHost, question: Question, turns: Sequence[Turn], seed: int) -> tuple[Said, Turn]:
        """A move, and the turn that its next one comes after. Raises SpiralError where there can be none."""


@dataclass(frozen=True)
class HousePlayer:
    """A player that is always there."""

    player: Player
    chooser: Chooser

    def seat(self, host: GameHost, seed: int) -> HouseSeat:
        """A place in a match; `seed`: of that match."""
        return HouseSeat(self, host, seed)


class HouseSeat:
    """A player of the house in one match."""

    patient = False

    def __init__(self, house: HousePlayer, host: GameHost, seed: int) -> None:
        self.player = house.player
        self._chooser, self._host, self._seed = house.chooser, host, seed
        self._turns: list[Turn] = []

    async def choose(self, question: Question) -> Said:
        """What its policy says. Raises Left where it cannot say anything."""
        seed = derive(self._seed, "house", question.seat, question.number)
        try:
            said, turn = await self._chooser.move(self._host, question, self._turns, seed)
        except SpiralError as error:
            raise Left(str(error)) from error
        self._turns.append(turn)
        return said

    def refused(self, question: Question, reason: str) -> None:
        """Its policy is asked again, with another seed."""

    def shown(self, question: Question) -> None:
        """It reads the game when it is asked."""

    def pending(self, match: int) -> None:
        """It waits for nothing."""

    def over(self, over: Over) -> None:
        """Nothing is kept."""


class BotChooser:
    """A bot, called in threads: in one, unless it says that it waits for something and may be called in several."""

    def __init__(self, bot: Bot, name: str) -> None:
        self._bot = bot
        self._pool = ThreadPoolExecutor(max(1, max_concurrent(bot)), thread_name_prefix=f"house {name}")

    async def move(self, host: GameHost, question: Question, turns: Sequence[Turn], seed: int) -> tuple[Said, Turn]:
        """What the bot chooses."""
        game, loop = await host.acopy(question.match), asyncio.get_running_loop()
        try:
            chosen = await loop.run_in_executor(self._pool, choose, self._bot, game, question.seat, random.Random(seed))
        except BotFault as fault:
            raise SpiralError(f"the bot {fault}") from fault
        turn = Turn(question.observation, (), (), (), str(chosen), False, "stop", 0)
        return Said(storable(str(chosen)), storable(getattr(chosen, "reply", ""))), turn


class PolicyChooser:
    """A policy with weights. One thread asks its engine for all matches together, so that they share its batches."""

    def __init__(self, completer: Completer, policy: PolicyId) -> None:
        self._completer, self._policy, self._number = completer, policy, 0
        self._asked: queue.SimpleQueue[tuple[tuple[int, ...], int, Future[Completion]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=f"house {policy}", daemon=True).start()

    async def move(self, host: GameHost, question: Question, turns: Sequence[Turn], seed: int) -> tuple[Said, Turn]:
        """What the policy replies; a reply without a move is an empty one."""
        completer, observation, view = self._completer, question.observation, question.view
        moves = view.legal_moves if completer.prompter.lists_moves else None
        try:
            prompt, left_out = completer.fitting(view.rules, observation, moves, turns)
        except PromptTooLong as error:
            raise SpiralError(f"{error}") from error
        future: Future[Completion] = Future()
        self._asked.put((prompt, seed, future))
        reply = await asyncio.wrap_future(future)
        turn = Turn(
            observation, prompt, reply.ids, reply.logprobs, completer.read(reply), False, reply.finish, reply.version,
            legal_moves=moves, left_out=left_out, forced=reply.forced,
        )  # fmt: skip
        # In a thread: a long thought takes tens of milliseconds, in which no other match would go on.
        decode = completer.decode
        tokens = None if decode is None else await asyncio.to_thread(tokens_of, reply, decode)
        return Said(storable(turn.move or ""), storable(completer.text(reply.ids)), tokens), turn

    def _work(self) -> None:
        engine, waiting, expected = self._completer.engine, dict[int, Future[Completion]](), 0
        while True:
            self._take(waiting, expected)
            try:
                done = engine.step()
            except Exception as error:  # an engine that failed answers nothing any more
                for future in waiting.values():
                    future.set_exception(SpiralError(f"its engine failed: {error}"))
                waiting.clear()
                continue
            for completion in done:
                waiting.pop(completion.request_id).set_result(completion)
            expected = len(done)  # of whose matches each may ask again in a moment

    def _take(self, waiting: dict[int, Future[Completion]], expected: int) -> None:
        """Give the engine what is asked; where others were just answered, wait a moment for so many to ask again: a
        step of few rows costs nearly as much as one of many."""
        until = time.monotonic() + GATHER_S
        while not waiting or expected > 0 or not self._asked.empty():
            left_s = max(0.0, until - time.monotonic()) if waiting else None
            try:
                prompt, seed, future = self._asked.get(timeout=left_s)
            except queue.Empty:
                return
            expected -= 1
            if future.set_running_or_notify_cancel():  # from here on it cannot be cancelled by a clock
                self._submit(waiting, prompt, seed, future)

    def _submit(
        self, waiting: dict[int, Future[Completion]], prompt: tuple[int, ...], seed: int, future: Future[Completion]
    ) -> None:
        try:
            request = self._completer.request(self._number, self._policy, prompt, seed)
            self._completer.engine.submit(request)
        except Exception as error:
            future.set_exception(SpiralError(f"its engine refused a request: {error}"))
        else:
            waiting[self._number] = future
            self._number += 1
