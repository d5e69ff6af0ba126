"""A reply's text, id by id."""

import pytest

from spiral.models.pieces import pieces


def decode(ids):
    return bytes(ids).decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", []),
        (b"bet", ["b", "e", "t"]),
        ("é!".encode(), ["", "é", "!"]),
        ("\U0001f0a1".encode(), ["", "", "", "\U0001f0a1"]),
        (b"a\xffb", ["a", "", "\ufffdb"]),
        (b"\xff" * 6, ["", "", "", "\ufffd" * 4, "", "\ufffd\ufffd"]),
    ],
)
def test_each_id_has_the_text_that_it_adds(raw, told):
    """A character of several bytes stands where it is complete; bytes that are none are held for so long and no longer."""
    assert pieces(list(raw), decode) == told
    assert "".join(told) == decode(raw)


def test_text_that_depends_on_what_stands_before_it_is_told_as_in_the_whole():
    """As of tokenizers that leave out the space before the first word."""

    def words(ids):
        return " ".join(f"w{one}" for one in ids)

    assert pieces([1, 2, 3], words) == ["w1", " w2", " w3"]


def test_a_long_reply_is_decoded_in_parts():
    """Not all of it for each of its ids."""
    lengths = []

    def counting(ids):
        lengths.append(len(ids))
        return decode(ids)

    pieces([97] * 3000, counting)
    assert max(lengths) == 2
