"""What a policy of the house sampled is kept with its move, and shown when the match has ended."""

import json
import math
from html import unescape

import pytest

from spiral.api.records import Completion
from spiral.arena import match_log, reply_tokens
from spiral.arena.export import examples_of
from spiral.arena.house import HousePlayer, PolicyChooser
from spiral.arena.records import Move
from spiral.arena.reply_tokens import Token, Tokens, kept, read_tokens, tokens_of
from spiral.evaluation.loaded_policy import LoadedPolicy
from spiral.plugins.registry import Plugins
from spiral.selfplay.setup import make_play_setup
from spiral.training.session import configure


def decode(ids):
    return bytes(ids).decode("utf-8", "replace")


def reply(text, logprob=-0.5, forced=()):
    ids = tuple(text.encode())
    probs = tuple(0.0 if n in forced else logprob for n in range(len(ids)))
    return Completion(0, ids, probs, "stop", 0, forced)


def test_the_tokens_of_a_reply_are_its_ids_as_text():
    """With the places that the prompt format filled; NULs as the database takes them."""
    told = tokens_of(reply("h\0é", -0.25, forced=(0,)), decode)
    assert [token.text for token in told.tokens] == ["h", "\ufffd", "", "é"]
    assert [token.forced for token in told.tokens] == [True, False, False, False]
    assert (told.logprob, told.length, told.left_out) == (-0.75, 4, 0)
    assert told.tokens[1].probability == pytest.approx(math.exp(-0.25))


def test_of_a_long_reply_the_last_tokens_are_kept(monkeypatch):
    """Its length and its log-probability are those of the whole."""
    monkeypatch.setattr(reply_tokens, "MAX_TOKENS", 3)
    told = tokens_of(reply("abcde"), decode)
    assert [token.text for token in told.tokens] == ["c", "d", "e"]
    assert (told.length, told.left_out, told.logprob) == (5, 2, -2.5)


def test_they_are_kept_with_the_move_once(store):
    """A write that is done again changes nothing; a move without any has none."""
    ann, bob = (store.add_player(name, "model")[0] for name in ("ann", "bob"))
    match = store.now(match_log.start_match, "kuhn_poker", 0, [ann.id, bob.id])
    told = Tokens((Token("be", -0.5, False), Token("t", 0.0, True)), -1.5, 4)
    for _ in range(2):
        store.now(match_log.add_move, match, 0, Move(0, "bet", "bet", True), told)
    store.now(match_log.add_move, match, 1, Move(1, "fold", "", True))
    assert read_tokens(store.database, match) == {0: told}
    assert read_tokens(store.database, match, 1) == {}
    assert {number: (one.length, one.logprob) for number, one in kept(store.database, match).items()} == {0: (6, -1.5)}


def test_the_export_has_them_where_they_are_whole(store, host):
    """By the number of the move: an illegal one before it has its own."""
    ann, bob = (store.add_player(name, "model")[0] for name in ("ann", "bob"))
    match = store.now(match_log.start_match, "kuhn_poker", 0, [ann.id, bob.id])
    said = [
        ("bid", False, Tokens((Token("bid", -9.0, False),), -9.0)),
        ("bet", True, Tokens((Token("bet", -0.5, False),), -0.5)),
    ]
    for number, (move, legal, told) in enumerate(said):
        store.now(match_log.add_move, match, number, Move(0, move, move, legal), told)
    store.now(match_log.add_move, match, 2, Move(1, "fold", "fold", True), Tokens((Token("d", 0.0, False),), -3.0, 3))
    store.now(match_log.finish_match, match, [1.0, -1.0], "finished")
    found = examples_of(store.match(match), host, tokens=read_tokens(store.database, match))
    assert [(one.tokens, one.logprobs) for one in found] == [(["bet"], [-0.5]), (None, None)]


@pytest.fixture(scope="module")
def policy():
    """An untrained byte model, asked by a prompt whose replies are the moves."""
    config = configure({"model": "byte-0.1m", "games": ["kuhn_poker", "tic_tac_toe"]})
    return LoadedPolicy._of(config, make_play_setup(config, Plugins.installed()), 0)


def test_a_replay_shows_what_the_house_sampled(arena, policy):
    """Page and interface, once the match has ended; no message of the match has any of it."""
    model = HousePlayer(arena.store.house_player("untrained"), PolicyChooser(policy.setup.completer, policy.policy))
    arena.lobby._house = {"tic_tac_toe": [model]}
    with arena.connection(arena.register("ann", "guest")) as ann:
        ann.send(kind="queue", games=["tic_tac_toe"])
        match = ann.play()["match"]
    assert "logprob" not in json.dumps(ann.heard)
    told = json.loads(arena.ask(f"/api/matches/{match}")[1])
    number, move = next((n, one) for n, one in enumerate(told["moves"]) if one["reply"])
    assert all(one["reply"] is None for one in told["moves"] if one["seat"] != move["seat"])
    total = sum(token["logprob"] for token in move["reply"]["tokens"])
    assert total == pytest.approx(move["reply"]["logprob"], abs=0.01)
    assert total < 0
    assert f'href="/matches/{match}/tokens/{number}"' in arena.ask(f"/matches/{match}")[1]
    page = unescape(arena.ask(f"/matches/{match}/tokens/{number}")[1])
    assert f"log-probability {move['reply']['tokens'][0]['logprob']:.3f}" in page
    assert arena.ask(f"/matches/{match}/tokens/99")[0] == 404


def test_nothing_of_it_is_shown_before_the_end(arena):
    """What a policy thinks tells what it holds."""
    ann, bob = (arena.store.add_player(name, "model")[0] for name in ("ann", "bob"))
    match = arena.store.now(match_log.start_match, "kuhn_poker", 0, [ann.id, bob.id])
    arena.store.now(match_log.add_move, match, 0, Move(0, "bet", "K: bet", True), tokens_of(reply("K: bet"), decode))
    paths = [f"/api/matches/{match}", f"/matches/{match}", f"/matches/{match}/tokens/0"]
    assert [arena.ask(path)[0] for path in paths] == [404, 404, 404]
    assert arena.ask("/api/export")[1] == ""
    arena.store.now(match_log.finish_match, match, [1.0, -1.0], "timeout")
    assert [arena.ask(path)[0] for path in paths] == [200, 200, 200]
    assert json.loads(arena.ask("/api/export")[1])["tokens"] == list("K: bet")


def test_the_text_of_tokens_is_text(arena):
    """What a model writes becomes no markup."""
    ann, bob = (arena.store.add_player(name, "model")[0] for name in ("ann", "bob"))
    told = Tokens((Token("<script>", -0.5, False), Token("\x1b", 0.0, True), Token("", -0.1, False)), -0.6)
    said = "<think><b>high</b></think>\\boxed{bet}"

    def played(connection):
        number = match_log.start_match(connection, "kuhn_poker", 0, [ann.id, bob.id])
        match_log.add_move(connection, number, 0, Move(0, "bet", said, True), told)
        match_log.finish_match(connection, number, [1.0, -1.0], "timeout")
        return number

    match = arena.store.now(played)  # at once: the arena may be looking for matches to go on with still
    page = arena.ask(f"/matches/{match}/tokens/0")[1]
    assert "<script>" not in page.split("<main", 1)[1]
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page
    assert "put there by the prompt format" in page
    page = arena.ask(f"/matches/{match}")[1]
    assert '<summary>Thought</summary><pre class="told">&lt;b&gt;high&lt;/b&gt;</pre>' in page
