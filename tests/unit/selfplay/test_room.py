"""What a game needs of a model: the context for its prompts, the longest reply for its moves, seen in random games."""

import random

import pytest
from spiral_games.native.kuhn_poker import KuhnPoker
from spiral_models import MODELS

from spiral.api.errors import PromptTooLong, SpiralError
from spiral.config.schema import RolloutConfig
from spiral.models.chat import chat
from spiral.models.logits import context_length
from spiral.models.prompt_cache import Prompter
from spiral.models.prompts import PlainFormat
from spiral.policies.completer import Completer
from spiral.selfplay.room import check_room_in_games
from spiral.testing import ScriptedEngine


class Talk:
    """One player says `turns` words; all that was said is seen. `words`: the listed moves; none for free text."""

    num_players, rules = 1, ""

    def __init__(self, words=("a", "bb"), free=False, turns=40):
        self.words, self.free, self.turns = words, free, turns

    def reset(self, rng):
        self.said = []

    def current_player(self):
        return None if len(self.said) >= self.turns else 0

    def observe(self, player):
        return "." * 10 * len(self.said)

    def legal_moves(self):
        return None if self.free else list(self.words)

    def sample_move(self, rng):
        return rng.choice(self.words)

    def play(self, move):
        self.said.append(move)

    def returns(self):
        return [0.0]


def check(game, max_turns=200, max_new_tokens=16, form=PlainFormat):
    engine = ScriptedEngine(lambda request: [])
    engine.context = 256
    prompter = Prompter(form(MODELS["byte-0.1m"](context=8)[1]))
    check_room_in_games({"talk": game}, Completer.of(engine, prompter, max_new_tokens), max_turns)


def test_a_game_that_outgrows_the_context_in_random_play_is_refused_with_every_way_out():
    """Its first prompt has 2 tokens, its last, after 39 turns, 392: with a reply of 16 a context of 408."""
    with pytest.raises(PromptTooLong) as found:
        check(Talk)
    for told in ("game talk: ", "a prompt of 392 tokens", "model.args.context, 408 at least", "style=board", "max_new"):
        assert told in str(found.value)


def test_a_game_that_is_cut_before_it_grows_too_long_is_taken():
    """25 turns end at a prompt of 242 tokens and 26 at one of 252: 256 hold no reply of 16 behind either, 23 do."""
    check(Talk, max_turns=24)
    with pytest.raises(PromptTooLong, match="prompt of 242 tokens"):
        check(Talk, max_turns=25)


def test_a_listed_move_that_no_reply_can_say_is_refused_with_the_reply_that_can():
    """One move of two has 20 bytes and a stop id; it is never drawn too seldom to be seen, since the list is read."""
    with pytest.raises(SpiralError, match=r"game talk: 50% of the moves .* than the 16 .*rollout.max_new_tokens=21"):
        check(lambda: Talk(("a", "b" * 20), turns=1))
    check(lambda: Talk(("a", "b" * 20), turns=1), max_new_tokens=21)


def test_free_text_may_be_shorter_so_half_of_it_is_enough():
    long = tuple(letter * 20 for letter in "bcd")
    check(lambda: Talk(("a", *long[:1]), free=True, turns=12))
    with pytest.raises(SpiralError, match=r"75% of the moves .*rollout.max_new_tokens=21"):
        check(lambda: Talk(("a", *long), free=True, turns=12))


def test_a_format_that_thinks_before_it_moves_has_no_length_of_a_move():
    check(lambda: Talk(("b" * 20,), turns=1), form=lambda t: chat(t, rules=False))


def test_a_game_that_misbehaves_is_left_to_play_which_voids_it():
    class Broken(Talk):
        def observe(self, player):
            raise ValueError

    check(Broken)
    check(KuhnPoker)


def test_textarena_on_its_defaults_fits_the_default_model():
    """20 environments drawn at random: at least 15 start, and what does not start is told every way out."""
    textarena = pytest.importorskip("spiral_games.textarena")
    pytest.importorskip("textarena")
    model, tokenizer = MODELS["byte-0.1m"]()
    engine = ScriptedEngine(lambda request: [])
    engine.context = context_length(model)
    completer = Completer.of(engine, Prompter(PlainFormat(tokenizer)), RolloutConfig.max_new_tokens)
    refused = {}
    for env in random.Random(16).sample(textarena.environment_ids(), 20):
        try:
            check_room_in_games({env: lambda env=env: textarena.TextArenaGame(env)}, completer, RolloutConfig.max_turns)
        except SpiralError as error:
            refused[env] = str(error)
    assert len(refused) <= 5, refused
    for env, said in refused.items():
        assert f"game {env}: " in said
        assert "rollout.max_new_tokens=" in said or ("style=board" in said and "model.args.context" in said)
