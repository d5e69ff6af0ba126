"""Games of a fleet, against the same games in one process; with players that are lost, join and leave."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import yaml

from spiral.api.errors import RunError, SpiralError
from spiral.api.hooks import hookimpl
from spiral.api.records import LEARNER
from spiral.cluster.backends import OwnEngine
from spiral.cluster.buckets import buckets, layout_of
from spiral.cluster.engine import FleetEngine
from spiral.cluster.fleet import Fleet
from spiral.cluster.games import FleetGames
from spiral.cluster.orders import Load, Orders, Ticket
from spiral.cluster.player import Player
from spiral.cluster.versions import Origin, versions
from spiral.plugins.registry import Plugins
from spiral.selfplay.draws import Draw, Draws
from spiral.selfplay.setup import make_training_setup
from spiral.testing.crew import LocalCrew
from tests.unit.cluster.played import PLUGINS, config_of_games, moves


@pytest.mark.parametrize("num", [1, 2, 3])
def test_a_fleet_plays_what_one_process_plays(made, num):
    """The same games with the same replies, each turn with the version of its step, for any number of players."""
    games = made(config_of_games(), num=num)
    for step in range(3):
        games.load(step)
        played = games.games.of_step(step)
        assert moves(played) == moves(games.alone(step))
        assert sum(len(e.players) for e in played) > 1.5 * len(played)
        assert {turn.version for e in played for t in e.trajectories for turn in t.turns} == {step}


def test_lost_players_games_are_played_elsewhere_and_counted_once(made):
    """Every third order kills its player: the games are the same, and none is there twice."""
    games = made(config_of_games(), num=2, dies=lambda player, n: n % 3 == 2)
    for step in range(3):
        games.load(step)
        assert moves(games.games.of_step(step)) == moves(games.alone(step))
    assert games.crew.num_lost > 2
    assert games.fleet.num_losses == games.crew.num_lost == len(games.losses)
    assert "which are begun again: it was killed" in games.losses[0]


def test_a_player_that_came_back_loads_the_present_weights_first(made):
    """Known failure (miles#1724): a replaced engine serves the weights it started with. No reply of version 0 after
    step 0, whichever process made it."""
    games = made(config_of_games(), num=1, dies=lambda player, n: n == 3)
    for step in range(3):
        games.load(step)
        played = games.games.of_step(step)
        assert {turn.version for e in played for t in e.trajectories for turn in t.turns} == {step}
    assert games.crew.num_lost == 1


def test_one_version_may_be_loaded_twice_with_other_weights(made):
    """As a warm start does; the players have those that came last."""
    games = made(config_of_games(), num=2)
    games.load(0, seed=7)
    games.games.of_step(0)
    games.load(0, seed=8)
    assert moves(games.games.of_step(0)) == moves(games.alone(0))


def test_players_join_and_leave(made):
    """One more in step 1, and the first leaves for good in step 2."""
    games = made(config_of_games(), num=1)
    games.load(0)
    games.games.of_step(0)
    games.crew.join("late")
    games.fleet.wait(lambda: len(games.fleet.facts()) == 2, 30.0)
    games.load(1)
    assert moves(games.games.of_step(1)) == moves(games.alone(1))
    assert {name for name, orders in games.crew.ordered if orders.tickets} == {"player-0", "late"}
    games.crew.leave("player-0")
    games.fleet.wait(lambda: len(games.fleet.facts()) == 1, 30.0)
    games.load(2)
    assert moves(games.games.of_step(2)) == moves(games.alone(2))


def test_games_of_later_steps_begin_within_the_bound(made):
    """With a bound of 2, games of steps 0 to 2 begin with version 0; none is ever older than the bound when it is
    used, and each step's games are those of its seed."""
    games = made(config_of_games(steps=6), staleness=2, num=2)
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
    games = made(config_of_games(steps=6), staleness=2, num=2)
    for step in range(3):
        games.load(step)
        games.games.of_step(step)
    games.load(1)
    played = games.games.of_step(1)
    assert {turn.version for e in played for t in e.trajectories for turn in t.turns} == {1}
    assert len(played) == 24


def test_single_requests_are_answered_by_all_players(made):
    """As evaluation asks them: the replies are those of an engine in this process."""
    games = made(config_of_games(), num=2)
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
    crew = LocalCrew(config_of_games(), PLUGINS, num=0)
    fleet = Fleet(crew, "learner-0", 64, 60.0)
    with pytest.raises(RunError, match=r"no engine of the cluster was ready after 1 s.*cluster\.args\.start_s"):
        FleetEngine(fleet, 1.0)
    fleet.close()


def test_other_software_on_a_node_is_refused():
    """Both versions, by name and host."""
    origin = Origin("head", ".", {**versions(PLUGINS), "spiral-games": "9"})
    fleet = Fleet(LocalCrew(config_of_games(), PLUGINS, 1, origin=origin), "a", 64, 60.0)
    with pytest.raises(RunError, match=r"spiral-games is 9 on head and .* on .*install the same versions"):
        FleetEngine(fleet, 30.0)
    fleet.close()


def test_groups_are_whole_whoever_dies(made):
    """Known failures (prime-rl#2585, AReaL#1559, agentcore-rl-toolkit#122): a group of which only a part came back, and
    a placeholder for a game that failed. Groups of 4 of one deal, with a player lost in every third order: the same
    games as one process plays, four of each deal."""
    games = made(config_of_games(**{"rollout.group_size": 4}), num=2, dies=lambda player, n: n % 3 == 2)
    games.load(0)
    played = games.games.of_step(0)
    assert moves(played) == moves(games.alone(0))
    deals = [e.deal for e in played]
    assert {deals.count(deal) for deal in deals} == {4}
    assert games.crew.num_lost > 0


def test_two_learner_processes_play_what_one_would(made, legal):
    """Two clients of the same players, each with every other group; the second one's weights are the first one's."""
    config = config_of_games()
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
                assert moves(both) == moves(games.alone(step))
    finally:
        second.close()


def test_a_client_that_starts_again_gives_up_what_it_had_asked(made):
    """As a learner does that was killed: the players play on for the new one alone."""
    config = config_of_games()
    games = made(config, num=1)
    games.load(0)
    games.fleet.play([Ticket(0, games.draws.draw(5, n)) for n in range(24)])
    games.fleet.close()
    again = Fleet(games.crew, "learner-0:again", 64, 60.0)
    try:
        again.load(LEARNER, games.sent, 0)
        assert moves(FleetGames(again, games.draws, config, 0).of_step(0)) == moves(games.alone(0))
    finally:
        again.close()


def test_a_silent_player_is_named():
    """Every wait has a deadline."""

    class Silent(LocalCrew):
        def wait(self, calls, timeout_s):
            time.sleep(timeout_s)
            return []

    fleet = Fleet(Silent(config_of_games(), PLUGINS, 1), "learner-0:1", 64, 0.5)
    with pytest.raises(RunError, match=r"player-0 \(not started yet\) has not answered for 0\.5 s"):
        FleetEngine(fleet, 30.0)
    fleet.close()


def test_no_game_begins_before_its_weights_are_there(legal):
    """Known failure (tunix#2096): the first replies come from random weights. A player that was given games and no
    weights waits, and plays once they are there."""
    config = config_of_games()
    sent = list(buckets(legal))
    backend = OwnEngine(config, PLUGINS, sent.__getitem__)
    player = Player(config, PLUGINS, lambda *_: backend, Origin.here(PLUGINS))
    draws = Draws(backend.players.games, *_samplers(config), backend.players.pool)
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
    games = made(config_of_games(), num=1)
    games.load(0)
    games.games.of_step(0)
    games.crew.leave("player-0")
    games.fleet._deadline_s = 1.5
    games.load(1)
    with pytest.raises(RunError, match=r"has had no process to play or to answer for 1\.5 s"):
        games.games.of_step(1)


class Keeps:
    """A bot that learns, so that two of it would be two bots."""

    state: dict = {}  # noqa: RUF012

    def choose(self, game, player, rng):
        return game.legalmoves()[0]


class KeepsPlugin:
    @hookimpl
    def register_bots(self, register):
        register("keeps", Keeps)


def test_bots_that_a_sampler_names_are_made_by_the_players(made):
    """One without arguments and one with: the games are those of one process."""
    for opponent in ("{opponent: random}", "{opponent: equilibrium, args: {alpha: 0.2}}"):
        games = made(config_of_games(**{"opponents": {"name": "fixed", "args": yaml.safe_load(opponent)}}), num=2)
        games.load(0)
        played = games.games.of_step(0)
        assert moves(played) == moves(games.alone(0))
        assert {p.partition("(")[0] for e in played for p in e.policies} > {LEARNER}


def test_a_bot_with_a_state_is_refused(legal):
    """Each player would have another one, and no checkpoint any of them."""
    plugins = Plugins.installed()
    plugins.add(KeepsPlugin(), "keeping")
    player = Player(config_of_games(), plugins, lambda *made: OwnEngine(*made, {}.__getitem__), Origin.here(plugins))
    ticket = Ticket(0, Draw(0, 0, "kuhn_poker", (LEARNER, "bot:keeps"), 1, 1))
    with pytest.raises(SpiralError, match=r"bot:keeps keeps a state of its own, and each player of the cluster"):
        player.work("a", Orders(player.incarnation, tickets=[ticket]))


class Files:
    """A bot that keeps files, and tells in which folder."""

    def __init__(self, single=False):
        self.single, self.folders = single, []

    def keep_in(self, folder):
        self.folders.append(folder)

    def choose(self, game, player, rng):
        return game.legal_moves()[0]


class FilesPlugin:
    @hookimpl
    def register_bots(self, register):
        register("files", Files)


def test_bots_keep_their_files_in_the_run_and_single_ones_on_one_player_alone(tmp_path):
    """Each player's own in the same folder, as of several processes without a cluster; one that only one process can
    play begins with the first of its games."""
    plugins = Plugins.installed()
    plugins.add(FilesPlugin(), "files")
    backend = OwnEngine(config_of_games(), plugins, {}.__getitem__)
    player = Player(config_of_games(), plugins, lambda *_: backend, Origin.here(plugins), tmp_path)
    pool = backend.players.pool
    many, one = pool.bot("files"), pool.bot("files", single=True)
    assert (pool.bot_of(many).folders, pool.bot_of(one).folders) == ([tmp_path], [])
    for index in range(2):
        draw = Draw(index, 0, "kuhn_poker", (many, one), 1, 1)
        player.work("a", Orders(player.incarnation, tickets=[Ticket(0, draw, is_single=True)]))
    assert (pool.bot_of(many).folders, pool.bot_of(one).folders) == ([tmp_path], [tmp_path])


def test_games_of_a_single_bot_go_to_one_player(made):
    """The draws say which they are; whichever player it is has all of them."""
    games = made(config_of_games(), num=2)
    games.load(0)
    bot = games.setup.pool.bot("random")
    games.setup.pool.bot_of(bot).single = True
    draws = [games.draws.draw(3, n) for n in range(12)]
    draws = [replace(draw, policies=(LEARNER, bot if n % 2 else LEARNER)) for n, draw in enumerate(draws)]
    games.fleet.play([games.games._ticket(0, draw) for draw in draws])
    assert games.fleet.wait(lambda: games.fleet.results.num_done((0, n) for n in range(12)) == 12, 60.0)
    to = {(name, t.is_single) for name, orders in games.crew.ordered for t in orders.tickets}
    assert len({name for name, single in to if single}) == 1
    assert len({name for name, _ in to}) == 2


def test_a_learner_that_starts_again_is_not_answered_with_the_weights_of_before(made):
    """Its second process asks before the first one gave anything: it waits, whatever loads the players still have."""
    games = made(config_of_games(), num=1)
    for version in range(5):
        games.load(version)
        games.games.of_step(version) if version < 4 else None
    games.fleet.close()
    second, first = (
        Fleet(games.crew, f"learner-{rank}:again", 64, 60.0, gives_weights=rank == 0, num_starts=1) for rank in (1, 0)
    )
    try:
        second.load(LEARNER, games.weights, 2)
        second.play([Ticket(2, games.draws.draw(5, 0))])
        assert not second.wait(lambda: second.results.num_done([(2, 0)]) == 1, 1.0)
        first.load(LEARNER, games.weights, 2)
        first.play([Ticket(2, games.draws.draw(5, 1))])
        assert second.wait(lambda: second.results.num_done([(2, 0)]) == 1, 60.0)
        _, episodes = second.results.take((2, 0))
        assert {turn.version for e in episodes for x in e.trajectories for turn in x.turns} == {2}
    finally:
        first.close()
        second.close()
