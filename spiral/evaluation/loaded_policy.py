"""A policy, opened to be measured or played: a checkpoint's averaged weights, a saved model, or a bot."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from spiral.api.errors import SpiralError
from spiral.api.games import Game
from spiral.api.records import PolicyId, Turn
from spiral.config.loading import parse_plugin
from spiral.config.schema import Config
from spiral.config.trained import config_of
from spiral.engines.waiting import Deadline, completions
from spiral.models.logits import load_parameters, parameters
from spiral.plugins.registry import Plugins, label
from spiral.policies.loading import PolicyLoader, open_run, pretrained_plugin
from spiral.policies.pool import AVERAGED, Pool
from spiral.policies.reference import PolicyRef, short_name
from spiral.runs.checkpoints import evaluated_weights
from spiral.runs.directory import policy_folder, step_of
from spiral.selfplay.bot_faults import BotFault, choose
from spiral.selfplay.setup import Players, PlaySetup, make_games, make_play_setup
from spiral.selfplay.validation import check_to_play
from spiral.theory.game_tree import GameTree

NO_GAMES = (
    "this run learned from text and plays no game; begin self-play from its model: spiral train "
    "model=RUN/checkpoints/step-N/model games=NAME"
)


@dataclass
class LoadedPolicy:
    """A policy, ready to play as `policy`."""

    config: Config
    """How it is asked, and which games it plays."""
    step: int
    """Of a run's checkpoint; 0 for a saved model or a bot."""
    players: Players
    """A `PlaySetup` for a policy with weights."""
    policy: PolicyId = AVERAGED

    @classmethod
    def of_run(cls, path: Path, step: int | None = None, learner: str = "") -> LoadedPolicy:
        """A run's policy, as it was at `step` if one is given; of a run that trains several, the one named `learner`.

        Of its config only games, model, engine and prompt are made, and the model is read from the checkpoint. Raises
        RunError for a directory that is none, a step without a checkpoint, or a checkpoint of another model.
        """
        plugins = Plugins.installed()
        run, config = open_run(path)
        check_to_play(config, plugins)
        checkpoint = run.checkpoint(step)
        folder = policy_folder(checkpoint, learner)
        weights = evaluated_weights(folder)
        setup = make_play_setup(config, plugins, folder)
        with torch.no_grad():
            load_parameters(setup.model, weights)
        return cls._of(config_of(config, learner), setup, step_of(checkpoint))

    @classmethod
    def of_ref(cls, ref: PolicyRef) -> LoadedPolicy:
        """The policy of a run that a reference names; see `of_run`."""
        return cls.of_run(ref.path, ref.step, ref.learner)

    @classmethod
    def of_model(cls, path: Path, config: Config) -> LoadedPolicy:
        """A model that transformers saved, with the games and the prompt of `config`. Raises SpiralError."""
        plugins = Plugins.installed()
        config = replace(config, model=pretrained_plugin(PolicyRef("model", path=path).saved_model(), plugins))
        check_to_play(config, plugins)
        return cls._of(config, make_play_setup(config, plugins), 0)

    @classmethod
    def of_bot(cls, ref: PolicyRef, config: Config) -> LoadedPolicy:
        """A bot, with the games of `config`. Raises SpiralError."""
        plugins = Plugins.installed()
        check_to_play(config, plugins)
        pool = Pool(plugins)
        loader = PolicyLoader(config, plugins, pool)
        players = Players(make_games(config, plugins), pool, loader, config.rollout.max_turns)
        return cls(config, 0, players, loader.load_ref(ref))

    @classmethod
    def _of(cls, config: Config, setup: PlaySetup, step: int) -> LoadedPolicy:
        setup.completer.engine.load_weights(AVERAGED, parameters(setup.model), step)
        setup.pool.add_weights(AVERAGED)
        return cls(config, step, setup)

    @property
    def setup(self) -> PlaySetup:
        """What asks a policy with weights. Raises SpiralError for a bot."""
        if not isinstance(self.players, PlaySetup):
            raise SpiralError(
                f"{short_name(self.policy)} is a bot, whose probabilities are not known; name a run or a saved model"
            )
        return self.players

    def turn(self, match: Game, player: int, seed: int, turns: Sequence[Turn] = ()) -> tuple[Turn, str]:
        """Its turn as `player` after its own `turns` of the match, as yet not known to be legal, and all that it wrote.

        Raises SpiralError.
        """
        observation = match.observe(player)
        bot = self.players.pool.bot_of(self.policy)
        if bot is not None:
            try:
                move = choose(bot, match, player, random.Random(seed))
            except BotFault as fault:
                raise SpiralError(f"{self.policy} {fault}; mend the bot, which spiral check tests") from fault
            return Turn(observation, (), (), (), move, False, "stop", 0), move
        completer, deadline = self.setup.completer, Deadline(self.config.rollout.deadline_s, "raise rollout.deadline_s")
        moves = match.legal_moves() if completer.prompter.lists_moves else None
        prompt, left_out = completer.fitting(match.rules, observation, moves, turns)
        completer.engine.submit(completer.request(0, self.policy, prompt, seed))
        (reply,) = completions(completer.engine, 1, deadline)
        turn = Turn(
            observation, prompt, reply.ids, reply.logprobs, completer.read(reply), False, reply.finish, reply.version,
            legal_moves=None if moves is None else tuple(moves), left_out=left_out, forced=reply.forced,
        )  # fmt: skip
        return turn, str(self.setup.tokenizer.decode(list(reply.ids)))

    def game(self, name: str | None) -> str:
        """The label of one of its games, by its label or plain name. Raises SpiralError."""
        return game_label(list(self.players.games), name)

    def has_unique_replies(self, tree: GameTree) -> bool:
        """Whether each move has one reply, in a prompt that the observation alone decides, so that its probability can
        be scored."""
        return self.setup.completer.prompter.is_scored(tree.decisions[0].moves)


def game_label(labels: Sequence[str], name: str | None) -> str:
    """One of a run's games, by its label, as NAME:key=value or by its name alone. Raises SpiralError if that leaves a
    choice, or none."""
    if not labels:
        raise SpiralError(NO_GAMES)
    if name is None and len(labels) == 1:
        return labels[0]
    if name is None:
        named = []
    else:
        plugin = parse_plugin(name)
        asked = label(plugin.name, plugin.args)
        named = [g for g in labels if asked in (g, g.partition("(")[0])]
    if len(named) != 1:
        asked = "no game was named" if name is None else f"the run has no one game '{name}'"
        raise SpiralError(f"{asked}; it has: {', '.join(labels)}; name one with --game")
    return named[0]
