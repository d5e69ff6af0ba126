"""Who takes part in a tournament, and in which game: every mistake in the words is found before a model is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spiral.api.errors import SpiralError
from spiral.api.games import Game
from spiral.api.records import PolicyId
from spiral.config.loading import load, parse_plugin
from spiral.config.schema import Config, PluginConfig
from spiral.plugins.pretrained import find_model
from spiral.plugins.registry import Plugins, label
from spiral.policies.loading import PolicyLoader, open_run
from spiral.policies.pool import Pool
from spiral.policies.reference import PolicyRef
from spiral.selfplay.validation import started_game, try_bot


@dataclass(frozen=True)
class Entrant:
    """A policy that is entered."""

    name: str
    """What tables call it: a bot or model as it was written, a run with its step."""
    ref: PolicyRef
    config: Config | None
    """Of a run."""

    @property
    def kind(self) -> str:
        return self.ref.kind

    @property
    def step(self) -> int | None:
        """Of a run's checkpoint."""
        return self.ref.step


@dataclass(frozen=True)
class Participants:
    """The policies of one tournament, loaded, and the game they play."""

    game: str
    make: Callable[[], Game]
    num_players: int
    """Of the game."""
    entrants: list[Entrant]
    policies: list[PolicyId]
    pool: Pool
    config: Config
    """The first run's, whose rules of play hold; the default one without a run."""


def parse_entrants(words: Sequence[str], plugins: Plugins) -> list[Entrant]:
    """The entrants that a command line names. Raises SpiralError with every problem, a sentence each."""
    if len(words) < 2:
        raise SpiralError(
            f"a tournament needs at least two players, and {f'only {words[0]}' if words else 'none'} was given; add "
            "run directories (runs/a or runs/a@300), bots, or model:PATH"
        )
    found, problems = [], []
    for word in words:
        try:
            found.append(_entrant(word, PolicyRef.found(word, plugins)))
        except SpiralError as error:
            problems.append(str(error))
    if problems:
        raise SpiralError("\n".join(problems))
    twice = [policy for policy, times in Counter(one.ref.policy for one in found).items() if times > 1]
    if twice:
        name = next(one.name for one in found if one.ref.policy == twice[0])
        raise SpiralError(f"{name} is named twice; name every player once")
    return found


def tournament_game(text: str | None, entrants: Sequence[Entrant], plugins: Plugins) -> PluginConfig:
    """The game that is asked for, or the only one of the first run. Raises SpiralError."""
    if text is None:
        first = next((one for one in entrants if one.config and one.config.games), None)
        if first is None or first.config is None:
            raise SpiralError("no game is named, and no run among the players tells which; give --game")
        if len(first.config.games) != 1:
            games = ", ".join(label(game.name, game.args) for game in first.config.games)
            raise SpiralError(f"no game is named, and {first.name} was trained on several: {games}; give --game")
        return first.config.games[0]
    game = parse_plugin(text)
    if reason := plugins.problem("game", game.name, game.args):
        raise SpiralError(reason)
    return game


def load_participants(entrants: Sequence[Entrant], game: PluginConfig, plugins: Plugins) -> Participants:
    """Load the entrants. Raises SpiralError for a game or a policy that cannot be made."""
    configs = [one.config for one in entrants if one.config]
    name = label(game.name, game.args)
    make = plugins.bound("game", game.name, game.args)
    started = started_game(name, make)
    pool = Pool(plugins)
    models = [{"model": str(one.ref.path)} for one in entrants if one.ref.kind == "model"]
    config = configs[0] if configs else load(overrides=models[:1], find_model=find_model(plugins))
    loader = PolicyLoader(config, plugins, pool)
    policies: dict[str, PolicyId] = {}
    for one in sorted(entrants, key=lambda one: one.kind != "bot"):  # bots first: a mistake shows before a model loads
        if one.ref.has_weights:
            _set_threads(config)
        policies[one.name] = loader.load_ref(one.ref)
        if (bot := pool.bot_of(policies[one.name])) is not None:
            try:
                try_bot(bot, started)
            except SpiralError as error:
                raise SpiralError(f"{one.name} cannot take part: {error}") from error
            except Exception:
                continue  # a bot that breaks a promise forfeits in play, and the others' games go on
    return Participants(
        name, make, started.num_players, list(entrants), [policies[one.name] for one in entrants], pool, config
    )


def number_of(name: str, entrants: Sequence[Entrant]) -> int:
    """The place of a player by its name, or as it was written without the step. Raises SpiralError if it is none."""
    exact = [number for number, one in enumerate(entrants) if name in (one.name, str(one.ref))]
    of_run = [number for number, one in enumerate(entrants) if one.config and name == str(one.ref.path)]
    for numbers in (exact, of_run):
        if len(numbers) == 1:
            return numbers[0]
    raise SpiralError(f"no single player is called {name}; the players are: {', '.join(one.name for one in entrants)}")


def untrained(name: str, entrants: Sequence[Entrant]) -> str | None:
    """A sentence if none of the runs was trained on the game."""
    trained = {one.name: [label(g.name, g.args) for g in one.config.games] for one in entrants if one.config}
    if not trained or any(name in games for games in trained.values()):
        return None
    runs = "; ".join(f"{run} on {', '.join(games)}" for run, games in trained.items())
    return f"No run here was trained on {name}: {runs}."


def _entrant(word: str, ref: PolicyRef) -> Entrant:
    if ref.kind != "run":
        return Entrant(word, ref, None)
    ref = ref.resolved()
    _, config = open_run(ref.path)
    return Entrant(ref.place, ref, config)


def _set_threads(config: Config) -> None:
    import torch

    torch.set_num_threads(config.threads)
