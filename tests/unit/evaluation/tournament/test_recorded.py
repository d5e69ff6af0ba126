"""`spiral tournament GAMES.jsonl`: games that were played elsewhere are rated as they are."""

import json

import pytest
from click.testing import CliRunner

from spiral.commands.main import main
from spiral.selfplay.examples import Example, line_of


def example(number, policies, returns, ending="finished", game="kuhn_poker", player=0):
    return Example(
        game=game, number=number, deal=number, player=player, policy=policies[player], policies=list(policies),
        returns=list(returns), outcome="win", ending=ending, turn=0, turns=1, history=[], rules="", observation="K",
        legal_moves=None, thoughts="", move="bet", reply=None,
    )  # fmt: skip


@pytest.fixture
def games(tmp_path):
    """Ann wins 12 of 16 games against bob, and forfeits one of the others; cid drew with bob twice; ann met herself."""
    ann, bob = ("ann", "bob"), ("bob", "ann")
    found = [example(n, ann if n % 2 else bob, (1.0, -1.0) if n % 2 else (-1.0, 1.0)) for n in range(12)]
    found += [example(n, ann, (-1.0, 1.0), "illegal" if n == 12 else "finished") for n in range(12, 16)]
    found += [example(n, ("cid", "bob"), (0.0, 0.0), "timeout") for n in (16, 17)]
    found += [example(18, ("ann", "ann"), (1.0, -1.0)), example(19, ann, (1.0, -1.0), game="tic_tac_toe")]
    found += [example(0, bob, (-1.0, 1.0), player=1)]  # a second decision of a game that is counted already
    path = tmp_path / "games.jsonl"
    path.write_bytes(b"".join(map(line_of, found)))
    return path


def rated(path, *words):
    asked = ["tournament", str(path), *words, "--out", str(path.parent / "out"), "--json"]
    return json.loads(CliRunner().invoke(main, asked, catch_exceptions=False).stdout)


def test_each_game_counts_once(games):
    """By its players and returns; a game of a player against itself tells nothing."""
    record = rated(games, "--game", "kuhn_poker")
    assert record["games"] == 18
    cells = {(record["players"][c["row"]]["name"], record["players"][c["column"]]["name"]): c for c in record["cells"]}
    assert (cells["ann", "bob"]["wins"], cells["ann", "bob"]["losses"]) == (12, 4)
    assert (cells["cid", "bob"]["draws"], cells["cid", "bob"]["games"]) == (2, 2)
    assert ("ann", "cid") not in cells
    players = {one["name"]: one for one in record["players"]}
    assert players["ann"]["elo"] > players["bob"]["elo"]
    assert players["ann"]["illegal"] == 1 / 16
    assert "no two share a deal" in record["notes"][0]
    assert (games.parent / "out" / "tournament.html").exists()


def test_the_player_that_is_the_anchor_has_0(games):
    """As in any tournament."""
    record = rated(games, "--game", "kuhn_poker", "--anchor", "bob")
    assert {one["name"]: one["elo"] for one in record["players"]}["bob"] == 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "no game was named; .* has: kuhn_poker (19), tic_tac_toe (1)"),
        (["--game", "chess"], "there is no 'chess'"),
        (["--game", "kuhn_poker", "--anchor", "eve"], "no single player is called eve"),
    ],
)
def test_what_the_file_does_not_hold_is_told(games, words, reason):
    """In a sentence."""
    result = CliRunner().invoke(main, ["tournament", str(games), *words])
    assert result.exit_code == 2
    for part in reason.split(".*"):
        assert part.strip() in result.output
