"""Matches of the arena as JSON lines: what `spiral sft` and `spiral tournament` read."""

import json

import pytest
from click.testing import CliRunner

from spiral.arena import match_log
from spiral.arena.database import Database
from spiral.arena.export import Changed, Wanted, examples_of, export
from spiral.arena.records import Move
from spiral.arena.store import Store
from spiral.commands.main import main
from spiral.plugins.registry import Plugins
from spiral.selfplay.examples import line_of, read_examples
from spiral.selfplay.replay import check_examples

KUHN = [Move(0, "check", "I think. \\boxed{check}", True), Move(1, "raise", "", False), Move(1, "bet", "", True)]


@pytest.fixture
def played(tmp_path):
    """A store in which ann and bob ended three matches, and a fourth is in play."""
    database = Database(f"sqlite:///{tmp_path / 'arena.db'}")
    store = Store(database)
    ann, bob = (store.add_player(name, "model")[0] for name in ("ann", "bob"))
    ended = [
        ("kuhn_poker", [*KUHN, Move(0, "fold", "", True)], [-1.0, 1.0], "finished", None),
        ("kuhn_poker", [KUHN[0]], [2.0, -2.0], "timeout", 1),
        ("tic_tac_toe", [Move(n % 2, move, "", True) for n, move in enumerate("03142")], [1.0, -1.0], "finished", None),
        ("kuhn_poker", [KUHN[0]], None, "", None),
    ]
    for seed, (game, moves, returns, ending, offender) in enumerate(ended):
        match = store.now(match_log.start_match, game, seed, [ann.id, bob.id])
        for number, move in enumerate(moves):
            store.now(match_log.add_move, match, number, move)
        if returns is not None:
            store.now(match_log.finish_match, match, returns, ending, offender)
    yield store
    store.close()
    database.close()


def test_an_example_is_what_the_player_was_shown(played, host):
    """Found by playing the match again; the illegal move is no example, and a thought is told from the move."""
    first, second, third = examples_of(played.match(1), host)
    assert [one.move for one in (first, second, third)] == ["check", "bet", "fold"]
    assert (first.policy, first.policies, first.outcome) == ("ann", ["ann", "bob"], "loss")
    assert (first.thoughts, first.reply, second.reply) == ("I think.", KUHN[0].said, None)
    assert third.history == ["check", "bet"]
    assert first.legal_moves == ["check", "bet"]
    assert "p0" in first.observation


def test_a_file_of_matches_is_one_that_sft_takes(played, host, tmp_path):
    """Its own checks find nothing wrong, games played again among them."""
    path = tmp_path / "matches.jsonl"
    found = [one for _, one in export(played, host)]
    path.write_bytes(b"".join(line_of(example) for examples in found for example in examples))
    examples = read_examples(path)
    assert {one.number for one in examples} == {1, 2, 3}
    plugins = Plugins.installed()
    check_examples(examples, {name: plugins.bound("game", name, {}) for name in ("kuhn_poker", "tic_tac_toe")}, "it")


def test_one_player_or_the_winners_alone(played, host):
    """Who won because the other's clock ran out did not win by its moves."""
    assert {one.policy for _, found in export(played, host, "", Wanted(player="bob")) for one in found} == {"bob"}
    wins = [one for _, found in export(played, host, "", Wanted(keep="wins")) for one in found]
    assert {(one.number, one.policy) for one in wins} == {(1, "bob"), (3, "ann")}


def test_a_match_that_cannot_be_played_again_is_told(played, host):
    """Such as of a game that was changed since; the others are exported."""
    other = played.now(match_log.start_match, "kuhn_poker", 1, [1, 2])
    played.now(match_log.add_move, other, 0, Move(0, "castle", "", True))
    played.now(match_log.finish_match, other, [1.0, -1.0], "finished")
    found = [one for _, one in export(played, host)]
    assert [isinstance(one, Changed) for one in found] == [False, False, False, True]


def test_the_command_writes_the_file(played, tmp_path):
    """While the arena runs, or after it."""
    out = tmp_path / "matches.jsonl"
    asked = ["arena-export", "--db", f"sqlite:///{tmp_path / 'arena.db'}", "--out", str(out), "--games", "kuhn_poker"]
    result = CliRunner().invoke(main, asked, catch_exceptions=False)
    assert "2 matches; train on them with: spiral sft" in result.output
    assert {one.game for one in read_examples(out)} == {"kuhn_poker"}


def test_the_arena_gives_them_over_http(arena):
    """Page by page, in the order in which matches ended; nothing of a match in play."""
    token = arena.register("ann")
    with arena.connection(token) as ann:
        for _ in range(2):
            ann.send(kind="queue", games=["kuhn_poker"])
            ann.play()
    status, text = arena.ask("/api/export?limit=1")
    first = [json.loads(line) for line in text.splitlines()]
    assert (status, {one["number"] for one in first}) == (200, {1})
    assert {one["policy"] for one in first} <= {"ann", "random"}
    second = [json.loads(line) for line in arena.ask("/api/export?after=1&player=ann")[1].splitlines()]
    assert {(one["number"], one["policy"]) for one in second} <= {(2, "ann")}
    assert arena.ask("/api/export?after=2")[1] == ""
    assert arena.ask("/api/export?limit=x")[0] == 400
    assert arena.ask("/api/export?game=chess")[0] == 404
