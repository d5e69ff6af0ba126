"""spiral against TRL's GRPO trainer and its environment interface, on this CPU: games and trained tokens a second.

TRL is no dependency of spiral. Give it an environment of its own, over one that has spiral, and start this there:

    python -m venv .venv-trl
    echo "import site; site.addsitedir('$PWD/.venv/lib/python3.11/site-packages')" \\
        > .venv-trl/lib/python3.11/site-packages/base.pth
    .venv-trl/bin/pip install --no-deps trl==1.16.0 datasets multiprocess dill xxhash pyarrow aiohttp aiosignal \\
        frozenlist multidict yarl propcache attrs aiohappyeyeballs requests httpx
    OMP_NUM_THREADS=1 .venv-trl/bin/python -m perf.trl_grpo

Both sides have the same weights, game, number of games, most ids of a reply, and sample from the full distribution at
temperature 1; both update every weight once with AdamW on all replies. TRL's environments have one player, so each game
is one player's. Every reply is read as a move, so that a model with random weights plays whole games on both sides. Two
cases:

- `talk`: five replies of about 25 ids to the lines of a host, all different; both sides ask with the whole transcript.
- `tic-tac-toe`: against random moves, replies of two ids. spiral asks with the board alone, and positions repeat; a
  conversation of TRL's holds the whole game, which it has no other way to play.

TRL asks for moves as tool calls. Here its parser takes any reply for one, which spares it the tokens of a call and the
faults of a model that cannot write one. Its loop ends when a reply calls no tool: in tic-tac-toe that is one more reply
a game, which counts as trained; of the talk, whose length is known, the last reply reaches the game through the reward
function instead. TRL generates with transformers' `generate`, a turn of all games at a time; its other backend, vLLM,
is not compared here. The two take turns step by step in one process and one thread.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from accelerate import Accelerator
from spiral_games.native.tic_tac_toe import TicTacToe

from perf.measure import Figure, Timing, median_cpu, ratios, rounded, say, timed
from perf.stand_ins import FreeText
from spiral.api.records import LEARNER
from spiral.api.training import PromptFormat
from spiral.config.schema import LearnerConfig, RolloutConfig
from spiral.engines.torch.engine import TorchEngine
from spiral.learning.full_learner import FullLearner
from spiral.learning.packing import pack
from spiral.models.chat import chat
from spiral.models.prompt_cache import Prompter
from spiral.models.prompts import PlainFormat
from spiral.plugins.registry import Plugins
from spiral.policies.completer import Completer
from spiral.policies.pool import Pool
from spiral.selfplay.curriculum import Weighted
from spiral.selfplay.rollouts import Rollouts

GAMES, GROUP, TURNS, ROUNDS = 64, 8, 5, 3
CONTEXT, LR = 1024, 1e-6
GAMES_TARGET, TOKENS_TARGET = 10.0, 2.0
CLOSING = "Answer with your move alone, exactly as the game writes moves."
"""What spiral's prompts end with."""
OVER = "The game is over."
VOWELS = frozenset("aeiouAEIOU")


class Talk:
    """One player answers the lines of a script; the return is the share of vowels in what it said."""

    num_players = 1
    worst_return = 0.0
    rules = "You talk with a host. Answer each of the host's lines in a few words."

    def reset(self, rng: random.Random) -> None:
        self._topics = [f"{rng.randrange(1000):03d}" for _ in range(TURNS)]
        self._said: list[str] = []

    def current_player(self) -> int | None:
        return 0 if len(self._said) < TURNS else None

    def news(self) -> str:
        """The host's last line."""
        turn = min(len(self._said), TURNS - 1)
        return f"Host, line {turn}: what do you say of number {self._topics[turn]}?\n"

    def observe(self, player: int) -> str:
        lines = [f"Host, line {n}: what do you say of number {t}?\n" for n, t in enumerate(self._topics)]
        return "".join(lines[: len(self._said) + 1])

    def legal_moves(self) -> list[str] | None:
        return [] if self.current_player() is None else None

    def sample_move(self, rng: random.Random) -> str:
        return rng.choice("abcdef")

    def play(self, move: str) -> None:
        self._said.append(move)

    def returns(self) -> list[float]:
        text = "".join(self._said)
        return [sum(letter in VOWELS for letter in text) / max(1, len(text))]


class Squares:
    """Tic-tac-toe as X against random moves; any text is a move."""

    num_players = 1
    worst_return = -1.0
    rules = ""

    def reset(self, rng: random.Random) -> None:
        self._rng, self._game = rng, TicTacToe()
        self._game.reset(rng)

    def current_player(self) -> int | None:
        return self._game.current_player()

    def news(self) -> str:
        """The board, or that the game is over."""
        return OVER if self.current_player() is None else self.observe(0)

    def observe(self, player: int) -> str:
        return self._game.observe(0)

    def legal_moves(self) -> list[str] | None:
        return [] if self.current_player() is None else None

    def sample_move(self, rng: random.Random) -> str:
        return str(rng.randrange(9))

    def play(self, move: str) -> None:
        squares = self._game.legal_moves()
        self._game.play(squares[sum(move.encode()) % len(squares)])
        if squares := self._game.legal_moves():
            self._game.play(self._rng.choice(squares))

    def returns(self) -> list[float]:
        return self._game.returns()[:1]


@dataclass(frozen=True)
class Case:
    """A game, and how it is asked."""

    name: str
    game: type[Talk] | type[Squares]
    form: Callable[[Any], PromptFormat]
    """Of spiral's prompts, by the tokenizer."""
    closing: str
    """What spiral's first prompt ends with, for TRL's."""
    reply: int
    """Ids of a reply, at most."""
    ends: range
    """Ids that end a reply besides the model's own."""
    turns: int | None
    """Of a game, where all have the same number."""


def _transcript(tokenizer: Any) -> PromptFormat:
    return chat(tokenizer, answer="plain", history="transcript", when_full="void")


def _board(tokenizer: Any) -> PromptFormat:
    return cast(PromptFormat, PlainFormat(tokenizer))


CASES = {
    case.name: case
    for case in (
        Case("talk", Talk, _transcript, f"\n\n{CLOSING}", 64, range(10), TURNS),
        Case("tic-tac-toe", Squares, _board, "", 2, range(0), None),
    )
}


class SpiralSide:
    """A step of spiral over its own parts: play, pack, update, load."""

    name = "spiral"

    def __init__(self, case: Case, model: Any, tokenizer: Any) -> None:
        plugins = Plugins.installed()
        self.engine = TorchEngine(model, tokenizer)
        form = FreeText(case.form(tokenizer), ends=case.ends)
        completer = Completer.of(self.engine, Prompter(form), case.reply, reads_cut=True)
        settings = RolloutConfig(episodes=GAMES, group_size=GROUP, max_new_tokens=case.reply, cut_replies="train")
        opponents = plugins.make("opponents", "mirror")
        pool = Pool(plugins, completer)
        self._rollouts = Rollouts({case.name: case.game}, Weighted({case.name: 1.0}), opponents, pool, settings)
        self._learner = FullLearner(
            model, LearnerConfig(lr=LR, lr_end=1.0, ema=0.0, max_grad_norm=1.0), 100, Accelerator(cpu=True)
        )
        self._estimate = plugins.make("advantage", "grpo")
        self._num = 0
        self.engine.load_weights(LEARNER, self._learner.weights(), 0)
        self.counts: dict[str, int] = {}

    def play(self) -> None:
        """All games of a step."""
        self._num += 1
        episodes = self._rollouts.play(GAMES, (self._num,))
        self._trajectories = [t for e in episodes for t in e.trajectories]
        turns = [turn for t in self._trajectories for turn in t.turns]
        self.counts = {"games": len(episodes), "turns": len(turns), "sampled": sum(len(t.reply) for t in turns)}

    def update(self) -> None:
        """Credit, an update, and the new weights into the engine."""
        advantages = self._estimate(self._trajectories)
        batch = pack(self._trajectories, advantages, LearnerConfig().micro_batch_tokens)
        self.counts["trained_rows"] = batch.num_computed_tokens
        self._learner.update(batch, self._num, GAMES)
        self.engine.load_weights(LEARNER, self._learner.weights(), self._num)


def byte_tokenizer_for_trl(tokenizer: Any) -> Any:
    """The same ids, with a template that can hold tool calls, and a parser that takes any reply for a move."""
    from spiral_models.byte.fast_tokenizer import to_fast

    fast: Any = to_fast(tokenizer)
    fast.chat_template = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}"
        "{{ eos_token }}{% else %}<|obs|>{{ m.content }}<|eot|><|act|>{% endif %}{% endfor %}"
    )

    over = tokenizer.encode(OVER, add_special_tokens=False)

    def parse_response(ids: Sequence[int], prefix: Sequence[int] = (), **_: Any) -> dict[str, Any]:
        if list(prefix[-len(over) - 2 : -2]) == over:  # before the ids that end the host's text and ask for a reply
            return {"role": "assistant", "content": ""}
        text = tokenizer.decode(list(ids), skip_special_tokens=True)
        call = {"type": "function", "function": {"name": "move", "arguments": {"text": text}}}
        return {"role": "assistant", "content": "", "tool_calls": [call]}

    fast.response_template = {}
    fast.parse_response = parse_response
    return fast


class Environment:
    """A case's game as TRL's environments are: a reset, and a tool."""

    case: Case
    num_made = 0

    def __init__(self) -> None:
        self._game = self.case.game()
        self._rng = random.Random(Environment.num_made)
        Environment.num_made += 1

    def reset(self, **_: Any) -> str:
        """Begin a game; the first prompt."""
        self._game.reset(self._rng)
        rules = f"{self._game.rules}\n\n" if self._game.rules else ""
        return f"{rules}{self._game.news()}{self.case.closing}"

    def move(self, text: str) -> str:
        """
        Make a move.

        Args:
            text: The move.

        Returns:
            What happened.
        """
        self._game.play(text)
        return self._game.news()


def score(completions: Sequence[Any], environments: Sequence[Environment], **_: Any) -> list[float]:
    """The returns, once the last reply of each game has been said."""
    scores = []
    for completion, environment in zip(completions, environments, strict=True):
        calls = completion[-1].get("tool_calls") or []
        if calls and environment._game.current_player() is not None:
            environment.move(calls[0]["function"]["arguments"]["text"])
        scores.append(environment._game.returns()[0])
    return scores


def trl_trainer(
    case: Case, model: Any, tokenizer: Any, between: Callable[[], None], times: list[tuple[Timing, Timing]]
) -> Any:
    """TRL's trainer over the environment of a case. `times` gets those of each step, of its games and of its update;
    `between` is called after each step, outside of both."""
    from transformers import PrinterCallback, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    class Timed(GRPOTrainer):  # type: ignore[misc]
        def _generate_and_score_completions(self, inputs: Any) -> Any:
            out: list[Any] = []
            self.playing = timed(lambda: out.append(super(Timed, self)._generate_and_score_completions(inputs)))
            self.counts = {
                "games": len(inputs),
                "sampled": int((out[0]["completion_mask"] * out[0].get("tool_mask", 1)).sum()),
                "trained_rows": out[0]["prompt_ids"].numel() + out[0]["completion_ids"].numel(),
            }
            return out[0]

        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            self.begun = Stopwatch()
            return super().training_step(*args, **kwargs)

    class Alternating(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            whole = trainer.begun.stop()
            playing = trainer.playing
            times.append((playing, Timing(whole.cpu - playing.cpu, whole.wall - playing.wall)))
            between()

    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=False, report_to="none", save_strategy="no",
        logging_steps=1000, disable_tqdm=True, max_steps=ROUNDS + 1, per_device_train_batch_size=GAMES,
        num_generations=GROUP, learning_rate=LR, lr_scheduler_type="constant", temperature=1.0, top_p=1.0, top_k=0,
        beta=0.0, gradient_checkpointing=False, max_completion_length=CONTEXT // 2,
        max_tool_calling_iterations=case.turns and case.turns - 1, generation_kwargs={"max_new_tokens": case.reply},
    )  # fmt: skip
    trainer = Timed(
        model=model,
        reward_funcs=score,
        args=config,
        processing_class=tokenizer,
        environment_factory=Environment,
        callbacks=[Alternating()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


class Stopwatch:
    """CPU and wall seconds since it was made."""

    def __init__(self) -> None:
        self._clocks = (time.process_time, time.perf_counter)
        self._start = [clock() for clock in self._clocks]

    def stop(self) -> Timing:
        """So far."""
        return Timing(*(clock() - start for clock, start in zip(self._clocks, self._start, strict=True)))


def figures(case: Case, model_name: str = "byte-0.1m", stock: bool = False) -> list[Figure]:
    """Two: games a second and trained tokens a second, spiral's over TRL's. `stock`: TRL gets the Llama that has the
    same logits, instead of the same leaner class."""
    from spiral_models.byte.llama_export import to_llama

    plugins = Plugins.installed()
    model, tokenizer = plugins.make("model", model_name, context=CONTEXT)
    theirs = to_llama(model) if stock else plugins.make("model", model_name, context=CONTEXT)[0]
    if not stock:
        theirs.load_state_dict(model.state_dict())
    theirs.generation_config.eos_token_id = [tokenizer.eos_token_id, *case.ends]
    Environment.case = case
    spiral_side = SpiralSide(case, model, tokenizer)
    own: list[tuple[Timing, Timing]] = []
    trl: list[tuple[Timing, Timing]] = []
    trainer = trl_trainer(
        case,
        theirs,
        byte_tokenizer_for_trl(tokenizer),
        lambda: own.append((timed(spiral_side.play), timed(spiral_side.update))),
        trl,
    )
    trainer.train()
    own, trl = own[1:], trl[1:]  # the first step sets libraries up
    counts = {"spiral": spiral_side.counts, "trl": trainer.counts}
    return [
        _figure(f"{case.name}, games", 0, GAMES_TARGET, own, trl, counts, "games"),
        _figure(f"{case.name}, trained tokens", 1, TOKENS_TARGET, own, trl, counts, "sampled"),
    ]


def _figure(
    what: str,
    part: int,
    target: float,
    own: Sequence[tuple[Timing, Timing]],
    trl: Sequence[tuple[Timing, Timing]],
    counts: Mapping[str, Mapping[str, int]],
    unit: str,
) -> Figure:
    """Rates are by what each side played or trained itself, which differs by replies that ended early."""
    ours, theirs = [t[part] for t in own], [t[part] for t in trl]
    done = counts["spiral"][unit], counts["trl"][unit]
    ratio = ratios(theirs, ours, done[0] / done[1])
    rates = {"spiral": done[0] / median_cpu(ours), "trl": done[1] / median_cpu(theirs)}
    detail = {"ratio": ratio, "a_cpu_second": rates, "a_step": counts, "rounds": len(own)}
    return Figure(f"trl {what} a second", ratio["cpu"]["median"], "x TRL's GRPO trainer", target, detail=detail)


def main(arguments: Sequence[str]) -> int:
    """Print the figures of the cases that are named, or of all, as lines of JSON; `--stock` as `figures` says."""
    stock = "--stock" in arguments
    names = [argument for argument in arguments if argument != "--stock"] or list(CASES)
    if unknown := [name for name in names if name not in CASES]:
        print(f"no case named '{unknown[0]}' (there are: {', '.join(CASES)})", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    for name in names:
        for figure in figures(CASES[name], stock=stock):
            print(figure.line(), flush=True)
            say(f"   {figure.name:<40} {rounded(figure.value)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
