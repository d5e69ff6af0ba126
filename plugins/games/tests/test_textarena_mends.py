"""TextArena's wrong rewards: a short match an environment that shows each, as shipped and mended."""

import copy
import itertools
import pickle
import random

import pytest
from spiral_games.textarena import TextArenaGame, environment_ids
from spiral_games.textarena import importing as upstream
from spiral_games.textarena.mends import MENDS, faults

from spiral import IllegalMove

pytest.importorskip("textarena")


def play(game, *moves):
    for move in moves:
        game.play(move)


def play_out(game, most=300):
    """Random legal moves to the end, at most `most`; whether the match ended."""
    rng = random.Random(0)
    while game.current_player() is not None and most:
        game.play(game.sample_move(rng))
        most -= 1
    return game.current_player() is None


def refused(game, move):
    try:
        game.play(move)
    except IllegalMove:
        return True
    return False


def state_of(game):
    return game._env.state.game_state


# Every match is played to the point where shipped and mended differ, and returns what differs.


def bandit(game):
    """The best button to the end."""
    means = state_of(game)["ground_truth"]
    while game.current_player() is not None:
        game.play(max(means, key=means.get))
    return game.returns()


def bandit_worst(game):
    means = state_of(game)["ground_truth"]
    while game.current_player() is not None:
        game.play(min(means, key=means.get))
    return game.returns()[0] > 0


def one_card_as_a_set(game):
    return "refused" if refused(game, "[1, 1, 1]") else state_of(game)["score"]


def last_move_of_the_fifteen_puzzle(game):
    numbers = [*range(1, 15), None, 15]
    game._env.board[:] = [numbers[i : i + 4] for i in range(0, 16, 4)]
    game.play("left")
    return game.returns()


def unsolvable_fifteen_puzzles(game):
    """Of 40 deals, those whose permutation is odd for the place of the gap."""
    count = 0
    for seed in range(40):
        game.reset(random.Random(seed))
        tiles = [16 if tile is None else tile for row in game._env.board for tile in row]
        gap = tiles.index(16)
        swaps = 0
        for place in range(16):
            while tiles[place] != place + 1:
                goal = tiles[place] - 1
                tiles[place], tiles[goal] = tiles[goal], tiles[place]
                swaps += 1
        count += (swaps + (3 - gap // 4) + (3 - gap % 4)) % 2
    return count > 0


def six_wrong_words(game):
    play(game, *("zzzzzzzzzzzzzzzz",) * 6)
    return game.current_player()


def more_lights_than_before(game):
    state_of(game)["grid"][:] = [[True] * 5 for _ in range(5)]
    game._env._initial_on = 5
    play(game, *("2 2",) * 20)
    return game.returns()


DRAWN = [["X", "O", "X"], ["X", "O", "O"], ["O", "X", "X"]]


def returns_of_the_last_move(game, move):
    """Player 1 makes it; a match that goes on all the same is given up."""
    game._env.state.current_player_id = 1
    game.play(move)
    if game.current_player() is not None:
        game.play("give up")
    return game.returns()


def full_boards(game):
    """Ultimate tic-tac-toe with nine boards that are drawn; the last cell is played by X, who is player 1."""
    state_of(game)["board"][:] = [copy.deepcopy(DRAWN) for _ in range(9)]
    state_of(game)["board"][8][2][2] = " "
    return returns_of_the_last_move(game, "8 8")


def last_collapse(game):
    """Quantum tic-tac-toe: the last two squares collapse and make no line."""
    board = copy.deepcopy(DRAWN)
    board[0][0] = board[2][2] = ""
    state_of(game)["board"][:] = board
    state_of(game)["superpositions"] = {6: (0, (0, 0), (2, 2))}
    game._env.move_count = 7
    return returns_of_the_last_move(game, "0,8")


def two_lines_at_once(game):
    """Quantum tic-tac-toe: player 0's line ends with move 4, player 1's with move 5."""
    state_of(game)["board"][:] = [["O", "O", ""], ["X", "X", ""], ["", "", ""]]
    state_of(game)["superpositions"] = {4: (0, (0, 2), (1, 2))}
    game._env.move_count = 5
    game._env.state.current_player_id = 1
    game.play("2,5")
    return game.returns()


def checkers_position(game, **pieces):
    board = [["."] * 8 for _ in range(8)]
    for square, piece in pieces.items():
        board[int(square[1])][int(square[2])] = piece
    state_of(game)["board"] = board


def red_moves_into_a_corner(game):
    """Red has no move left, but it is black's turn, and black may free it."""
    checkers_position(game, s21="r", s01="b")
    game.play("2 1 1 0")
    return game.current_player(), game.returns()


def black_cannot_move(game):
    checkers_position(game, s50="b", s61="r", s72="r", s47="r")
    game.play("4 7 3 6")
    return game.current_player(), game.returns()


def alquerque_piece_at_its_end(game):
    board = state_of(game)["board"]
    board[:] = [[""] * 5 for _ in range(5)]
    board[1][0], board[0][4] = "R", "B"
    game.play("a4 a5")
    return game.current_player(), game.returns()


def santorini_worker_between_domes(game):
    """Navy steps down from A1, which it domes, and has no move left; white has."""
    dome, ground = (4, None), (0, None)
    board = game._env.board
    board[:] = [[dome] * 5 for _ in range(5)]
    board[0][0], board[0][1] = (3, (0, 1)), ground
    board[4][4], board[4][3], board[3][4] = (0, (1, 1)), ground, ground
    game.play("N1A1A2A1")
    return game.current_player(), game.returns()


def capture_that_connects_the_other(game):
    board = state_of(game)["board"]
    board[:] = [[""] * 8 for _ in range(8)]
    board[0][0] = board[0][1] = board[4][4] = "X"
    board[4][2] = board[7][7] = "O"
    game.play("c4e4")
    return game.returns()


def stratego_position(game, **pieces):
    """Squares such as F0: rank and player."""
    board = game._env.board
    board[:] = [[None] * 10 for _ in range(10)]
    for places in game._env.player_pieces.values():
        places.clear()
    for square, (rank, player) in pieces.items():
        place = ord(square[0]) - 65, int(square[1])
        board[place[0]][place[1]] = {"rank": rank, "player": player}
        game._env.player_pieces[player].append(place)


def player_1_loses_the_last_scout(game):
    stratego_position(game, A0=("Flag", 0), F0=("Marshal", 0), G0=("Scout", 1), J9=("Flag", 1), J8=("Bomb", 1))
    game.play("F0 G0")
    return game.current_player(), game.returns()


def miner_goes_on_from_a_bomb(game):
    stratego_position(game, A0=("Flag", 0), F0=("Miner", 0), G0=("Bomb", 1), J9=("Flag", 1), J5=("Scout", 1))
    play(game, "F0 G0", "J5 J4", "G0 G1")
    return game.current_player()


def road_along_the_second_row(game):
    """It touches the top row, and goes from left to right."""
    mine, theirs = [(0, 1), (1, 0), (1, 1), (1, 2), (1, 3)], [(3, 0), (3, 2), (2, 1), (2, 3)]
    for own, other in itertools.zip_longest(mine, theirs):
        game.play(f"[place () {{({own[0]},{own[1]}): [F0]}}]")
        if other:
            game.play(f"[place () {{({other[0]},{other[1]}): [F1]}}]")
    return game.returns()


def called_bet_and_a_fold(game):
    """The winner of a called bet folds the next hand: plus 2 and minus 1."""
    play(game, "bet", "call")
    chips = state_of(game)["player_chips"]
    winner = max(chips, key=chips.get)
    play(game, *(("check", "bet", "fold") if winner == 0 else ("bet", "fold")))
    return game.returns()[winner]


def third_check(game):
    play(game, "check", "check", "check")
    return game.current_player() is None


def all_prizes_and_no_cash(game):
    """Player 0 buys all prizes, 55 points, and keeps 1; player 1 keeps 66."""
    while game.current_player() is not None:
        own = state_of(game)["player_money"][game.current_player()]
        game.play(str(max(own) if game.current_player() == 0 else 1))
    return game.returns()


def worthless_cards(game):
    """Briscola or golf in which no card has a value, so that all are equal."""
    for card in game._env.deck:
        card.update({"points": 0, "value": 0})
    if "discard_pile" in state_of(game):  # golf deals copies of the deck's list, not of its cards
        state_of(game)["deck"].clear()
        game.play("draw")
    else:
        play_out(game)
    return game.returns()


def to_the_end(game):
    assert play_out(game)
    return sorted(set(game.returns()))


def briscola_of_three(game):
    return play_out(game, most=60)


def golf_all_cards_shown(game):
    """Player 1's promised turn after player 0 has shown all cards."""
    for place, card in enumerate(state_of(game)["players"][0]["cards"]):
        card["revealed"] = place > 0
    play(game, "draw", "swap 1 1")
    return game.current_player()


def golf_after_the_last_turn(game):
    for place, card in enumerate(state_of(game)["players"][0]["cards"]):
        card["revealed"] = place > 0
    play(game, "draw", "swap 1 1", "draw", "discard")
    return game.current_player()


def equal_deadlock(game):
    env = game._env
    env.deck.clear()
    for player in env.players.values():
        player["hand"].clear()
        player["payoff"][:] = ["5♠"]
    game.play("draw")
    return game.returns()


def folded_to_equal_chips(game):
    """Player 0 folds the small blind of 10 in the only hand, after which both have 1010."""
    state_of(game)["player_chips"].update({0: 1010, 1: 980})
    game.play("Fold")
    return game.returns()


def chips_won_by_a_player_without(game):
    """Player 2 has lost everything and is dealt four aces."""
    state_of(game)["player_chips"][2] = 0
    with game._chance:
        game._env._reset_round()

    def cards(text):
        return [{"rank": word[:-1], "suit": word[-1]} for word in text.split()]

    state_of(game)["player_hands"] = {0: cards("2♠ 3♥"), 1: cards("2♥ 4♠"), 2: cards("A♠ A♥")}
    state_of(game)["community_cards"] = cards("A♦ A♣ K♠ 9♥ 7♦")
    while game.current_player() is not None:
        if refused(game, "Check"):
            game.play("Call")
    return state_of(game)["player_chips"][2]


def both_facts(game):
    play(game, "a", "b", "c", "d", "e")
    return "refused" if refused(game, "[Fact 1] [Fact 2]") else game.returns()


def the_word_in_capitals(game):
    word = next(word for word, team in game._env.board.items() if team == "R")
    game.play(f"[{word.upper()} 1]")
    return game.returns()


def unreadable_decision(game):
    play(game, *("hello",) * 2 * game._env.conversation_rounds)
    return refused(game, "I think about it")


def both_decisions(game):
    play(game, *("hello",) * 2 * game._env.conversation_rounds)
    return refused(game, "[Cooperate] or [Defect]"), refused(game, "I [defect]")


def equal_choices(choice):
    def match(game):
        play(game, "hello", "hello", choice, choice)
        return game.returns()

    return match


def a_lost_bid(game):
    """Player 1 pays 301 for what is worth about 100; player 0's 300 wins nothing."""
    play(game, "hello", "hello", "[Bid on Item 0: 300]", "[Bid on Item 0: 301]")
    return game.returns()


def night_without_a_doctor(game):
    """Seven players, two of them mafia: with doctor and detective dead, the first kill makes half of the rest mafia."""
    roles, alive = game._env.player_roles, state_of(game)["alive_players"]
    alive[:] = [player for player in alive if roles[player] not in ("Doctor", "Detective")]
    victim = next(player for player in alive if roles[player] == "Villager")
    play(game, f"[{victim}]", f"[{victim}]")
    return [reward for player, reward in enumerate(game.returns()) if roles[player] == "Mafia"]


PLAYS_ON = [0.0, 0.0]
CASES = [
    ("Bandit-v0", {}, bandit, [0.0], [1.0]),
    ("Bandit-v0", {}, bandit_worst, True, False),
    ("Set-v0", {}, one_card_as_a_set, 1, "refused"),
    ("FifteenPuzzle-v0", {}, last_move_of_the_fifteen_puzzle, AttributeError, [1.0]),
    ("FifteenPuzzle-v0", {}, unsolvable_fifteen_puzzles, True, False),
    ("Hangman-v0", {}, six_wrong_words, 0, None),
    ("LightsOut-v0", {}, more_lights_than_before, [-4.0], [0.0]),
    ("UltimateTicTacToe-v0", {}, full_boards, [-1.0, 1.0], [0.0, 0.0]),
    ("QuantumTicTacToe-v0", {}, last_collapse, [-1.0, 1.0], [0.0, 0.0]),
    ("QuantumTicTacToe-v0", {}, two_lines_at_once, [-1.0, 1.0], [1.0, -1.0]),
    ("Checkers-v0", {}, red_moves_into_a_corner, (None, [-1.0, 1.0]), (1, PLAYS_ON)),
    ("Checkers-v0", {}, black_cannot_move, (1, PLAYS_ON), (None, [1.0, -1.0])),
    ("Alquerque-v0", {}, alquerque_piece_at_its_end, (None, [-1.0, 1.0]), (1, PLAYS_ON)),
    ("SantoriniBaseFixed-v0", {}, santorini_worker_between_domes, (None, [-1.0, 1.0]), (1, PLAYS_ON)),
    ("LinesOfAction-v0", {}, capture_that_connects_the_other, PLAYS_ON, [-1.0, 1.0]),
    ("Stratego-v0", {}, player_1_loses_the_last_scout, (1, PLAYS_ON), (None, [1.0, -1.0])),
    ("Stratego-v0", {}, miner_goes_on_from_a_bomb, TypeError, 1),
    ("Tak-v0", {}, road_along_the_second_row, PLAYS_ON, [1.0, -1.0]),
    ("KuhnPoker-v0", {"env_args": {"max_rounds": 2}}, called_bet_and_a_fold, 0.0, 1.0),
    ("IndianPoker-v0", {"env_args": {"max_rounds": 2}}, third_check, True, False),
    ("HighSociety-v0", {}, all_prizes_and_no_cash, [1.0, -1.0], [-1.0, 1.0]),
    ("Briscola-v0", {}, worthless_cards, [1.0, -1.0], [0.0, 0.0]),
    ("Briscola-v0", {"players": 3}, briscola_of_three, False, True),
    ("Briscola-v0", {"players": 4}, to_the_end, AttributeError, [-1.0, 1.0]),
    ("Golf-v0", {}, worthless_cards, [1.0, -1.0], [0.0, 0.0]),
    ("Golf-v0", {"players": 3}, to_the_end, AttributeError, [-1.0, 1.0]),
    ("Golf-v0", {}, golf_all_cards_shown, None, 1),
    ("SpiteAndMalice-v0", {}, equal_deadlock, [1.0, -1.0], [0.0, 0.0]),
    ("Poker-v0", {"env_args": {"num_rounds": 1}}, folded_to_equal_chips, [-1.0, 1.0], [0.0, 0.0]),
    ("Poker-v0", {"env_args": {"num_rounds": 1}, "players": 3}, chips_won_by_a_player_without, 20, 0),
    ("TruthAndDeception-v0", {}, both_facts, [-1.0, 1.0], "refused"),
    ("Codenames-v0", {}, the_word_in_capitals, [0.0] * 4, [-1.0, -1.0, 1.0, 1.0]),
    ("IteratedPrisonersDilemma-v0", {}, unreadable_decision, False, True),
    ("IteratedPrisonersDilemma-v0", {}, both_decisions, (False, False), (True, False)),
    ("IteratedStagHunt-v0", {}, unreadable_decision, False, True),
    ("PublicGoodsGame-v0", {"env_args": {"num_rounds": 1, "communication_turns": 1}}, equal_choices("5"), [1, 1], [0, 0]),
    ("MarketEntryGame-v0", {"env_args": {"num_rounds": 1, "communication_turns": 1}}, equal_choices("E"), [1, 1], [0, 0]),
    ("SimpleBlindAuction-v0",
     {"env_args": {"num_items": 1, "conversation_rounds": 1, "base_item_values": [100]}}, a_lost_bid, [-1, 1], [1, -1]),
    ("SecretMafia-v0", {"players": 7}, night_without_a_doctor, [0.0, 0.0], [1.0, 1.0]),
]  # fmt: skip


def begun(env, **args):
    game = TextArenaGame(env, **args)
    game.reset(random.Random(0))
    return game


@pytest.mark.parametrize(
    ("env", "args", "match", "shipped", "mended"), CASES, ids=[f"{case[0]}-{case[2].__name__}" for case in CASES]
)
def test_what_is_paid_as_shipped_and_mended(env, args, match, shipped, mended):
    if isinstance(shipped, type):
        with pytest.raises(shipped):
            match(begun(env, as_shipped=True, **args))
    else:
        assert match(begun(env, as_shipped=True, **args)) == shipped
    assert match(begun(env, **args)) == mended


def test_golf_ends_after_the_promised_turn():
    assert golf_after_the_last_turn(begun("Golf-v0")) is None


def test_a_mended_game_claims_to_be_zero_sum_only_as_it_was_measured():
    """As shipped, equal scores of market entry pay both players 1."""
    assert TextArenaGame("MarketEntryGame-v0").zero_sum
    assert not TextArenaGame("MarketEntryGame-v0", as_shipped=True).zero_sum
    assert TextArenaGame("TicTacToe-v0", as_shipped=True).zero_sum


def classes():
    return {env: upstream.registry()[env].entry_point.split(":")[1] for env in environment_ids()}


def test_every_mend_is_of_a_method_of_a_class_that_plays_and_has_a_case_here():
    shown = {classes()[case[0]] for case in CASES}
    assert set(MENDS) == shown
    for env, name in classes().items():
        if name in MENDS:
            assert all(hasattr(upstream.environment_class(env), method) for method in MENDS[name])
            assert all("line" in fault for fault in faults(name))


@pytest.mark.parametrize("name", sorted(MENDS))
def test_a_mended_match_plays_on_from_copies_and_pickles(name):
    """The same moves on a deep copy and on a pickled match, both of which keep the mends."""
    env = next(env for env, of_class in classes().items() if of_class == name)
    game, rng = begun(env), random.Random(1)
    for _ in range(4):
        game.play(game.sample_move(rng))
    others = [copy.deepcopy(game), pickle.loads(pickle.dumps(game))]
    for _ in range(3):
        if game.current_player() is None:
            break
        move = game.sample_move(rng)
        for match in (game, *others):
            match.play(move)
    for other in others:
        assert type(other._env) is type(game._env) is upstream.environment_class(env, False)
        assert [other.observe(p) for p in range(game.num_players)] == [game.observe(p) for p in range(game.num_players)]
        assert other.returns() == game.returns()
