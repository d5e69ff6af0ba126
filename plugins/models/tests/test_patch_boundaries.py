"""Where patches end: one rule, whichever way a text is read, and never one that looks ahead."""

import numpy as np
import pytest
import torch
from spiral_models.patch.boundaries import BEFORE, Boundaries
from spiral_models.patch.config import PatchConfig
from spiral_models.patch.entropy import default_entropies, fit_entropies, packed, stops_by, unpacked
from spiral_models.patch.presets import LONGEST, THRESHOLD, WINDOW

from spiral import SpiralError

OBS, ACT = 259, 260
TEXTS = {
    "words": b"The pot is 3; you hold a K. Bet or pass?",
    "long word": b"x" * 31 + b" " + b"internationalization" * 2,
    "no word": b" .,;-\n\n [0][1] | | ",
    "letters beyond ASCII": "Züge für über 9 Spieler, даже так".encode(),
    "invalid UTF-8": bytes([0xFF, 0xC0, 0x80, 0xED, 0x20] * 6),
    "one byte": b"a",
}


def boundaries(pooling, patch=None, stops=None):
    patch, stops = patch or LONGEST[pooling], stops or stops_by(None, THRESHOLD)
    return Boundaries(PatchConfig(pooling=pooling, patch=patch, stops=stops, window=max(WINDOW, patch + 1)))


def cut(rule, ids):
    """bool a byte: whether a patch ends with it."""
    row = torch.tensor([ids])
    previous = torch.tensor([[BEFORE, *ids[:-1]]])
    places = torch.arange(len(ids))[None]
    return rule.ends(rule.is_stop(row, previous), places, torch.tensor([[-1]])).end[0].tolist()


def read(pooling, patch, ids):
    """The rule again, one byte after another."""
    word = {*b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", *range(128, 256)}
    entropies, before, since, found = default_entropies(), BEFORE, 0, []
    for byte in ids:
        since += 1
        stop = byte >= 256
        if pooling == "spaces":
            stop |= before in word and byte not in word
        elif pooling == "entropy" and not stop:
            stop = bool(entropies[before if before < 256 else ord("\n"), byte] > THRESHOLD)
        found.append(stop or since % patch == 0)
        since, before = 0 if stop else since, byte
    return found


@pytest.mark.parametrize("pooling", LONGEST)
@pytest.mark.parametrize("text", TEXTS)
def test_the_table_is_the_rule(pooling, text):
    ids = [257, *TEXTS[text], ACT, *TEXTS[text][:5]]
    assert cut(boundaries(pooling), ids) == read(pooling, LONGEST[pooling], ids)


@pytest.mark.parametrize("pooling", LONGEST)
def test_random_ids_are_cut_by_the_rule_into_patches_of_any_length_allowed(pooling):
    ids = torch.randint(0, 272, (2000,), generator=torch.Generator().manual_seed(0)).tolist()
    for patch in (1, 5, 12):
        ends = cut(boundaries(pooling, patch), ids)
        assert ends == read(pooling, patch, ids)
        places = np.flatnonzero(ends)
        assert np.diff(places, prepend=-1).max() <= patch
        assert all(end for end, byte in zip(ends, ids, strict=True) if byte >= 256)


@pytest.mark.parametrize("pooling", LONGEST)
def test_a_beginning_is_cut_as_the_whole_is(pooling):
    ids = [257, *TEXTS["words"], OBS, *TEXTS["long word"], ACT, *TEXTS["invalid UTF-8"]]
    rule, whole = boundaries(pooling), cut(boundaries(pooling), ids)
    for length in range(1, len(ids)):
        assert cut(rule, ids[:length]) == whole[:length]


def test_a_patch_ends_before_the_byte_that_is_hard_to_tell():
    """Entropy after the fourth byte speaks of the fifth, which begins a patch."""
    stops = np.zeros((256, 256), dtype=bool)
    stops[ord("c"), ord("d")] = True
    rule = boundaries("entropy", stops=packed(stops))
    assert cut(rule, list(b"abcdXabc")) == [False] * 3 + [True] + [False] * 4
    assert cut(boundaries("fixed", 4), list(b"aaaaXaaaa")) == [False] * 3 + [True] + [False] * 3 + [True, False]
    assert cut(boundaries("spaces", 4), list(b"aaaaXaaaa")) == [False] * 3 + [True] + [False] * 3 + [True, False]


def test_entropies_are_those_of_the_counts():
    """`ab` is followed by `c` always, `xy` by 64 bytes alike; what was never seen by what is seen anywhere."""
    text = b"abc" * 5000 + b"".join(b"xy" + bytes([n]) for n in range(32, 96)) * 60
    bits = fit_entropies(text) / 31.0
    assert bits[ord("a"), ord("b")] < 0.1
    assert bits[ord("x"), ord("y")] == pytest.approx(6.0, abs=0.1)
    probabilities = np.bincount(np.frombuffer(text, np.uint8), minlength=256) / len(text)
    entropy = -sum(p * np.log2(p) for p in probabilities if p)
    assert bits[200, 201] == pytest.approx(entropy, abs=0.05)


def test_the_table_that_is_shipped_cuts_text_into_words():
    """Patches of this project's text have 4 to 7 bytes; the beginnings of its words are hard to tell, their ends not."""
    assert default_entropies().shape == (256, 256)
    ends = cut(boundaries("entropy"), list(b"\nThe player to move is told what the other players did in this game."))
    assert 4 <= len(ends) / sum(ends) <= 7


def test_a_text_of_ones_own_gives_another_table(tmp_path):
    file = tmp_path / "text"
    file.write_bytes(b"aXbX" * 1000)
    assert not unpacked(stops_by(str(file), 0.5))[ord("a"), ord("X")]
    assert unpacked(stops_by(None, 0.5))[ord("a"), ord("X")]
    assert unpacked(stops_by(str(file), 0.5))[ord("q"), ord("q")]
    for content, words in ((None, "cannot be read"), (b"short", "has 5 bytes")):
        path = tmp_path / ("none" if content is None else "short")
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(SpiralError, match=words):
            stops_by(str(path), 2.0)
