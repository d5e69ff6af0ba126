"""Over every installed prompt format and every sort of tokenizer: what is played is what exact figures score.

A tokenizer that merges spells a text in many ways; play takes the format's own spelling and no other.
"""

import pytest

from spiral.api.errors import SpiralError
from spiral.models.prompt_cache import Prompter
from spiral.plugins.registry import Plugins
from spiral.policies.completer import Completer
from spiral.testing.prompts import MOVES, merging_tokenizer

PLUGINS = Plugins.installed()
FORMATS = PLUGINS.names("prompt")
TOKENIZERS = {"byte": lambda: PLUGINS.make("model", "byte-0.1m")[1], "merging": merging_tokenizer}
MAX_SPELLINGS = 200


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]()


def spellings(tokenizer, text):
    """Sequences of ids that decode to `text`, each made by cutting a piece of another in two."""
    first = tuple(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))
    found, waiting = {first: None}, [first]
    while waiting and len(found) < MAX_SPELLINGS:
        ids = waiting.pop()
        for place, piece in enumerate(tokenizer.convert_ids_to_tokens(list(ids))):
            for cut in range(1, len(piece)):
                parts = tokenizer.convert_tokens_to_ids([piece[:cut], piece[cut:]])
                other = (*ids[:place], *parts, *ids[place + 1 :])
                if None not in parts and other not in found and tokenizer.decode(list(other)) == text:
                    found[other] = None
                    waiting.append(other)
    return list(found)


def test_the_merging_tokenizer_has_many_spellings():
    """Otherwise the next test compares nothing."""
    tokenizer = merging_tokenizer()
    assert len(spellings(tokenizer, "bet")) == 3
    assert sum(len(spellings(tokenizer, move)) > 1 for move in MOVES) >= 5


@pytest.mark.parametrize("name", FORMATS)
def test_one_spelling_of_a_move_is_played(name, tokenizer):
    """Every other spelling, and every text with white space around the move, is read as something else or as none."""
    prompter = Prompter(PLUGINS.make("prompt", name, tokenizer))
    for move in MOVES:
        own = prompter.reply(move)
        if own is None:
            continue  # many replies say it, so no exact figure exists
        assert prompter.read(own) == move
        others = [(*body, own[-1]) for body in spellings(tokenizer, move)]
        others += [prompter.reply(text) for text in (f" {move}", f"{move} ", f"{move}\n", f"\t{move}")]
        assert all(prompter.read(ids) != move for ids in others if ids != own)


@pytest.mark.parametrize("name", FORMATS)
def test_a_move_that_does_not_fit_is_named_with_what_would_do(name, tokenizer):
    """With as many tokens as its reply takes it passes, with one less it is refused."""
    prompter = Prompter(PLUGINS.make("prompt", name, tokenizer))
    for move in MOVES:
        reply = prompter.reply(move)
        if reply is None:
            Completer.of(None, prompter, 1).check_reply(move)
            continue
        Completer.of(None, prompter, len(reply)).check_reply(move)
        with pytest.raises(SpiralError, match=rf"rollout\.max_new_tokens={len(reply)} or more"):
            Completer.of(None, prompter, len(reply) - 1).check_reply(move)
