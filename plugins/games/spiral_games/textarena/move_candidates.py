"""Candidates for legal moves of games where they cannot be guessed from the text, for `sampling`.

These are not lists of legal moves: some of the candidates are legal, and they come in a random order. Where only a
right answer is a legal move (crosswords, sudoku), the candidates are read off the solution.
"""

from __future__ import annotations

import itertools
import random
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from spiral_games.textarena import dictionaries as words


def countdown(env: Any, rng: random.Random) -> Iterator[str]:
    """Two different numbers and an operation."""
    pairs = itertools.permutations(range(len(env.numbers)), 2)
    return _shuffled([f"[{i} {j} {op}]" for i, j in pairs for op in "+-*/"], rng)


def crosswords(env: Any, rng: random.Random) -> Iterator[str]:
    """Right letters of squares that are still hidden."""
    board, solution = env.state.game_state["board"], env.state.game_state["solution"]
    return _shuffled(
        [f"[{r} {c} {solution[r][c]}]" for r, row in enumerate(board) for c, cell in enumerate(row) if cell == "_"], rng
    )


def sudoku(env: Any, rng: random.Random) -> Iterator[str]:
    """Numbers in empty cells."""
    board = env.state.game_state["board"]
    cells = [(r, c) for r in range(9) for c in range(9) if board[r][c] == 0]
    rng.shuffle(cells)
    return (f"[{r + 1} {c + 1} {number}]" for r, c in cells for number in rng.sample(range(1, 10), 9))


def logic_puzzle(env: Any, rng: random.Random) -> Iterator[str]:
    """Marks on the grids."""
    grids = env.game_board.values()
    return _shuffled(
        [f"[{row} {column} {mark}]" for grid in grids for row in grid for column in grid[row] for mark in "XO"], rng
    )


def golf(env: Any, rng: random.Random) -> Iterator[str]:
    """Every action, on every card."""
    places = [f"{kind} {r} {c}" for kind in ("swap", "peek") for r in range(4) for c in range(4)]
    return _shuffled([f"[{action}]" for action in ["draw", "take", "discard", "knock", *places]], rng)


def letter_auction(env: Any, rng: random.Random) -> Iterator[str]:
    """Bids, a pass, and short words."""
    bids = [f"[bid {amount}]" for amount in rng.sample(range(1, 101), 10)]
    yield from _shuffled([*bids, *["[pass]"] * 10], rng)
    letters = env.player_states[env.state.current_player_id]["letters"]
    yield from (f"[{''.join(rng.sample(list(letters), n))}]" for n in range(1, len(letters) + 1))
    yield "[a]"


def new_recruit(env: Any, rng: random.Random) -> Iterator[str]:
    """A proposal, or an answer to one."""
    yield from _shuffled(["[Accept]", "[Reject]", "", ""], rng)
    while True:
        yield "[Propose] " + "".join(rng.choices("ABCDE", k=8))


def two_dollar(env: Any, rng: random.Random) -> Iterator[str]:
    """A proposal, or an answer to one. Some roles may only give way by cents."""
    yield from _shuffled(["[Accept]", "[Reject]", "", ""], rng)
    previous = [p["amount"] for p in [env.current_proposal] if p["amount"] is not None]
    for _ in range(200):
        amounts = [rng.randint(0, 200) / 100, *(p + rng.choice((-0.01, 0.01)) for p in previous)]
        yield f"[Propose] ${rng.choice(amounts):.2f}"


def tak(env: Any, rng: random.Random) -> Iterator[str]:
    """A stone on an empty square; then whole stacks to a square beside their own."""
    player, size = env.state.current_player_id, env.board_size
    squares = [(r, c) for r in range(size) for c in range(size)]
    empty = [(r, c) for r, c in squares if not env.board[r][c]]
    yield from _shuffled([f"[place () {{({r},{c}): [{stone}{player}]}}]" for r, c in empty for stone in "FFFWC"], rng)
    for r, c in rng.sample(squares, len(squares)):
        stack = ", ".join(env.board[r][c])
        for dr, dc in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            yield f"[move ({r},{c}) {{({r + dr},{c + dc}): [{stack}]}}]"


def one_letter_changes(env: Any, rng: random.Random) -> Iterator[str]:
    """Words of the list one letter away from the present one."""
    word = env.current_word
    near = {word[:i] + letter + word[i + 1 :] for i in range(len(word)) for letter in string.ascii_lowercase} - {word}
    return _shuffled([f"[{w}]" for w in sorted(near) if w in env.universal_word_list], rng)


def word_chain(env: Any, rng: random.Random) -> Iterator[str]:
    """Words that begin and are as long as they must, and were not used."""
    state = env.state.game_state
    fitting = words.beginning(env.dictionary, state["required_start_letter"], state["required_length"])
    return _shuffled([f"[{w}]" for w in fitting if w not in state["used_words"]], rng)


def spelling_bee(env: Any, rng: random.Random) -> Iterator[str]:
    """Words of the allowed letters, at least as long as the last, preferring those hardly longer."""
    state = env.state.game_state
    least = len(state["word_history"][-1]) if state["word_history"] else 1
    letters = set(state["allowed_letters"])
    fitting = [w for w in words.listed(env.dictionary) if len(w) >= least and letters.issuperset(w)]
    rng.shuffle(fitting)
    return (f"[{w}]" for w in sorted(fitting, key=len) if w not in state["word_history"])


def minesweeper(env: Any, rng: random.Random) -> Iterator[str]:
    """Cells not revealed yet."""
    return _shuffled(
        [f"[{r} {c}]" for r, row in enumerate(env.revealed) for c, seen in enumerate(row) if not seen], rng
    )


def mastermind(env: Any, rng: random.Random) -> Iterator[str]:
    """Codes, of different numbers where they must differ."""
    state = env.state.game_state
    numbers = range(1, state["num_numbers"] + 1)
    draw = rng.choices if state["duplicate_numbers"] else rng.sample
    while True:
        yield f"[{' '.join(map(str, draw(numbers, k=state['code_length'])))}]"


def three_cards(env: Any, rng: random.Random) -> Iterator[str]:
    """Three cards of the board, whether they are a set or not."""
    while True:
        yield f"[{', '.join(map(str, rng.sample(range(1, len(env.state.game_state['board']) + 1), 3)))}]"


def directions(env: Any, rng: random.Random) -> Iterator[str]:
    return _shuffled(["[up]", "[down]", "[left]", "[right]"], rng)


def memory(env: Any, rng: random.Random) -> Iterator[str]:
    """Two cards that were not matched."""
    size, matched = env.grid_size, env.state.game_state["matched_positions"]
    cells = [(r, c) for r in range(size) for c in range(size) if (r, c) not in matched]
    while True:
        (a, b), (c, d) = rng.sample(cells, 2)
        yield f"[{a} {b} {c} {d}]"


def blotto(env: Any, rng: random.Random) -> Iterator[str]:
    """A way to spread the units over the fields, each unit to a random one."""
    while True:
        fields = rng.choices(env.field_names, k=env.num_total_units)
        yield f"[{' '.join(f'{name}{fields.count(name)}' for name in env.field_names)}]"


def word_guess(env: Any, rng: random.Random) -> Iterator[str]:
    """Words of the right length."""
    fitting = [w for w in words.listed(env.dictionary) if len(w) == env.word_length]
    return (f"[{rng.choice(fitting)}]" for _ in range(100))


def hangman(env: Any, rng: random.Random) -> Iterator[str]:
    """Single letters."""
    return _shuffled([f"[{letter}]" for letter in string.ascii_lowercase], rng)


def word_search(env: Any, rng: random.Random) -> Iterator[str]:
    """Where a line begins and ends, straight across or down."""
    size = len(env.game_board)
    while True:
        a, b, c = (rng.randrange(size) for _ in range(3))
        yield rng.choice((f"[{a} {b} {a} {c}]", f"[{b} {a} {c} {a}]"))


def _shuffled(moves: Sequence[str], rng: random.Random) -> Iterator[str]:
    return iter(rng.sample(moves, len(moves)))


CANDIDATES: Mapping[str, Callable[[Any, random.Random], Iterator[str]]] = {
    "CountdownEnv": countdown,
    "CrosswordsEnv": crosswords,
    "SudokuEnv": sudoku,
    "LogicPuzzleEnv": logic_puzzle,
    "GolfEnv": golf,
    "LetterAuctionEnv": letter_auction,
    "NewRecruitEnv": new_recruit,
    "TwoDollarEnv": two_dollar,
    "TakEnv": tak,
    "ColonelBlottoEnv": blotto,
    "MinesweeperEnv": minesweeper,
    "MastermindEnv": mastermind,
    "SetEnv": three_cards,
    "SokobanEnv": directions,
    "FifteenPuzzleEnv": directions,
    "MemoryGameEnv": memory,
    "WordLadderEnv": one_letter_changes,
    "WordChainsEnv": word_chain,
    "SpellingBeeEnv": spelling_bee,
    "WordleEnv": word_guess,
    "HangmanEnv": hangman,
    "WordSearchEnv": word_search,
}
