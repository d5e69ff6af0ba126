"""What is counted of matches: who lost by an illegal move, and what was voided beside the figures."""

from types import SimpleNamespace

from spiral_games.native.kuhn_poker import KuhnPoker

from spiral.api.records import LEARNER, VoidedGame
from spiral.commands.evaluate import _voided
from spiral.config.schema import RolloutConfig
from spiral.evaluation.matches import MatchRunner, tally
from spiral.evaluation.measurements import _match_row
from spiral.plugins.registry import Plugins
from spiral.policies.completer import Completer
from spiral.policies.pool import Pool
from spiral.testing import make_episode
from spiral.testing.fakes import ScriptedEngine
from spiral.theory.intervals import wilson_interval

STOP = 0


class Errs:
    """Answers `move` in a tenth of its turns, else what is legal."""

    def __init__(self, move, external):
        self.move, self.external = move, external

    def choose(self, game, player, rng):
        return self.move if rng.random() < 0.1 else rng.choice(game.legal_moves())


def results(bot):
    def read(prompter, ids):
        return {1: "check", 2: "call"}[ids[0]]

    def encode(prompter, rules, observation, moves, turns):
        return (2 if observation.endswith("bet") else 1,)

    fresh = {"lists_moves": False, "has_history": False, "drops_turns": False}
    fresh |= {"continuation": None, "min_new_tokens": 1}
    prompter = type("Prompter", (), {"encode": encode, "read": read, "stop_ids": (STOP,), **fresh})()
    pool = Pool(Plugins(), Completer.of(ScriptedEngine(lambda request: [request.prompt[0], STOP]), prompter, 4))
    pool.add_bot("bot:mine", bot)
    runner = MatchRunner({"kuhn": KuhnPoker}, pool, RolloutConfig(deadline_s=5.0, max_voided=50))
    return runner.against("kuhn", LEARNER, "bot:mine", 60, (0, "test"))


def test_a_bots_faults_stand_beside_the_figures_and_not_in_them():
    """The games were replaced, and the row says how many and whose fault it was."""
    for one in results(Errs("?", external=False)):
        assert one.games == 60
        assert (one.illegal, one.opponents_illegal) == (0, 0)
        assert one.voided["bot:mine: illegal move"] > 0
        assert "; voided and replaced: " in _voided({"voided": one.voided})
        assert "by bot:mine: illegal move" in _voided({"voided": one.voided})


def test_every_share_is_of_the_same_games():
    """Two wins, a loss and a draw are four games in each figure; a fifth whose call failed is told beside them."""
    episodes = [make_episode([r, -r], game="kuhn", policies=[LEARNER, "bot:x"]) for r in (1.0, 2.0, -1.0, 0.0)]
    found = tally(episodes, 0, (-2.0, 2.0), [VoidedGame("kuhn", 0, (), "no answer", "timeout")])
    assert (found.wins, found.draws, found.losses, found.games, found.voided) == (2, 1, 1, 4, {"timeout": 1})
    row = _match_row(SimpleNamespace(step=0), "kuhn", "bot:x", 0, found)
    assert [row[name] * row["games"] for name in ("win", "draw", "loss")] == [2, 1, 1]
    assert (row["win_low"], row["win_high"]) == wilson_interval(2, 4)
    assert row["mean_return"] == 2 / 4
    assert _voided(row) == "; voided and replaced: 1 by timeout"


def test_games_won_by_the_illegal_move_of_a_remote_player_are_counted_as_such():
    """A win by no merit of one's own: counted by player."""
    for one in results(Errs("?", external=True)):
        assert (one.games, one.illegal, one.voided) == (60, 0, {})
        assert 0 < one.opponents_illegal < 60
    assert _voided({"voided": {}}) == ""
