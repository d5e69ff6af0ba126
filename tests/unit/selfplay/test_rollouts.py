"""How games are played: no lock step, three kinds of failure kept apart, groups whole, and every draw from the seed.

A game moves on as soon as its own reply is there. An illegal, unreadable or cut-off reply is the player's fault: it
is scored, after the retries that the config grants. Whatever a game raises and returns that are no returns are the
game's fault: the match is voided with its whole group, replaced by another deal, and reported so that the report
reproduces it. A game that is too long is cut, and worth what the config says. A silent engine stops the run. The
episodes are a function of the seed: not of how fast the engine is, nor of how many games are in play, nor of how many
processes share them.
"""

import math
import random
import re
import time

import pytest
from spiral_games.native.kuhn_poker import KuhnPoker
from spiral_models.byte.tokenizer import ByteTokenizer

from spiral.api.errors import RunError, SpiralError
from spiral.api.games import IllegalMove
from spiral.api.records import LEARNER, Completion
from spiral.config.schema import RolloutConfig
from spiral.models.prompt_cache import Prompter
from spiral.models.prompts import PlainFormat
from spiral.plugins.registry import Plugins
from spiral.policies.completer import Completer
from spiral.policies.pool import Pool
from spiral.seeds import derive
from spiral.selfplay.curriculum import Weighted
from spiral.selfplay.match import NO_RECORD, TurnRecord
from spiral.selfplay.rollouts import Rollouts

ACT, EOT = 260, 261
PROMPTER = Prompter(PlainFormat(ByteTokenizer()))


class Engine:
    """Answers each request by `answer(observation, request)` after `latency(request)` steps; remembers the requests.

    An answer is text that a stop id follows; ids as a tuple are taken as they are, and end "length" without it.
    """

    def __init__(self, answer=lambda observation, request: "a", latency=lambda request: 1):
        self.answer, self.latency = answer, latency
        self.asked, self.flight, self.time, self.peak = [], [], 0, 0

    def submit(self, request):
        self.asked.append(request)
        self.flight.append((self.time + self.latency(request), len(self.asked), request))
        self.peak = max(self.peak, len(self.flight))

    def step(self):
        self.time += 1
        due = sorted(entry[:2] for entry in self.flight if entry[0] <= self.time)
        requests = {entry[:2]: entry[2] for entry in self.flight}
        self.flight = [entry for entry in self.flight if entry[0] > self.time]
        return [self._complete(requests[key]) for key in due]

    def load_weights(self, policy, weights, version):
        pass

    def _complete(self, request):
        reply = self.answer(seen(request), request)
        ids = reply if isinstance(reply, tuple) else (*reply.encode(), EOT)
        finish = "stop" if ids[-1:] == (EOT,) else "length"
        return Completion(request.id, ids, (-1.0,) * len(ids), finish, 5)


def seen(request):
    return bytes(i for i in request.prompt if i < 256).decode()


class Words:
    """Players in turn say a or b, `length` times in all; the last word decides: a wins for player 0, b for player 1."""

    num_players, length, worst_return, zero_sum, rules = 2, 4, -3.0, True, ""

    def reset(self, rng):
        self.deal, self.said = rng.getrandbits(32), ()

    def current_player(self):
        return None if len(self.said) >= self.length else len(self.said) % self.num_players

    def observe(self, player):
        return f"{self.deal} p{player} {' '.join(self.said)}"

    def legal_moves(self):
        return ["a", "b"]

    def play(self, move):
        if move not in ("a", "b"):
            raise IllegalMove("say a or b")
        self.said += (move,)

    def returns(self):
        first = 1.0 if self.said[-1] == "a" else -1.0
        return [first] + [-first / max(1, self.num_players - 1)] * (self.num_players - 1)


def deal_of(request):
    return seen(request).split(" ")[0]


class Seated:
    """The line-up it is given, or the learner everywhere."""

    def __init__(self, *policies):
        self.policies = list(policies)

    def seat(self, game, num_players, pool, rng):
        return self.policies or [LEARNER] * num_players


class Bot:
    """Says what it is told to."""

    def __init__(self, move):
        self.move = move

    def choose(self, game, player, rng):
        if isinstance(self.move, Exception):
            raise self.move
        return self.move(rng) if callable(self.move) else self.move


def rollouts(game=Words, engine=None, seats=(), bots=None, sampler=None, record=NO_RECORD, **config):
    pool = Pool(Plugins(), Completer.of(engine or Engine(), PROMPTER, config.pop("max_new_tokens", 16)))
    for name, bot in (bots or {}).items():
        pool.add_bot(name, bot)
    settings = {"deadline_s": 5.0, "max_turns": 50, **config}
    return Rollouts(
        {"words": game},
        Weighted({"words": 1.0}),
        sampler or Seated(*seats),
        pool,
        RolloutConfig(**settings),
        record=record,
    )


def play(num_games=1, seed=(0, "test"), **args):
    return rollouts(**args).play(num_games, seed)


def coin(observation, request):
    """A reply that depends on the request's seed alone: mostly legal, sometimes not."""
    return random.Random(request.seed).choice(["a", "b", "a", "b", "a", "b", "a", "b", "nonsense"])


# The ordinary course


def test_an_episode_holds_what_was_sampled():
    """Ids, log-probs, observation, move and version of every turn are the engine's own, by player, in order."""
    answers = iter(["a", "b", "a", "b"])
    engine = Engine(lambda observation, request: next(answers))
    [episode] = play(engine=engine)
    assert episode.game == "words"
    assert episode.policies == (LEARNER, LEARNER)
    assert episode.players == (0, 1, 0, 1)
    assert (episode.ending, episode.offender) == ("finished", None)
    assert episode.returns == (-1.0, 1.0)  # b is the last word
    first, second = episode.trajectories
    assert (first.player, second.player) == (0, 1)
    assert (first.reward, second.reward) == episode.returns
    assert {first.deal, second.deal} == {episode.deal}
    assert [t.move for t in first.turns] == ["a", "a"]
    assert [t.move for t in second.turns] == ["b", "b"]
    deal = random.Random(episode.deal).getrandbits(32)
    assert [t.observation for t in first.turns] == [f"{deal} p0 ", f"{deal} p0 a b"]
    for turn, request in zip((first.turns[0], second.turns[0], first.turns[1]), engine.asked, strict=False):
        assert turn.prompt == request.prompt == (257, *turn.observation.encode(), ACT)
        assert turn.reply == (*turn.move.encode(), EOT)
        assert turn.logprobs == (-1.0,) * 2
        assert (turn.legal, turn.finish, turn.version) == (True, "stop", 5)


def _turns(episode):
    """In the order of play."""
    by_player = [iter(trajectory.turns) for trajectory in episode.trajectories]
    return [next(by_player[player]) for player in episode.players]


def test_a_turn_keeps_no_more_than_is_asked_for():
    """Joint states and legal replies cost time in every turn: without a reader there are none."""
    assert {(t.joint_state, t.legal_replies) for t in _turns(play()[0])} == {("", None)}


def test_the_joint_state_is_what_all_players_have_seen():
    """Two games of one deal with the same moves have the same states; another first move makes all later ones differ,
    and the next game's deal makes even the first one differ, although the player to move sees the same."""

    class Hidden(Words):
        def observe(self, player):
            return f"{self.deal if player else ''} p{player} {' '.join(self.said)}"

    def engine(first):
        answers = iter([first, "b", "a", "b"] * 2)
        return Engine(lambda observation, request: next(answers))

    def states(first):
        ready = rollouts(game=Hidden, engine=engine(first), record=TurnRecord(joint_state=True), max_concurrent=1)
        return [[t.joint_state for t in _turns(e)] for e in ready.play(2, (0, "test"))]

    one, other = states("a")
    again, _ = states("b")
    assert len({*one, *other}) == 8
    assert one[0] == again[0]
    assert not {*one[1:]} & {*again[1:]}


def test_a_game_may_name_its_joint_state_itself():
    """Then no other player is asked to observe."""
    asked = []

    class Named(Words):
        def observe(self, player):
            asked.append(player == self.current_player())
            return super().observe(player)

        def joint_state(self):
            return " ".join(self.said)

    [episode] = play(game=Named, engine=Engine(lambda *_: "a"), record=TurnRecord(joint_state=True))
    assert len({t.joint_state for t in _turns(episode)}) == 4
    assert all(asked)


def test_with_perfect_information_the_observation_is_the_joint_state():
    """The player to move sees everything, so the others are not asked."""
    asked = []

    class Open(Words):
        perfect_information = True

        def observe(self, player):
            asked.append(player == self.current_player())
            return super().observe(player)

    play(game=Open, record=TurnRecord(joint_state=True))
    assert all(asked)


def test_other_prompts_are_what_the_other_players_would_be_asked():
    """Of learners' turns, where it is asked for: the other player's own view, encoded as its own turn would be."""

    class Hidden(Words):
        def observe(self, player):
            return f"p{player} {' '.join(self.said)}"

    def asked(record):
        [episode] = play(game=Hidden, engine=Engine(lambda *_: "a"), record=record)
        return [(t.prompt, t.other_prompts) for player in episode.trajectories for t in player.turns]

    found = asked(TurnRecord(other_prompts=True))
    assert {others for _, others in asked(NO_RECORD)} == {()}
    assert len(found) == 4
    for prompt, others in found:
        text = ByteTokenizer().decode(prompt)
        swapped = text.replace("p0", "p?").replace("p1", "p0").replace("p?", "p1")
        assert [ByteTokenizer().decode(other) for other in others] == [swapped]


def test_legal_replies_are_the_ids_of_every_legal_move():
    """Of the learner's turns alone; a bot has no reply, and a snapshot's turn trains nothing."""
    [episode] = play(seats=(LEARNER, "bot:b"), bots={"bot:b": Bot("b")}, record=TurnRecord(True, True))
    mine, bots = episode.trajectories
    assert {t.legal_replies for t in mine.turns} == {((97, EOT), (98, EOT))}
    assert {(t.legal_replies, t.joint_state) for t in bots.turns} == {(None, "")}


def test_moves_that_cannot_be_listed_have_no_legal_replies():
    class Free(Words):
        def legal_moves(self):
            return None

    assert {t.legal_replies for t in _turns(play(game=Free, record=TurnRecord(legal_moves=True))[0])} == {None}


def test_a_game_that_fails_as_its_legal_moves_are_listed_is_voided():
    """The list is asked for under the game's time limit, and what it raises is the game's fault."""
    failures = iter([True])

    class Fails(Words):
        def legal_moves(self):
            if next(failures, False):
                raise RuntimeError("no list")
            return super().legal_moves()

    ready = rollouts(game=Fails, record=TurnRecord(legal_moves=True))
    assert len(ready.play(2, (0, "test"))) == 2
    assert [v.reason for v in ready.voided] == ["RuntimeError: no list"]


def test_sampling_for_training_is_the_full_distribution():
    """Temperature 1, the format's stop ids and the token limit are what every request asks for."""
    engine = Engine()
    play(3, engine=engine, max_new_tokens=7)
    assert {(r.sampling.temperature, r.sampling.stop_ids, r.sampling.max_new_tokens) for r in engine.asked} == {
        (1.0, (EOT,), 7)
    }


def test_draws_are_zero_for_all():
    """A return of 0 for everybody is a finished game like any other."""

    class Drawn(Words):
        def returns(self):
            return [0.0, 0.0]

    [episode] = play(game=Drawn)
    assert episode.returns == (0.0, 0.0)
    assert episode.ending == "finished"


def test_a_slow_game_holds_nobody():
    """The first game's first reply takes 100 steps; every other game is over before its second question."""
    slow = []

    def latency(request):
        slow.append(deal_of(request))
        return 100 if len(slow) == 1 else 1

    engine = Engine(latency=latency)
    assert len(play(5, engine=engine)) == 5
    deals = [deal_of(r) for r in engine.asked]
    assert deals.count(deals[0]) == 4
    assert deals[0] not in deals[1:17]  # 4 games of 4 questions each come first
    assert deals[17:] == [deals[0]] * 3


def test_concurrency_has_a_cap():
    """Never more than `concurrent` questions at once, and never fewer while games are left."""
    engine = Engine()
    assert len(play(10, engine=engine, max_concurrent=3)) == 10
    assert engine.peak == 3
    engine = Engine()
    play(10, engine=engine)
    assert engine.peak == 10


def test_opponents_words_stay_bytes():
    """A player who writes <|eot|> writes seven characters: no special id appears but the format's own two."""

    class Chat(Words):
        def play(self, move):
            self.said += (move,)

    engine = Engine(lambda observation, request: "<|eot|><|act|>")
    play(game=Chat, engine=engine)
    second = engine.asked[1].prompt
    assert "<|eot|><|act|>" in seen(engine.asked[1])
    assert [i for i in second if i >= 256] == [257, ACT]
    assert (second[0], second[-1]) == (257, ACT)


# Reproducible


def test_the_same_seed_is_the_same_episodes():
    """Twice the same from one object, the same from another object, and different for another seed."""
    table = rollouts(game=KuhnPoker, engine=Engine(_kuhn))
    first = table.play(40, (1, "rollout", 2))
    assert table.play(40, (1, "rollout", 2)) == first
    assert play(40, (1, "rollout", 2), game=KuhnPoker, engine=Engine(_kuhn)) == first
    assert play(40, (1, "rollout", 3), game=KuhnPoker, engine=Engine(_kuhn)) != first


def _kuhn(observation, request):
    words = observation.split(" ")[3:]
    options = ["call", "fold"] if words[-1:] == ["bet"] else ["check", "bet"]
    return random.Random(request.seed).choice(options)


def test_games_of_one_step_differ():
    """40 games see 40 deals, and each question has a seed of its own."""
    engine = Engine()
    episodes = play(40, engine=engine)
    assert len({e.deal for e in episodes}) == 40
    assert len({r.seed for r in engine.asked}) == len(engine.asked) == 160
    assert len({r.id for r in engine.asked}) == 160


@pytest.mark.parametrize("bots", [None, {"bot:dice": Bot(lambda rng: rng.choice("ab"))}])
def test_results_do_not_depend_on_the_engines_pace_or_on_concurrency(bots):
    """Random latencies, reversed order of completion and 3 games at a time give the same episodes in the same order."""
    seats = (LEARNER, "bot:dice") if bots else ()
    expected = play(30, engine=Engine(coin), seats=seats, bots=bots)
    assert {e.ending for e in expected} == {"finished", "illegal"}
    for latency in (lambda r: 1 + r.seed % 7, lambda r: 200 - r.id % 100):
        assert play(30, engine=Engine(coin, latency), seats=seats, bots=bots) == expected
    assert play(30, engine=Engine(coin), seats=seats, bots=bots, max_concurrent=3) == expected


def test_processes_share_the_games_of_one():
    """The parts of 3 processes, group by group, are the episodes of a single one."""
    settings = {"group_size": 2, "engine": Engine(coin)}
    single = play(14, **settings)
    parts = [rollouts(**settings).play(14, (0, "test"), rank, 3) for rank in range(3)]
    assert [len(p) for p in parts] == [6, 4, 4]
    united = [parts[group % 3][group // 3 * 2 + i] for group in range(7) for i in range(2)]
    assert united == single


# The player's fault


@pytest.mark.parametrize("reply", ["c", "", "   ", (EOT,), (104, 105), (97,), (EOT, 97)])
def test_a_reply_that_is_no_legal_move_forfeits(reply):
    """Illegal, empty, blank, without a stop id, cut off though it begins like a move: the worst return, sum 0."""
    answers = iter(["a", reply])
    [episode] = play(engine=Engine(lambda observation, request: next(answers)))
    assert (episode.ending, episode.offender) == ("illegal", 1)
    assert episode.returns == (3.0, -3.0)  # Words.worst_return
    turn = episode.trajectories[1].turns[-1]
    assert not turn.legal
    assert episode.trajectories[0].turns[0].legal


def test_a_reply_cut_off_is_unreadable():
    """A reply that ran out of tokens has no move, even if its text so far would be one."""
    [episode] = play(engine=Engine(lambda observation, request: (97,)))
    [turn] = episode.trajectories[0].turns
    assert (turn.move, turn.legal, turn.finish, turn.reply) == (None, False, "length", (97,))


def test_an_illegal_move_keeps_its_text():
    """What was tried is on record: the move read, its ids, and that it was not legal."""
    [episode] = play(engine=Engine(lambda observation, request: "castle"))
    [turn] = episode.trajectories[0].turns
    assert (turn.move, turn.legal, turn.finish) == ("castle", False, "stop")


@pytest.mark.parametrize(
    ("players", "worst", "expected"),
    [(1, -1.0, (-1.0,)), (2, -1.0, (-1.0, 1.0)), (3, -1.0, (-1.0, 0.5, 0.5)), (5, -2.0, (-2.0, *[0.5] * 4))],
)
def test_forfeits_keep_the_sum_for_any_number_of_players(players, worst, expected):
    """The offender gets the worst return and the others share its opposite."""
    game = type("Table", (Words,), {"num_players": players, "worst_return": worst})
    [episode] = play(game=game, engine=Engine(lambda observation, request: "?"))
    assert episode.returns == expected
    assert len(episode.trajectories) == players


def test_a_game_without_a_worst_return_forfeits_minus_one():
    """The documented default of the optional member."""
    assert not hasattr(object(), "worst_return")

    class Plain(Words):
        @property
        def worst_return(self):
            raise AttributeError

    [episode] = play(game=Plain, engine=Engine(lambda observation, request: "?"))
    assert episode.returns == (-1.0, 1.0)


def test_the_penalty_option():
    """SPIRAL's numbers: -1.5 for the offender and +0.5 for each other player."""
    [episode] = play(engine=Engine(lambda observation, request: "?"), illegal="penalty")
    assert episode.returns == (-1.5, 0.5)
    settings = {"illegal": "penalty", "penalty": (-4.0, 1.0)}
    answers = iter(["a", "?"])
    [episode] = play(engine=Engine(lambda observation, request: next(answers)), **settings)
    assert episode.returns == (1.0, -4.0)


def test_retries_ask_again_and_then_forfeit():
    """With 2 retries a turn survives two bad replies and not three; the count starts afresh at every turn."""
    replies = ["?", (104,), "a", "?", "?", "b", "?", "?", "?"]
    answers = iter(replies)
    engine = Engine(lambda observation, request: next(answers))
    [episode] = play(engine=engine, retries=2)
    assert len(engine.asked) == 9
    assert episode.players == (0, 0, 0, 1, 1, 1, 0, 0, 0)
    legal = [[t.legal for t in trajectory.turns] for trajectory in episode.trajectories]
    assert legal == [[False, False, True, False, False, False], [False, False, True]]
    assert (episode.ending, episode.offender, episode.returns) == ("illegal", 0, (-3.0, 3.0))
    first, second, third = engine.asked[:3]
    assert first.prompt == second.prompt == third.prompt
    assert len({first.seed, second.seed, third.seed}) == 3  # another draw, or the retry would repeat the reply


def test_a_bot_plays_without_tokens():
    """A bot's turn has its move and no ids; nothing is asked of the engine for it."""
    engine = Engine()
    [episode] = play(engine=engine, seats=("bot:b", LEARNER), bots={"bot:b": Bot("b")})
    assert len(engine.asked) == 2
    assert episode.policies == ("bot:b", LEARNER)
    for turn in episode.trajectories[0].turns:
        assert (turn.prompt, turn.reply, turn.logprobs, turn.move, turn.legal) == ((), (), (), "b", True)
    assert episode.players == (0, 1, 0, 1)


def test_a_match_between_bots_needs_no_engine():
    """Bots at every chair play to the end though nothing is ever asked."""
    engine = Engine()
    episodes = play(3, engine=engine, seats=("bot:b", "bot:b"), bots={"bot:b": Bot("b")})
    assert [e.returns for e in episodes] == [(-1.0, 1.0)] * 3
    assert engine.asked == []


def test_an_illegal_move_of_a_remote_player_is_that_players_fault():
    """A remote model or a person may err as the learner may: the learner wins by it, and is not the offender."""
    fool = Bot("?")
    fool.external = True
    [episode] = play(seats=(LEARNER, "bot:fool"), bots={"bot:fool": fool})
    assert (episode.ending, episode.offender, episode.returns) == ("illegal", 1, (3.0, -3.0))
    assert episode.policies[episode.offender] == "bot:fool"


def test_a_bot_that_cannot_play_the_game_stops_the_run():
    """Its SpiralError is the user's set-up, not a fault of the game: it is not voided away."""
    table = rollouts(seats=(LEARNER, "bot:no"), bots={"bot:no": Bot(SpiralError("I only play chess"))})
    with pytest.raises(SpiralError, match="only play chess"):
        table.play(2, (0,))
    assert table.voided == []


# The game's fault


def _broken(stage):
    """Words that fails at `stage` for odd deals."""

    class Broken(Words):
        def _check(self, at):
            if at == stage and self.deal % 2:
                raise ValueError(f"lost my cards in {at}")

        def reset(self, rng):
            super().reset(rng)
            self._check("reset")

        def current_player(self):
            if len(self.said) == 2:
                self._check("current_player")
            return super().current_player()

        def observe(self, player):
            if len(self.said) == 2:
                self._check("observe")
            return super().observe(player)

        def play(self, move):
            if len(self.said) == 2:
                self._check("play")
            super().play(move)

        def returns(self):
            self._check("returns")
            return super().returns()

    return Broken


def _replay(game, deal, moves):
    """Play a report again, to the end of its moves and whatever comes after them."""
    match = game()
    match.reset(random.Random(deal))
    for move in moves:
        match.observe(match.current_player())
        try:
            match.play(move)
        except IllegalMove:
            continue
    if match.current_player() is None:
        match.returns()
    else:
        match.observe(match.current_player())


STAGES = ("reset", "current_player", "observe", "play", "returns")


@pytest.mark.parametrize("stage", STAGES)
def test_an_exception_in_a_game_voids_and_replaces_the_match(stage):
    """Whatever a game raises costs that match alone: 10 games were asked for and 10 good ones come back."""
    table = rollouts(game=_broken(stage), engine=Engine(coin), retries=20)
    episodes = table.play(10, (0, "test"))
    assert len(episodes) == 10
    assert len({e.deal for e in episodes}) == 10
    assert all(random.Random(e.deal).getrandbits(32) % 2 == 0 for e in episodes)
    assert len(table.voided) > 2
    for fault in table.voided:
        assert fault.game == "words"
        assert random.Random(fault.deal).getrandbits(32) % 2 == 1
        assert fault.reason == f"ValueError: lost my cards in {stage}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_report_of_a_voided_match_reproduces_it(stage):
    """Dealing a fault's deal and playing its moves meets the same exception, the move that caused it included."""
    game = _broken(stage)
    table = rollouts(game=game, engine=Engine(coin), retries=20)
    table.play(10, (0, "test"))
    for fault in table.voided:
        with pytest.raises(ValueError, match=f"lost my cards in {stage}"):
            _replay(game, fault.deal, fault.moves)


def test_other_games_do_not_notice_a_voided_one():
    """Games whose deal is good are bit for bit those of a run in which nothing fails."""
    good = play(10, engine=Engine())
    mended = play(10, game=_broken("play"), engine=Engine())
    kept = [e for e in good if random.Random(e.deal).getrandbits(32) % 2 == 0]
    assert 0 < len(kept) < 10
    assert [e for e in mended if e in good] == kept
    assert [i for i, e in enumerate(mended) if e in good] == [i for i, e in enumerate(good) if e in kept]


@pytest.mark.parametrize("returns", [[0.0], [1.0, -1.0, 0.0], [math.nan, 0.0], [math.inf, -math.inf], None])
def test_returns_that_are_no_returns_void_the_match(returns):
    """The wrong number of them, or a number that is not finite, is never trained on."""
    game = type("Odd", (Words,), {"returns": lambda self: returns if self.deal % 2 else [1.0, -1.0]})
    table = rollouts(game=game)
    episodes = table.play(8, (0, "test"))
    assert [e.returns for e in episodes] == [(1.0, -1.0)] * 8
    assert table.voided


@pytest.mark.parametrize("player", [2, -1])
def test_a_player_who_is_not_at_the_table_voids_the_match(player):
    """current_player names a chair or nobody: a turn of nobody's would vanish from every trajectory."""
    game = type(
        "Ghost",
        (Words,),
        {"current_player": lambda self: player if self.deal % 2 and not self.said else _turn(self)},
    )
    table = rollouts(game=game)
    episodes = table.play(8, (0, "test"))
    assert all(set(e.players) <= {0, 1} for e in episodes)
    assert table.voided


def _turn(game):
    return Words.current_player(game)


def test_an_observation_that_is_no_text_voids_the_match():
    """A bad game never sinks a step: observe() that returns None is that match's fault alone."""
    game = type("Mute", (Words,), {"observe": lambda self, p: None if self.deal % 2 else Words.observe(self, p)})
    table = rollouts(game=game)
    assert len(table.play(8, (0, "test"))) == 8
    assert table.voided


def test_too_many_voided_games_stop_the_run():
    """One sentence with how many, which game, which deal, which moves, why, and what to do."""

    class Never(Words):
        def play(self, move):
            raise KeyError("my pot")

    table = rollouts(game=Never, max_voided=4)
    with pytest.raises(RunError, match=r"5 games of one step .*words with deal \d+ .*KeyError: 'my pot'.*max_voided"):
        table.play(3, (0, "test"))
    assert len(table.voided) == 5


def test_max_voided_itself_is_allowed():
    """Exactly max_voided voided games are replaced; the limit counts a step, not a run."""
    table = rollouts(game=_broken("play"))
    table.play(10, (0, "test"))
    voided = len(table.voided)
    assert voided > 1
    settings = {"game": _broken("play"), "max_voided": voided}
    again = rollouts(**settings)
    for _ in range(3):
        assert len(again.play(10, (0, "test"))) == 10
        assert len(again.voided) == voided
    with pytest.raises(RunError):
        rollouts(game=_broken("play"), max_voided=voided - 1).play(10, (0, "test"))


# Games that are cut


class Long(Words):
    """Never ends where the deal is odd."""

    def current_player(self):
        return len(self.said) % self.num_players if self.deal % 2 else super().current_player()


class Judging(Long):
    """Says of a match that is cut that each `a` was worth a quarter to player 0."""

    def judge(self):
        first = self.said.count("a") / 4
        return [first] + [-first] * (self.num_players - 1)


def ended(game, **config):
    """The episodes of 8 games in which `a` is said by all, of which some are cut after 6 turns."""
    table = rollouts(game=game, max_turns=6, **config)
    episodes = table.play(8, (0, "test"))
    assert {e.ending for e in episodes if len(e.players) == 6} == {"cut"}
    assert {e.ending for e in episodes if len(e.players) == 4} == {"finished"}
    assert all(random.Random(e.deal).getrandbits(32) % 2 == (e.ending == "cut") for e in episodes)
    assert table.voided == []
    return [e for e in episodes if e.ending == "cut"]


def test_a_long_game_is_a_draw_and_trains_like_any_other():
    """Whole and replayable, with what was sampled; nothing is replaced, however many there are."""
    cut = ended(Long)
    assert cut
    for episode in cut:
        assert (episode.returns, episode.offender) == ((0.0, 0.0), None)
        assert [t.reward for t in episode.trajectories] == [0.0, 0.0]
        assert [len(t.turns) for t in episode.trajectories] == [3, 3]
        assert all(turn.legal and turn.reply for t in episode.trajectories for turn in t.turns)
    table = rollouts(game=type("Always", (Long,), {"current_player": lambda self: len(self.said) % 2}), max_turns=3)
    assert [e.ending for e in table.play(40, (0, "test"))] == ["cut"] * 40
    assert table.voided == []


@pytest.mark.parametrize(
    ("game", "members", "cut", "returns"),
    [
        (Long, {}, "draw", (0.0, 0.0)),
        (Long, {}, "judge", (0.0, 0.0)),  # it has no judgement
        (Judging, {}, "draw", (0.0, 0.0)),
        (Judging, {}, "judge", (1.5, -1.5)),  # six times a
        (Long, {"num_players": 3}, "draw", (0.0, 0.0, 0.0)),
        (Long, {"worst_return": 2.0, "zero_sum": False}, "draw", (2.0, 2.0)),  # 0 is less than a forfeit
        (Long, {"num_players": 1}, "draw", (-3.0,)),  # one player cannot draw: it is worst_return
        (Judging, {"num_players": 1}, "draw", (1.5,)),
        (Judging, {"num_players": 1}, "judge", (1.5,)),
    ],
)
def test_what_a_cut_game_is_worth(game, members, cut, returns):
    made = type("Made", (game,), members)
    assert {e.returns for e in ended(made, cut=cut)} == {returns}


def test_a_judgement_that_is_none_is_the_games_fault():
    made = type("Odd", (Judging,), {"judge": lambda self: [1.0]})
    table = rollouts(game=made, max_turns=6, cut="judge", max_voided=100)
    assert {e.ending for e in table.play(8, (0, "test"))} == {"finished"}
    assert {fault.reason for fault in table.voided} == {"ValueError: judge() gave [1.0] for 2 players"}


def test_cut_games_are_voided_where_that_is_asked_for():
    """Named as what they are, with what may be changed, and replaced."""
    table = rollouts(game=Long, max_turns=6, cut="void")
    assert {e.ending for e in table.play(8, (0, "test"))} == {"finished"}
    assert table.voided
    for fault in table.voided:
        assert (len(fault.moves), fault.cause) == (6, "too many turns")
        assert "not over after 6 turns, and rollout.max_turns allows no more" in fault.reason
    with pytest.raises(RunError, match=r"max_turns.*raise rollout\.max_turns, set rollout\.cut=draw") as found:
        rollouts(max_turns=3, cut="void").play(2, (0,))
    assert "fix the game" not in str(found.value)


def test_a_match_of_exactly_max_turns_is_not_cut():
    """Words takes 4 turns: 4 allow it, 3 do not."""
    assert {e.ending for e in play(2, max_turns=4)} == {"finished"}
    assert {e.ending for e in play(2, max_turns=3)} == {"cut"}


# Groups


def test_no_reply_gets_less_room_than_it_may_need():
    """A game whose text grows is voided where a reply of 16 tokens no longer fits, named and counted."""

    class Talk(Words):
        def observe(self, player):
            return super().observe(player) + "." * 20 * len(self.said) * (self.deal % 2)

    engine = Engine()
    engine.context = 60
    table = rollouts(game=Talk, engine=engine)
    assert all(random.Random(e.deal).getrandbits(32) % 2 == 0 for e in table.play(8, (0, "test")))
    assert table.voided
    for fault in table.voided:
        assert (fault.cause, fault.moves) == ("prompt too long", ("a", "a"))
        assert "room for a reply of " in fault.reason
        assert "context of 60, and 16 may be asked for" in fault.reason
    assert max(len(request.prompt) for request in engine.asked) <= 60 - 16
    engine.context = 20
    with pytest.raises(RunError, match=r"17 games .*prompt of .* rollout\.max_new_tokens") as found:
        rollouts(game=Talk, engine=engine).play(8, (0, "test"))
    assert "remote" not in str(found.value)


def test_a_group_shares_deal_and_seats():
    """group_size games in a row start from one deal with one seating, and are played apart."""

    class Shuffled:
        def seat(self, game, num_players, pool, rng):
            return rng.sample([LEARNER, "averaged"], 2)

    pool_seats = {"sampler": Shuffled(), "group_size": 4}
    table = rollouts(engine=Engine(coin), **pool_seats)
    table._pool.add_weights("averaged")
    episodes = table.play(32, (0, "test"))
    groups = [episodes[i : i + 4] for i in range(0, 32, 4)]
    for group in groups:
        assert len({e.deal for e in group}) == 1
        assert len({e.policies for e in group}) == 1
    assert len({g[0].deal for g in groups}) == 8
    assert {g[0].policies for g in groups} == {(LEARNER, "averaged"), ("averaged", LEARNER)}
    assert any(len({tuple(t.move for t in e.trajectories[0].turns) for e in g}) > 1 for g in groups)


@pytest.mark.parametrize("latency", [lambda r: 1, lambda r: 1 + r.seed % 5])
def test_a_group_is_voided_as_a_whole(latency):
    """One game of a group fails once: all 4 are played again from another deal, and no survivor is mixed in."""
    failed = []

    class Once(Words):
        def returns(self):
            if not failed:
                failed.append(self.deal)
                raise RuntimeError("once")
            return super().returns()

    table = rollouts(game=Once, engine=Engine(coin, latency), group_size=4, retries=20)
    episodes = table.play(12, (0, "test"))
    assert len(episodes) == 12
    [fault] = table.voided
    assert fault.reason == "RuntimeError: once"
    assert fault.deal not in {e.deal for e in episodes}
    for i in range(0, 12, 4):
        assert len({e.deal for e in episodes[i : i + 4]}) == 1


def test_the_number_of_games_is_kept():
    """6 groups of 3 are 18 episodes."""
    assert len(play(18, group_size=3)) == 18


# Set-up and infrastructure


class Endless(Words):
    """Never comes back from its second move in every third deal."""

    def play(self, move):
        while self.deal % 3 == 0 and len(self.said) == 1:
            pass
        super().play(move)


def test_a_game_that_loops_for_ever_costs_only_itself():
    """It is interrupted, voided as the game's fault and replaced; the others end as they would have."""
    table = rollouts(Endless, turn_deadline_s=0.2, max_voided=100)
    episodes = table.play(12, (3,))
    assert len(episodes) == 12
    assert table.voided
    assert {fault.cause for fault in table.voided} == {"game"}
    assert all(re.search(r"TimeoutError: no end after 0\.2 s", fault.reason) for fault in table.voided)
    assert all(len(fault.moves) == 2 for fault in table.voided)


def test_a_silent_engine_stops_the_run():
    """Nothing hangs without saying why: after deadline_s without a reply the run stops and counts the requests."""
    silent = Engine(latency=lambda request: 10**9)
    with pytest.raises(RunError, match=r"finished no reply for 0\.05 s, waiting for 3 requests"):
        play(3, engine=silent, deadline_s=0.05)


@pytest.mark.parametrize(
    ("seats", "match"),
    [
        ((LEARNER,), "one policy a player"),
        ((LEARNER, LEARNER, LEARNER), "one policy a player"),
        ((LEARNER, "bot:ghost"), "the pool holds no bot:ghost"),
        ((LEARNER, "snapshot:3"), "the pool holds no snapshot:3"),
    ],
)
def test_seats_are_checked(seats, match):
    """A sampler that seats too few, too many or strangers is a set-up fault in one sentence."""
    with pytest.raises(SpiralError, match=match):
        play(seats=seats)


def test_a_bots_chance_descends_from_the_seed():
    """Dice bots throw the same for the same seed, and not the same in every game."""
    settings = {"seats": (LEARNER, "bot:dice"), "bots": {"bot:dice": Bot(lambda rng: rng.choice("ab"))}}
    first = play(20, **settings)
    random.seed(99)
    assert play(20, **settings) == first
    assert len({tuple(t.move for t in e.trajectories[1].turns) for e in first}) > 1


def test_the_curriculum_draws_from_the_seed():
    """Games come up in proportion to their weights (3 sigma), the same ones each time."""
    pool = Pool(Plugins(), Completer.of(Engine(), PROMPTER, 16))
    curriculum = Weighted({"often": 3.0, "seldom": 1.0})
    made = Rollouts({"often": Words, "seldom": Words}, curriculum, Seated(), pool, RolloutConfig())
    names = [e.game for e in made.play(400, (derive(1), "x"))]
    assert abs(names.count("often") - 300) < 3 * (400 * 0.75 * 0.25) ** 0.5
    assert names == [e.game for e in made.play(400, (derive(1), "x"))]


def test_what_a_play_that_was_given_up_left_in_flight_disturbs_no_other():
    """One engine serves both: the replies that nobody waits for any more are not taken for others."""

    class Broken(Words):
        def play(self, move):
            raise ValueError("the board broke")

    engine = Engine(coin, latency=lambda request: 1 + 5 * (len(engine.asked) % 2))
    with pytest.raises(RunError, match="the board broke"):
        play(8, game=Broken, engine=engine, max_voided=0)
    assert engine.flight
    assert play(8, engine=engine) == play(8, engine=Engine(coin))


@pytest.mark.parametrize("end", [SystemExit("done"), KeyboardInterrupt()])
def test_a_slow_bot_that_ends_its_thread_is_heard(end):
    """What is no Exception would end the thread without a word, and the play would wait until its deadline."""

    class Leaver:
        max_concurrent = 1

        def choose(self, game, player, rng):
            raise end

    with pytest.raises(RunError, match=f"bot:leaver raised {type(end).__name__}"):
        play(1, seats=[LEARNER, "bot:leaver"], bots={"bot:leaver": Leaver()}, max_voided=0)


def test_a_play_that_was_given_up_asks_a_slow_bot_nothing_more():
    """What it asks may cost money: of 8 games' questions, those that were not begun are dropped."""

    class Slow:
        max_concurrent, asked = 1, 0

        def choose(self, game, player, rng):
            self.asked += 1
            time.sleep(0.02)
            raise ValueError("nothing comes to mind")

    bot = Slow()
    with pytest.raises(RunError, match="nothing comes to mind"):
        play(8, seats=["bot:slow", LEARNER], bots={"bot:slow": bot}, max_voided=0)
    time.sleep(0.3)
    assert 1 <= bot.asked <= 3
