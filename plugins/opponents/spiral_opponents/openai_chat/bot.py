"""A bot that asks a model behind any OpenAI-compatible chat endpoint: calls, retries, budget and named failures."""

from __future__ import annotations

import datetime
import email.utils
import hashlib
import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spiral import Game, SaidMove, SpiralError, Unavailable
from spiral_opponents.openai_chat.budget import Account
from spiral_opponents.openai_chat.http import CallFailed, NotProtocol, Response, post, url_problem
from spiral_opponents.openai_chat.messages import (
    SYSTEM,
    Style,
    complaint,
    completion,
    conversation,
    move_in,
    reply,
    seen,
    usage,
)
from spiral_opponents.openai_chat.patience import Patience
from spiral_opponents.openai_chat.probation import Probation

BACK_OFF_S = 1.0
"""The first wait before a retry; each later one is twice as long, and of each a random part up to half is left out."""
MAX_BACK_OFF_S = 30.0
MAX_RETRY_AFTER_S = 60.0
"""A server whose Retry-After asks for longer than this is not asked again."""
TRANSIENT = frozenset({408, 425, 429})
"""Refusals that pass, beside all of 500 and above."""
LIMITS = ("max_tokens", "max_completion_tokens")
"""The names of the field that limits a reply."""
RESERVED = ("messages", "n", "stream")
"""Fields that `extra` may not set: they would change what a call is."""
TEMPLATE_TOKENS = 64
"""At most what a server's chat template adds to a message."""


class Remote:
    """A model behind an OpenAI-compatible chat endpoint.

    `url`: up to and without /chat/completions. `key_env`: the environment variable that holds the key; none is sent
    without it. `prompt`: whether the model is asked to think and box its move, or to answer with the move alone.
    `timeout_s`: for one whole call, of which there are up to 1 + `retries` a move. `max_concurrent`: calls at once.
    `max_calls`, `max_cost`: what the bot may spend in a run, at prices for a million tokens; retries count.
    `extra`: more fields of the request's JSON; null takes one away.
    `spent` is what was spent, in a run by all of its processes together, and every failed call by its cause.
    """

    external = True
    """No check tries it out: a call may cost money."""

    def __init__(
        self,
        model: str,
        url: str,
        key_env: str = "",
        prompt: Style = "boxed",
        max_tokens: int = 1024,
        temperature: float | None = None,
        timeout_s: float = 60.0,
        retries: int = 4,
        max_concurrent: int = 8,
        max_calls: int | None = None,
        max_cost: float | None = None,
        prompt_price: float = 0.0,
        reply_price: float = 0.0,
        extra: dict[str, Any] | None = None,
    ) -> None:
        self._name = f"remote bot {model} at {url}"
        _refuse(url_problem(url), f"remote got for model {model} a url that")  # which may hold a password
        _refuse(_argument_problem(locals()), "remote got")
        self._url, self._key_env, self._style = url.rstrip("/") + "/chat/completions", key_env, prompt
        self._key()
        self._request = {"model": model, "max_tokens": max_tokens, "temperature": temperature, **(extra or {})}
        limits = [max_tokens, *(self._request.get(key) for key in LIMITS)]
        self._max_tokens = max(limit for limit in limits if isinstance(limit, int))
        self._timeout_s, self._retries = timeout_s, retries
        self.max_concurrent = max_concurrent
        self._patience, self._probation = Patience(self._name), Probation(self._name)
        self._account = Account(self._name, max_calls, max_cost, prompt_price, reply_price)

    @property
    def spent(self) -> dict[str, Any]:
        """Calls, tokens, cost, and failures by cause; JSON values."""
        return self._account.spent

    @property
    def identity(self) -> str:
        """Address, model and the other fields of a request but its messages, as JSON; not the limits of a reply, since
        a whole one does not depend on them."""
        fields = {key: value for key, value in self._request.items() if key not in LIMITS}
        return json.dumps([self._url, fields], sort_keys=True)

    def keep_in(self, folder: Path) -> None:
        """Count in a file of `folder`, together with all processes that do: spent money stays spent after a kill or a
        rollback. A bot with another budget, and all else alike, goes on with the same file."""
        asked = json.dumps([self._url, self._style, self._request], sort_keys=True)
        self._account.keep_in(folder / f"remote-{hashlib.sha256(asked.encode()).hexdigest()[:16]}.json")

    def choose(self, game: Game, player: int, rng: random.Random) -> str:
        """The model's move, or the text in its place.

        Raises Unavailable when no call brought a whole reply, SpiralError when the server refuses for a reason that
        will not pass, or the budget is spent.
        """
        moves = game.legal_moves()
        messages = conversation(self._style, game.rules, game.observe(player), moves)
        text = self.answer(messages, rng)
        return SaidMove(move_in(text, moves), text)

    def answer(self, messages: Sequence[Mapping[str, str]], rng: random.Random) -> str:
        """The whole reply to messages that need not be a game's. Raises as `choose` does."""
        waits = random.Random(rng.getrandbits(64))  # one draw an answer, whatever the number of retries
        with self._patience.asking():
            return self._reply(messages, waits)

    def _reply(self, messages: Sequence[Mapping[str, str]], waits: random.Random) -> str:
        for attempt in range(self._retries + 1):
            try:
                return self._call(messages)
            except CallFailed as failed:
                self._patience.failed(failed)
                # Three reasons to give up: no retry can help, the server asks for a longer wait than is allowed (an
                # earlier call would be refused as well), or the attempts are used up.
                wait_s = max(failed.wait_s, back_off_s(attempt, waits))
                hopeless = not failed.again or failed.wait_s > MAX_RETRY_AFTER_S or attempt == self._retries
                if hopeless:
                    calls = "1 call" if attempt == 0 else f"{attempt + 1} calls"
                    detail = f"{self._name} gave no answer in {calls}; {failed.detail}"
                    raise Unavailable(failed.cause, detail) from failed
            time.sleep(wait_s)
        raise AssertionError("the last attempt returns or raises")

    def _call(self, messages: Sequence[Mapping[str, str]]) -> str:
        fields = {**self._request, "messages": list(messages)}
        body = json.dumps({key: value for key, value in fields.items() if value is not None}).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := self._key():
            headers["Authorization"] = f"Bearer {key}"
        # No token is shorter than a byte, and JSON never makes text shorter.
        most = len(body) + TEMPLATE_TOKENS * len(messages), self._max_tokens
        with self._probation.call(), self._account.call(most) as call:
            response = post(self._url, body, headers, self._timeout_s)
            if response.status != 200:
                raise self._refusal(response)
            try:
                answer = completion(response.body)
                # Before the reply is read: a reply that was cut off or withheld has been charged for as well.
                call.usage = usage(answer)
                text = reply(answer)
            except NotProtocol as wrong:
                looks = seen(response.content_type, response.body, self._key())
                raise NotProtocol(wrong.cause, f"{looks} ({wrong.detail})") from wrong
        self._patience.answered()
        return text

    def _refusal(self, response: Response) -> CallFailed | SpiralError:
        """What an answer other than 200 is: a failure that may pass, one of this prompt alone, or a wrong setting."""
        # The order is the error model: first what a retry can cure, then what concerns one match, then what would fail
        # every call and so stops the run.
        status, message = response.status, complaint(response.body, self._key())
        if status in TRANSIENT or status >= 500:
            wait_s = retry_after_s(response.retry_after, time.time())
            detail = message + (f" (it asks to wait {wait_s:g} s)" if wait_s > MAX_RETRY_AFTER_S else "")
            return CallFailed(f"http {status}", detail or "it says no more", wait_s=wait_s, charged=False)
        if status in (400, 413) and "context" in message.lower() and "length" in message.lower():
            return CallFailed("prompt too long", message, again=False, charged=False)
        if status in (401, 403):  # without the server's message, which may quote the key
            remedy = f"check the key in {self._key_env}" if self._key_env else "name the variable of a key in key_env"
        elif status == 404:
            remedy = f"check that url ends before /chat/completions and that it serves model; it says: {message}"
        elif 300 <= status < 400:
            where = (response.location or "an address that it does not name").partition("?")[0][:100]
            remedy = f"it sends on to {where}; give the model's own address as url, with no login before it"
        else:
            remedy = f"check model and extra; it says: {message}"
        return SpiralError(f"{self._name}: the server answers http {status} to every request like this; {remedy}")

    def _key(self) -> str:
        """Read anew each time, so that no object holds it; empty without `key_env`."""
        key = os.environ.get(self._key_env, "").strip() if self._key_env else ""
        problem = None
        if self._key_env and not key:
            problem = "is not set; export it, or leave key_env out for a server without keys"
        elif not (key.isascii() and key.isprintable()):
            problem = "holds characters that no key has; export the key alone"
        _refuse(problem, f"remote got key_env={self._key_env}, and that environment variable")
        return key


def back_off_s(attempt: int, waits: random.Random) -> float:
    """Seconds before asking again after failed attempt 0, 1, ...: exponential, with the upper half at random."""
    return min(MAX_BACK_OFF_S, BACK_OFF_S * 2.0**attempt) * (1 - waits.random() / 2)


def retry_after_s(header: str | None, now: float) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date; 0 for none and for nonsense."""
    if header is None:
        return 0.0
    if header.strip().isdecimal():
        return float(header.strip()[:9])
    try:
        date = email.utils.parsedate_to_datetime(header)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    return max(0.0, date.replace(tzinfo=date.tzinfo or datetime.UTC).timestamp() - now)


def _argument_problem(args: dict[str, Any]) -> str | None:
    """What is wrong with the first argument out of its range; None if all are sound."""
    least = {"max_tokens": 1, "retries": 0, "max_concurrent": 1, "max_calls": 0, "max_cost": 0.0}
    least |= {"prompt_price": 0.0, "reply_price": 0.0, "temperature": 0.0}
    for name, low in least.items():
        if args[name] is not None and not low <= args[name] < float("inf"):
            return f"{name}={args[name]}; it must be {low:g} or more"
    if not 0 < args["timeout_s"] < float("inf"):
        return f"timeout_s={args['timeout_s']}; it must be more than 0"
    if args["prompt"] not in SYSTEM:
        return f"prompt={args['prompt']}; it must be one of {', '.join(SYSTEM)}"
    if args["max_cost"] is not None and not args["prompt_price"] + args["reply_price"]:
        return "max_cost without prompt_price and reply_price; give what a million tokens cost"
    for field in RESERVED:
        if field in (args["extra"] or {}):
            return f"extra.{field}, which it sets itself; leave it out"
    return None


def _refuse(reason: str | None, start: str) -> None:
    if reason is not None:
        raise SpiralError(f"{start} {reason}.")
