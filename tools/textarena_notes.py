"""What tools.textarena_page cannot measure: what is known to be wrong upstream, and the words of the page."""

from __future__ import annotations

from collections.abc import Sequence

from spiral_games.textarena import importing
from spiral_games.textarena.catalogue import Row
from spiral_games.textarena.mends import faults

NEED_A_KEY = ("OPENROUTER_API_KEY",)
"""Taken out of the environment, so that nothing that is measured can reach a service."""

SETTLED_PLAYERS = {
    "QuantumTicTacToe": "2-2",
    "SpiteAndMalice": "2-2",
    "PublicGoodsGame": "2-16",
    "MarketEntryGame": "2-16",
    "Taboo": "4-16",
}
"""Environments that take numbers of players that make no sense: the numbers that do."""

OPEN_INFORMATION = dict.fromkeys(
    (
        r"(Wild|Reverse|Ultimate|ThreePlayer)?TicTacToe-",
        "QuantumTicTacToe-",
        "SimpleTak-",
        "Tak-",
        r"ConnectFour-v0(-large)?$",
        "Nim-",
        "Chopsticks-",
        "Othello-v0(-tiny|-small|-big|-huge)?$",
        r"Breakthrough-v0(?!-blind)",
        r"Chess-v0(?!-blind)",
        "Checkers-",
        "Alquerque-",
        "Crusade-",
        "LinesOfAction-",
        "Santorini",
        "PigDice-",
        "2048-",
        "FifteenPuzzle-",
        "FrozenLake-",
        "LightsOut-",
        "PegJump-",
        "TowerOfHanoi-",
        "Countdown-",
        "Slitherlink-",
        "Sokoban-",
        "LetterAuction-",
        "MemoryGame-",
    ),
    "nothing is hidden",
)
"""Environments in which no player knows what another does not, and no move is secret."""

REASONS = {
    "OPENROUTER_API_KEY|OpenRouter": "it asks language models over the network and needs an OpenRouter key",
    "FileNotFoundError": "the files it reads are missing from the distribution of TextArena 0.7.4",
    "gym": "it needs the packages gym and babyai_text, which TextArena does not declare",
    "UsedCar": "its registration names a module that does not exist",
    "SyntaxError": "its source is not valid Python in any version",
    "missing 1 required positional argument": "its first move raises TypeError upstream",
}
"""What an exception says -> the reason, as the end of a sentence."""

BROKEN = {
    "Tak-|Checkers": "some wins raise TypeError upstream, but not here, as_shipped or not",
    "Breakthrough": "a player whose pieces are all blocked loses by an invalid move (here: give up)",
    "QuantumTicTacToe": "marks that depend on a collapse do not collapse with it",
    "Chess": "the turn limit of its arguments is not applied: use max_turns",
    "SecretMafia": "some observations are empty",
    "Santorini": "only the first player is shown the valid moves",
    "HighSociety": "equal bids repeat an auction for ever",
    "Blackjack": "a drawn hand counts as a lost one",
    "Poker": "no side pots: a call with less can win the whole pot; players out in the same hand are ranked by number",
    "PublicGoodsGame|MarketEntryGame": "a player below a tie gets 0, below a single winner -1",
    "LetterAuction": "a letter that was won once may stand several times in a word",
    "FrozenLake": "a hole pays by its distance from the start, up to 0.95",
    "Cryptarithm": "assigned letters are paid, right or wrong: a mapping left unfinished pays more than a wrong one",
    "UltimateTexasHoldem": "the match that is won, of 1000 hands, does not fit into its turns: use max_turns",
    "Countdown": "the reason for an invalid move and its penalty are swapped",
    "Slitherlink": "the reason for an invalid move and its penalty are swapped",
    "ThreePlayerIPD": "text that cannot be read counts as cooperation, as the prompt says",
    "Minesweeper": "hitting a mine is an invalid move upstream: here it is illegal, and costs what the run says",
    "Crosswords|Sudoku": "a wrong answer is an invalid move upstream: here it is illegal, and costs what the run says",
    "LiarsDice": "a bid may lower neither number, which is stricter than the usual rules",
    "SpiteAndMalice": "matches seldom end under random play",
}
"""Environments -> what is wrong with their rules in 0.7.4 and not mended, or differs from what one expects."""

INTRO = """<!-- written by `python -m tools.textarena_page`; edit tools/textarena_notes.py or the adapter instead -->
# TextArena

Every environment of [TextArena](https://github.com/TextArena/TextArena) 0.7.4 that can be played offline is a game of
spiral, as `textarena/NAME`:

```
pip install 'spiral-games[textarena]'
spiral train games.0.name=textarena/TicTacToe-v0 games.0.args.style=board
```

```yaml
games:
  - {name: textarena/TicTacToe-v0, args: {style: board}}
  - {name: textarena/LiarsDice-v0, args: {players: 3, max_turns: 80, env_args: {num_dice: 2}}}
```

**What players see.** `style: messages` (the default) is the prompt and everything since, but of the boards only the
latest, at the end. `style: transcript` repeats every board, as TextArena's own default wrappers show it: take it for
figures to be compared with those of others. `style: board` shows the player's number and the latest board and nothing
else, for tiny models; without a board it is `messages`. Some environments put into their boards less than a player
needs (a poker hand may come as a message): read a few observations first. A run is refused at its start where random
games outgrow the model's context or `rollout.max_new_tokens`; the message says what would fit.

**Moves** are plain text: `4` stands for the `[4]` that most environments want, and `[4]` is read alike. Where moves are
listed, upper and lower case and commas do not matter, and the list is the law: moves that upstream leaves unbounded
(bids beyond the number of dice, decimal guesses) are refused. Opponents are shown the move and nothing else. Role tags
such as `[Player 1]` in a move are shown in round brackets, and on one line, so that no player can pose as the game.

**An illegal move** raises `IllegalMove` with the environment's reason and leaves the match as it was. It never ends
the match or eliminates a player by TextArena's own allowance: what it costs is the run's `rollout.illegal` policy. A
player to whom an environment leaves no move can only `give up`, which loses as an invalid move does upstream; in
WordChains and SpellingBee, which end only when a player finds no word, `give up` is always legal.

**Matches are cut** after `max_turns` turns (column *cut*) with 0 for every player. **Returns** are TextArena's rewards.

**Wrong rewards.** Some environments pay against their own rules: `Bandit-v0` pays most for the worst button, a draw of
`Briscola-v0` is player 0's win. Where a few lines put that right, the environment is played mended: the notes say so,
and [the list below](#what-is-mended) says what. `as_shipped: true` plays it as it is, for figures to be compared with
those of others. All else that the notes name is as TextArena ships it, with either setting.

**Chance.** Every match has random generators of its own, drawn from the run's seed: matches can be interleaved, and
the process's own generators are never touched.

**Python 3.11** cannot read the source of Chess, Checkers, ReverseTicTacToe, IteratedStagHunt and UltimateTexasHoldem as
it is; it is rewritten while it is imported (quotes inside f-strings, nothing else).

**Word games** use nltk's corpora where they are installed, and else word lists made from the dictionary that TextArena
ships, which are kept in the user's cache directory; nothing is downloaded. So the words differ from those of a machine
with the real corpora, and so do results.

"""


MENDED = """What `as_shipped: true` brings back; the lines are those of the environment's `env.py` in TextArena 0.7.4.
"""


def mends(row: Row) -> tuple[str, list[str]]:
    """(the environment whose variant this is, what is mended of it)."""
    module, class_name = importing.registry()[row.env_id].entry_point.split(":")
    return module.split(".")[-2], faults(class_name)


def page(rows: Sequence[Row]) -> str:
    """docs/games/textarena.md."""
    good = [row for row in rows if row.offline]
    bad = [row for row in rows if not row.offline]
    kept = sum(not row.conformance for row in good)
    late = sum(row.conformance.startswith("no fault found") for row in good)
    reasons: dict[str, list[str]] = {}
    for row in bad:
        reasons.setdefault(row.reason, []).append(f"`{row.env_id}`")
    lines = [
        INTRO,
        "## What was measured\n",
        "`python -m tools.textarena_page` measured this table on one core of a busy machine in several runs "
        f"(`--only`): {len(good)} of {len(rows)} environments "
        f"play offline. {kept} of them keep every promise of `spiral.testing.check_game`; in {late} slow ones no fault "
        f"was found in the time given, with the kit not at its end. "
        f"{sum(row.listed for row in good)} list their legal moves. These do not play:\n",
        *(f"- {len(ids)} because {reason}: {', '.join(ids)}" for reason, ids in reasons.items()),
        "\n*turns*: mean of random play; *steps/s*: of the bare environment; *+us*: microseconds a turn that the "
        "adapter adds to it; *kit*: what the conformance kit finds, numbered below.\n",
        "| environment | players | zero-sum | legal moves | turns | cut | steps/s | +us | kit | notes |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    remarks: list[str] = []
    mended: dict[str, list[str]] = {}
    for row in good:
        environment, wrong = mends(row)
        if wrong:
            mended[environment] = wrong
        players = str(row.num_players) if row.num_players == row.max_players else f"{row.num_players}-{row.max_players}"
        kit = "ok"
        if row.conformance:
            text = row.conformance
            remarks.append(f"{len(remarks) + 1}. `{row.env_id}`: {text}")
            kit = f"({len(remarks)})"
        notes = "; ".join(note for note in ("mended" if wrong else "", row.broken) if note)
        lines.append(
            f"| {row.env_id} | {players} | {'yes' if row.zero_sum else ''} | {'listed' if row.listed else 'sampled'} | "
            f"{row.mean_turns or '-'} | {row.max_turns} | {row.steps_s:g} | {row.adapter_us:g} | {kit} | {notes} |"
        )
    lines += ["\n## What is mended\n", MENDED, "| environment | what was wrong |", "|---|---|"]
    lines += [f"| {environment} | {phrase} |" for environment, wrong in mended.items() for phrase in wrong]
    return "\n".join([*lines, "\n## What the kit finds\n", *remarks]) + "\n"
