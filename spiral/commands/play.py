"""A person at the terminal against a run's policy."""

from __future__ import annotations

import random
import time

import click

from spiral.api.errors import SpiralError
from spiral.api.games import IllegalMove
from spiral.api.games import Game
from spiral.api.records import Request, Sampling
from spiral.evaluation.evaluator import AVERAGED
from spiral.evaluation.loaded_run import Inspected
from spiral.seeds import child


def play_at_terminal(inspected: Inspected, game: str | None, player: int, seed: int) -> None:
    """One match; the person sits at `player`, the policy everywhere else."""
    name = inspected.game(game)
    match = inspected.players.games[name]()
    if not 0 <= player < match.num_players:
        raise SpiralError(f"{name} has players 0 to {match.num_players - 1}, not {player}; give another --player")
    match.reset(random.Random(seed))
    if match.rules:
        click.echo(match.rules + "\n")
    turn = 0
    while (mover := match.current_player()) is not None:
        if mover == player:
            _person(match, player)
        elif not _policy(inspected, match, mover, child(seed, turn)):
            return
        turn += 1
    click.echo(f"\n{match.observe(player)}\nover: you get {match.returns()[player]:+g}   (seed {seed})")


def _person(match: Game, player: int) -> None:
    moves = match.legal_moves()
    click.echo(f"\n{match.observe(player)}" + (f"\nmoves: {', '.join(moves)}" if moves else ""))
    while True:
        try:
            return match.play(click.prompt("you", prompt_suffix="> ").strip())
        except IllegalMove as error:
            click.echo(f"not legal: {error}")
        except click.Abort:
            raise SpiralError("the input ended and the match is not over; play it again with --seed") from None


def _policy(inspected: Inspected, match: Game, mover: int, seed: int) -> bool:
    """Let the policy move; False if its reply was no legal move, which ends the match."""
    p = inspected.players
    prompt = p.prompter.encode(match.rules, match.observe(mover))
    sampling = Sampling(inspected.config.rollout.max_new_tokens, p.prompter.stop_ids)
    p.engine.submit(Request(0, AVERAGED, prompt, sampling, seed))
    deadline = time.monotonic() + inspected.config.rollout.deadline_s
    while not (completions := p.engine.step()):
        if time.monotonic() > deadline:
            raise SpiralError(f"the engine gave no reply for {inspected.config.rollout.deadline_s:g} s; see its log")
    move = p.prompter.read(completions[0].ids) if completions[0].finish == "stop" else None
    try:
        if move is None:
            raise IllegalMove("it wrote no move")
        match.play(move)
    except IllegalMove as error:
        written = p.tokenizer.decode(list(completions[0].ids))
        click.echo(f"player {mover} wrote {written!r}, which is not legal ({error}); you win by forfeit")
        return False
    click.echo(f"player {mover}: {move}")
    return True
