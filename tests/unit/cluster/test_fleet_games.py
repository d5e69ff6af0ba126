"""Games of a fleet, against the same games in one process; with players that are lost, join and leave."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import yaml

from spiral.api.errors import RunError, SpiralError
from spiral.api.hooks import hookimpl
from spiral.api.progress import no_progress
from spiral.api.records import LEARNER
from spiral.cluster.buckets import buckets, layout_of
from spiral.cluster.engine import FleetEngine
from spiral.cluster.fleet import Fleet
from spiral.cluster.games import FleetGames
from spiral.cluster.orders import Load, Orders, Ticket
from spiral.cluster.player import Player
from spiral.cluster.versions import Origin, versions
from spiral.models.logits import parameters
from spiral.plugins.registry import Plugins
from spiral.selfplay.draws import Draw, Draws
from spiral.selfplay.rollouts import Rollouts
from spiral.selfplay.setup import make_play_setup, make_training_setup, turn_record
from spiral.testing.crew import LocalCrew
from spiral.training.initial_weights import warm_start_weights
from spiral.training.session import configure

PLUGINS = Plugins.installed()


def _config(**more):
    asked = {
        "steps": 4, "rollout.episodes": 24, "warm_start.max_steps": 60, "warm_start.batch": 64, "warm_start.check_every": 60,
        "evaluate.opponents": [], "loggers": [], "rollout.max_new_tokens": 8,
    }  # fmt: skip
    return configure(None, **{**asked, **more})


@pytest.fixture(scope="module")
def legal():
    """Weights that mostly move legally, so that games have several turns."""
    config = _config()
    setup = make_play_setup(config, PLUGINS)
    warm_start_weights(config, setup, PLUGINS, no_progress)
    return {name: weight.clone() for name, weight in parameters(setup.model).items()}


class Games:
    """A step's games by one process, and by a fleet."""

    def __init__(self, weights, config, staleness=0, **crew):
        self.config, self.weights = config, weights
        self.setup = make_play_setup(config, PLUGINS)
        self.training = make_training_setup(config, PLUGINS)
        self.crew = LocalCrew(config, PLUGINS, **crew)
        self.losses = []
        self.fleet = Fleet(self.crew, "learner-0:1", 64, 60.0, on_loss=self.losses.append)
        self.engine = FleetEngine(self.fleet, 60.0)
        sources = self.setup.games, self.training.curriculum, self.training.opponents, self.setup.pool
        self.draws = Draws(*sources)
        self.games = FleetGames(self.fleet, self.draws, config, staleness)
        record = turn_record(config, self.training.advantages)
        self.local = Rollouts(*sources, config.rollout, record=record)

    def load(self, version, seed=None):
        torch.manual_seed(version if seed is None else seed)
        weights = {name: weight + 0.01 * torch.randn_like(weight) for name, weight in self.weights.items()}
        self.sent = weights
        for engine in (self.engine, self.setup.completer.engine):
            engine.load_weights(LEARNER, weights, version)

    def alone(self, step):
        return self.local.play(self.config.rollout.episodes, (self.config.seed, "rollout", step))


@pytest.fixture
def made(legal):
    made = []

    def make(*args, **more):
        made.append(Games(legal, *args, **more))
        return made[-1]

    yield make
    for games in made:
        games.fleet.close()


def _moves(episodes):
    return [(e.deal, e.returns, [t.reply for x in e.trajectories for t in x.turns]) for e in episodes]


@pytest.mark.parametrize("num", [1, 2, 3])
def test_a_fleet_plays_what_one_process_plays(made, num):
    """The same games with the same replies, each turn with the version of its step, for any number of players."""
    games = made(_config(), num=num)
    for step in range(3):
        games.load(step)
        played = games.games.of_step(step)
        assert _moves(played) == _moves(games.alone(step))
        assert sum(len(e.players) for e in played) > 1.5 * len(played)
        assert {turn.version for e in played for t in e.trajectories for turn in t.turns} == {step}


def test_lost_players_games_are_played_elsewhere_and_counted_once(made):
    """Every third order kills its player: the games are the same, and none is there twice."""
    games = made(_config(), num=2, dies=lambda player, n: n % 3 == 2)
    for step in range(3):
        games.load(step)
        assert _moves(games.games.of_step(step)) == _moves(games.alone(step))
    assert games.crew.num_lost > 2
    assert games.fleet.num_losses == games.crew.num_lost == len(games.losses)
    assert "which are begun again: it was killed" in games.losses[0]


def test_a_player_that_came_back_loads_the_present_weights_first(made):
    """Known failure (miles#1724): a replaced engine serves the weights it started with. No reply of version 0 after
    step 0, whichever process made it."""
    games = made(_config(), num=1, dies=lambda player, n: n == 3)
    for step in range(3):
        games.load(step)
        played = games.games.of_step(step)
        assert {turn.version for e in played for t in e.trajectories for turn in t.turns} == {step}
    assert games.crew.num_lost == 1


def test_one_version_may_be_loaded_twice_with_other_weights(made):
    """As a warm start does; the players have those that came last."""
    games = made(_config(), num=2)
    games.load(0, seed=7)
    games.games.of_step(0)
    games.load(0, seed=8)
    assert _moves(games.games.of_step(0)) == _moves(games.alone(0))


def test_players_join_and_leave(made):
    """One more in step 1, and the first leaves for good in step 2."""
    games = made(_config(), num=1)
    games.load(0)
    games.games.of_step(0)
    games.crew.join("late")
    games.fleet.wait(lambda: len(games.fleet.facts()) == 2, 30.0)
    games.load(1)
    assert _moves(games.games.of_step(1)) == _moves(games.alone(1))
    assert {name for name, orders in games.crew.ordered if orders.tickets} == {"player-0", "late"}
    games.crew.leave("player-0")
    games.fleet.wait(lambda: len(games.fleet.facts()) == 1, 30.0)
    games.load(2)
    assert _moves(games.games.of_step(2)) == _moves(games.alone(2))


def test_games_of_later_steps_begin_within_the_bound(made):
    """With a bound of 2, games of steps 0 to 2 begin with version 0; none is ever older than the bound when it is
    used, and each step's games are those of its seed."""
    games = made(_config(steps=6), staleness=2, num=2)
    deals = []
    for step in range(6):
        games.load(step)
        played = games.games.of_step(step)
        versions_ = {turn.version for e in played for t in e.trajectories for turn in t.turns}
        assert max(0, step - 2) <= min(versions_) <= max(versions_) <= step
        deals.append([e.deal for e in played])
    alone = [[e.deal for e in games.alone(step)] for step in range(6)]
    assert deals == alone
    asked = [t.step for _, orders in games.crew.ordered for t in orders.tickets]
    assert len(asked) == 6 * 24


def test_a_run_that_goes_back_counts_no_game_of_before(made):
    """Step 1 once more after step 2, with other weights: what was asked for with the old ones is given up."""
    games = made(_config(steps=6), staleness=2, num=2)
    for step in range(3):
        games.load(step)
        games.games.of_step(step)
    games.load(1)
    played = games.games.of_step(1)
    assert {turn.version for e in played for t in e.trajectories for turn in t.turns} == {1}
    assert len(played) == 24


def test_single_requests_are_answered_by_all_players(made):
    """As evaluation asks them: the replies are those of an engine in this process."""
    games = made(_config(), num=2)
    games.load(3)
    completer = games.setup.completer
    requests = [completer.request(n, LEARNER, (5, 6, 7 + n), n) for n in range(10)]
    found = {}
    for request in requests:
        games.engine.submit(request)
        completer.engine.submit(request)
    alone = {}
    while len(alone) < 10:
        alone |= {c.request_id: c for c in completer.engine.step()}
    while len(found) < 10:
        found |= {c.request_id: c for c in games.engine.step()}
    assert {n: c.ids for n, c in found.items()} == {n: c.ids for n, c in alone.items()}


def test_no_player_at_all_is_one_sentence():
    crew = LocalCrew(_config(), PLUGINS, num=0)
    fleet = Fleet(crew, "learner-0", 64, 60.0)
    with pytest.raises(RunError, match=r"no player of the cluster was ready after 1 s.*cluster\.args\.start_s"):
        FleetEngine(fleet, 1.0)
    fleet.close()


def test_other_software_on_a_node_is_refused():
    """Both versions, by name and host."""
    origin = Origin("head", ".", {**versions(PLUGINS), "spiral-games": "9"})
    fleet = Fleet(LocalCrew(_config(), PLUGINS, 1, origin=origin), "a", 64, 60.0)
    with pytest.raises(RunError, match=r"spiral-games is 9 on head and .* on .*install the same versions"):
        FleetEngine(fleet, 30.0)
    fleet.close()


def test_groups_are_whole_whoever_dies(made):
    """Known failures (prime-rl#2585, AReaL#1559, agentcore-rl-toolkit#122): a group of which only a part came back, and
    a placeholder for a game that failed. Groups of 4 of one deal, with a player lost in every third order: the same
    games as one process plays, four of each deal."""
    games = made(_config(**{"rollout.group_size": 4}), num=2, dies=lambda player, n: n % 3 == 2)
    games.load(0)
    played = games.games.of_step(0)
    assert _moves(played) == _moves(games.alone(0))
    deals = [e.deal for e in played]
    assert {deals.count(deal) for deal in deals} == {4}
    assert games.crew.num_lost > 0


def test_two_learner_processes_play_what_one_would(made, legal):
    """Two clients of the same players, each with every other group; the second one's weights are the first one's."""
    config = _config()
    games = made(config, num=2)
    second = Fleet(games.crew, "learner-1:x", 64, 60.0, gives_weights=False)
    try:
        other = FleetGames(second, games.draws, config, 0, rank=1, world=2)
        first = FleetGames(games.fleet, games.draws, config, 0, rank=0, world=2)
        with ThreadPoolExecutor() as pool:
            for step in range(2):
                # The second asks first, and waits for weights that only the first one gives.
                second.load(LEARNER, games.weights, step)
                theirs = pool.submit(other.of_step, step)
                games.load(step)
                mine = first.of_step(step)
                both = [episode for pair in zip(mine, theirs.result(60), strict=True) for episode in pair]
                assert _moves(both) == _moves(games.alone(step))
    finally:
        second.close()


def test_a_client_that_starts_again_gives_up_what_it_had_asked(made):
    """As a learner does that was killed: the players play on for the new one alone."""
    config = _config()
    games = made(config, num=1)
    games.load(0)
    games.fleet.play([Ticket(0, games.draws.draw(5, n)) for n in range(24)])
    games.fleet.close()
    again = Fleet(games.crew, "learner-0:again", 64, 60.0)
    try:
        again.load(LEARNER, games.sent, 0)
        assert _moves(FleetGames(again, games.draws, config, 0).of_step(0)) == _moves(games.alone(0))
    finally:
        again.close()


def test_engines_sleep_while_the_learner_updates(made):
    """Where they share its GPUs: all are told, and have slept before the update goes on."""
    games = made(_config(), num=2)
    games.load(0)
    engine = FleetEngine(games.fleet, 60.0, is_shared=True)
    games.games.of_step(0)
    assert engine.sleep()
    told = [orders.asleep for _, orders in games.crew.ordered]
    assert told[-2:] == [True, True]
    engine.wake()
    games.load(1)
    assert _moves(games.games.of_step(1)) == _moves(games.alone(1))
    assert not FleetEngine(games.fleet, 60.0).sleep()


def test_a_silent_player_is_named():
    """Every wait has a deadline."""

    class Silent(LocalCrew):
        def wait(self, calls, timeout_s):
            time.sleep(timeout_s)
            return []

    fleet = Fleet(Silent(_config(), PLUGINS, 1), "learner-0:1", 64, 0.5)
    with pytest.raises(RunError, match=r"player-0 \(not started yet\) has not answered for 0\.5 s"):
        FleetEngine(fleet, 30.0)
    fleet.close()


def test_no_game_begins_before_its_weights_are_there(legal):
    """Known failure (tunix#2096): the first replies come from random weights. A player that was given games and no
    weights waits, and plays once they are there."""
    config = _config()
    sent = list(buckets(legal))
    player = Player(config, PLUGINS, sent.__getitem__, Origin.here(PLUGINS))
    draws = Draws(player.setup.games, *_samplers(config), player.setup.pool)
    tickets = [Ticket(0, draws.draw(3, n)) for n in range(4)]
    waiting = player.work("a", Orders(player.incarnation, needs={LEARNER: 1}, tickets=tickets))
    assert not waiting.finished
    load = Load(LEARNER, 7, 1, [(layout_of(bucket), n) for n, bucket in enumerate(sent)])
    report, finished = player.work("a", Orders(player.incarnation, loads=[load])), []
    while len(finished) < 4:
        finished += report.finished
        report = player.work("a", Orders(player.incarnation))
    assert {t.version for _, games in finished for e in games for x in e.trajectories for t in x.turns} == {7}
    assert player.work("a", Orders("another")).was_refused


def _samplers(config):
    training = make_training_setup(config, PLUGINS)
    return training.curriculum, training.opponents


def test_a_cluster_that_lost_all_its_players_is_one_sentence(made):
    """They were started again too often, say: the run does not wait for ever."""
    games = made(_config(), num=1)
    games.load(0)
    games.games.of_step(0)
    games.crew.leave("player-0")
    games.fleet._deadline_s = 1.5
    games.load(1)
    with pytest.raises(RunError, match=r"has had no player that is ready for 1\.5 s"):
        games.games.of_step(1)


class Keeps:
    """A bot that learns, so that two of it would be two bots."""

    state: dict = {}  # noqa: RUF012

    def choose(self, game, player, rng):
        return game.legal_moves()[0]


class KeepsPlugin:
    @hookimpl
    def register_bots(self, register):
        register("keeps", Keeps)


def test_bots_that_a_sampler_names_are_made_by_the_players(made):
    """One without arguments and one with: the games are those of one process."""
    for opponent in ("{opponent: random}", "{opponent: equilibrium, args: {alpha: 0.2}}"):
        games = made(_config(**{"opponents": {"name": "fixed", "args": yaml.safe_load(opponent)}}), num=2)
        games.load(0)
        played = games.games.of_step(0)
        assert _moves(played) == _moves(games.alone(0))
        assert {p.partition("(")[0] for e in played for p in e.policies} > {LEARNER}


def test_a_bot_with_a_state_is_refused(legal):
    """Each player would have another one, and no checkpoint any of them."""
    plugins = Plugins.installed()
    plugins.add(KeepsPlugin(), "keeping")
    player = Player(_config(), plugins, lambda place: {}, Origin.here(plugins))
    ticket = Ticket(0, Draw(0, 0, "kuhn_poker", (LEARNER, "bot:keeps"), 1, 1))
    with pytest.raises(SpiralError, match=r"bot:keeps keeps a state of its own, and each player of the cluster"):
        player.work("a", Orders(player.incarnation, tickets=[ticket]))
