"""A match of a person against a policy: what was read is said, and both are asked again before anything is lost."""

import pytest

from spiral import IllegalMove, SpiralError, ask_person, wrapped
from spiral.config import loading as config
from spiral.evaluation.against_person import play_against
from spiral.evaluation.loaded_policy import LoadedPolicy
from spiral.plugins.registry import Plugins
from spiral.policies.completer import Completer
from spiral.policies.pool import Pool
from spiral.selfplay.setup import PlaySetup
from spiral.testing.fakes import ScriptedEngine

STOP = 0


class Says:
    """Each of two players says yes or no once; what they say may hold commas."""

    num_players, zero_sum, worst_return = 2, True, -1.0
    rules = "Say one word. " * 12

    def __init__(self, words=("yes", "no")):
        self.words = list(words)

    def reset(self, rng):
        self.said = []

    def current_player(self):
        return None if len(self.said) == 2 else len(self.said)

    def observe(self, player):
        return f"said: {self.said}"

    def legal_moves(self):
        return self.words if len(self.said) < 2 else []

    def play(self, move):
        if move not in self.words:
            raise IllegalMove(f"say one of {len(self.words)} words")
        self.said.append(move)

    def returns(self):
        return [0.0, 0.0]


def ask(game, *typed):
    """The move that comes of what was typed, and all that was shown."""
    shown, lines = [], iter(typed)
    game.reset(None)
    return ask_person(game, 0, shown.append, lambda: next(lines)), "\n".join(shown)


def test_what_was_read_is_said_and_asked_again():
    """A person who types `Yes` where the game lists `yes` is told so, and nothing was played meanwhile."""
    game = Says()
    move, shown = ask(game, "Yes", "perhaps", " yes ")
    assert (move, game.said) == ("yes", [])
    assert "read 'Yes', which is not legal: say one of 2 words; did you mean yes?" in shown
    assert "read 'perhaps', which is not legal: say one of 2 words\n" in shown + "\n"


def test_moves_that_contain_commas_are_not_joined_by_commas():
    """One a line, as they are typed; others share a line."""
    assert "moves: yes, no" in ask(Says(), "no")[1]
    assert "moves:\n  a,1\n  a\n  1" in ask(Says(["a,1", "a", "1"]), "a")[1]


def test_a_question_mark_is_a_call_for_help():
    """Rules, moves and how to stop; unless it is a move of the game."""
    move, shown = ask(Says(), "?", "no")
    assert move == "no"
    assert Says.rules in shown
    assert "You are player 0 of 0 to 1." in shown
    assert "Ctrl-D ends the match." in shown
    assert shown.count("moves: yes, no") == 2
    assert ask(Says(["?", "!"]), "?")[0] == "?"


def test_lines_are_broken_between_words(monkeypatch):
    """Where there is a terminal, at its width; a board's short lines stay."""
    text = "a board\n  | x |\n" + "seven " * 30 + "\nend"
    assert wrapped(text) == text
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    lines = wrapped(text).split("\n")
    assert lines[:2] == ["a board", "  | x |"]
    assert lines[-1] == "end"
    assert max(map(len, lines)) <= 40
    assert {word for line in lines[2:-1] for word in line.split()} == {"seven"}


FRESH = {"stop_ids": (STOP,), "lists_moves": False, "has_history": False, "drops_turns": False}
FRESH |= {"continuation": None, "min_new_tokens": 1}


def opponent(*replies, retries):
    """A policy that writes these replies one after the other."""
    left = iter(replies)

    def read(prompter, ids):
        return next(left)

    prompter = type("Prompter", (), {**FRESH, "encode": lambda *_: (1,), "read": read})()
    engine = ScriptedEngine(lambda request: [7, STOP], policies=["averaged"])
    tokenizer = type("Tokenizer", (), {"decode": lambda self, ids: str(ids)})()
    completer = Completer.of(engine, prompter, 4)
    setup = PlaySetup({"says": Says}, Pool(Plugins(), completer), None, 10, None, {}, tokenizer, completer)
    return LoadedPolicy(config.load(None, [f"rollout.retries={retries}"]), 0, setup), engine


def test_a_policy_with_a_transcript_sees_its_own_turns():
    """Those that were not legal too, as in the run's rollouts: prompt and reply of each, in order."""
    policy, engine = opponent("hm", None, "no", retries=2)
    prompter, seen = policy.setup.completer.prompter, []
    type(prompter).has_history = True
    type(prompter).encode = lambda _, rules, observation, moves, turns: seen.append(list(turns)) or (len(seen),)
    play_against(policy, None, 0, 5, lambda text: None, lambda: "yes")
    assert [[(turn.prompt, turn.reply) for turn in turns] for turns in seen] == [
        [((n + 1,), (7, STOP)) for n in range(asked)] for asked in range(3)
    ]


@pytest.mark.parametrize(("retries", "lost"), [(0, True), (1, True), (2, False)])
def test_a_policy_is_asked_again_as_often_as_in_the_runs_rollouts(retries, lost):
    """`rollout.retries`, each time with another seed; the person reads of every reply."""
    policy, engine = opponent("hm", None, "no", retries=retries)
    shown = []
    returns = play_against(policy, None, 0, 5, shown.append, lambda: "yes")
    assert returns == ([] if lost else [0.0, 0.0])
    assert len(engine.requests) == len({request.seed for request in engine.requests}) == min(retries, 2) + 1
    assert sum("it is asked again" in text for text in shown) == retries
    assert any("you win by forfeit" in text for text in shown) == lost


def test_the_end_of_the_input_is_a_sentence():
    def ended():
        raise EOFError

    with pytest.raises(SpiralError, match="the input ended and the match is not over"):
        play_against(opponent(retries=0)[0], None, 0, 5, lambda text: None, ended)
