"""Which documents are read from files and folders, which are left out and counted, and which part is held out."""

import os
import sys

import pytest

from spiral.api.errors import SpiralError
from spiral.learning.documents import Documents, num_bytes, read_documents


@pytest.mark.parametrize(("text", "num"), [("a b", 3), ("ü", 2), ("", 0), ("\n", 1), ("\r\n", 2), ("🙂", 4)])
def test_bytes_are_those_of_the_text_as_utf_8(text, num):
    """Each byte once: spaces are no part of a word's token that would be added again (parameter-golf#1804)."""
    assert num_bytes(text) == num


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "z.txt").write_text("third", encoding="utf-8")
    (tmp_path / "a.txt").write_bytes("first\r\nü".encode())
    (tmp_path / "b.md").write_text("second", encoding="utf-8")
    (tmp_path / "copy.txt").write_text("second", encoding="utf-8")
    (tmp_path / "empty").touch()
    (tmp_path / "latin1.txt").write_bytes("für".encode("latin-1"))
    (tmp_path / "picture").write_bytes(b"\x89PNG\0\0")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")
    return tmp_path


def test_a_folder_is_read_by_name_and_what_is_no_text_is_counted(folder):
    """Newlines stay as they are; links are not followed; equal documents count once."""
    documents = read_documents([str(folder)])
    assert documents.texts == ("first\r\nü", "second", "third")
    assert (documents.skipped, documents.repeated) == (2, 1)
    assert documents.num_bytes == 9 + 6 + 5


def test_files_and_folders_together_in_the_order_of_the_words(folder):
    documents = read_documents([str(folder / "b"), str(folder / "b.md"), str(folder)])
    assert documents.texts == ("third", "second", "first\r\nü")


def test_the_fingerprint_is_that_of_the_content(folder, tmp_path_factory):
    """Not of names or of what is no text; another character is another text."""
    before = read_documents([str(folder)]).fingerprint
    (folder / "picture").write_bytes(b"\0other")
    (folder / "b.md").rename(folder / "ba.md")
    assert read_documents([str(folder)]).fingerprint == before
    (folder / "b" / "z.txt").write_text("thirD", encoding="utf-8")
    assert read_documents([str(folder)]).fingerprint != before


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("none", "does not exist; give files, folders or datasets"),
        ("picture", "is binary or not UTF-8"),
        ("latin1.txt", "is binary or not UTF-8"),
        ("empty", "holds no text (0 files are binary"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(folder, path, says):
    with pytest.raises(SpiralError) as told:
        read_documents([str(folder / path)])
    assert says in str(told.value)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_one_sentence(folder):
    (folder / "a.txt").chmod(0)
    with pytest.raises(SpiralError, match="a.txt cannot be read"):
        read_documents([str(folder)])


# What is held out


def _many(num=100, length=100):
    return Documents(tuple(f"{n:03d}" + "x" * (length - 3) for n in range(num)), 0, 0)


def test_whole_documents_are_held_out_up_to_the_byte():
    """250 of 10,000 bytes: two whole documents and the end of a third, whose beginning is trained on."""
    trained, held_out = _many().split(250)
    assert [len(text) for text in held_out] == [100, 100, 50]
    assert sorted(len(text) for text in trained) == [50, *[100] * 97]
    assert sum(map(num_bytes, trained)) + 250 == _many().num_bytes
    (cut,) = [text for text in trained if len(text) == 50]
    assert cut + held_out[-1] in _many().texts
    assert not {*trained} & {*held_out}
    assert _many().split(200)[1] == held_out[:2]
    assert len(_many().split(200)[0]) == 98


def test_one_document_alone_is_held_out_by_its_end():
    alphabet = "".join(chr(97 + n % 26) for n in range(100))
    assert Documents((alphabet,), 0, 0).split(1_000_000) == ([alphabet[:90]], [alphabet[90:]])
    assert Documents((alphabet,), 0, 0).split(4, trained_bytes=10) == ([alphabet[:10]], [alphabet[96:]])


def test_a_tenth_is_held_out_at_most_and_nothing_where_nothing_is_asked():
    assert sum(map(num_bytes, _many().split(1_000_000)[1])) == 1000
    trained, held_out = _many().split(0)
    assert (sorted(trained), held_out) == ([*_many().texts], [])


def test_more_text_moves_no_document_from_one_part_to_the_other():
    """By hashes and not by numbers: of the old documents the same first ones are held out, as far as they still fit."""
    old, new = _many(100), _many(200)
    held_out = [text for text in new.split(1000)[1] if text in old.texts]
    assert held_out == [text for text in old.split(1000)[1] if text in new.split(1000)[1]]
    assert held_out
    reversed_order = Documents(old.texts[::-1], 0, 0)
    assert reversed_order.split(500)[1] == old.split(500)[1]


def test_a_part_may_be_trained_on_and_the_same_text_is_held_out():
    """120 bytes, of those that are not held out: the beginning that is left of a document, and 70 of the next."""
    trained, held_out = _many().split(250, trained_bytes=120)
    everything, same = _many().split(250)
    assert held_out == same
    assert [len(text) for text in trained] == [50, 70]
    assert {text[:3] for text in trained} <= {text[:3] for text in everything}
    assert sorted(_many().split(250, trained_bytes=10**9)[0]) == sorted(everything)


def test_no_character_is_cut_in_two():
    """5 of 60 bytes in characters of two: three characters are held out; and 5 bytes to train on hold two."""
    documents = Documents(("üüü" * 10,), 0, 0)
    assert documents.split(5) == (["ü" * 27], ["üüü"])
    assert documents.split(0, trained_bytes=5)[0] == ["üü"]


# Datasets


def test_a_dataset_without_its_library_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "dataset_info.json").write_text("{}", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SpiralError, match=r"datasets is not installed: pip install 'spiral-selfplay\[datasets\]'"):
        read_documents([str(tmp_path)])


def test_a_saved_dataset_gives_its_text(tmp_path):
    datasets, arrow = pytest.importorskip("datasets"), pytest.importorskip("pyarrow")

    def dataset(**columns):
        # With a fingerprint: without one datasets 5.2 pickles the table, which fails with some releases of dill.
        return datasets.Dataset(datasets.table.InMemoryTable(arrow.table(columns)), fingerprint="1")

    one = dataset(text=["a", "b", "a"], other=[1, 2, 3])
    one.save_to_disk(tmp_path / "one")
    assert read_documents([str(tmp_path / "one")]).texts == ("a", "b")
    datasets.DatasetDict({"train": one}).save_to_disk(tmp_path / "split")
    assert read_documents([str(tmp_path / "split")]).texts == ("a", "b")
    datasets.DatasetDict({"test": one}).save_to_disk(tmp_path / "test")
    with pytest.raises(SpiralError, match="has the splits test, and no train"):
        read_documents([str(tmp_path / "test")])
    dataset(other=[1]).save_to_disk(tmp_path / "bare")
    with pytest.raises(SpiralError, match="has the columns other, and no text"):
        read_documents([str(tmp_path / "bare")])
