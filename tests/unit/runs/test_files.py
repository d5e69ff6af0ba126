"""Atomic writes: the old file or the new one, whatever happens in between, and nothing left beside it."""

import os

import pytest

from spiral.runs import files


def test_a_file_is_replaced(tmp_path):
    """The new text, in UTF-8, and nothing beside it."""
    files.write_atomic(tmp_path / "a.txt", "old")
    files.write_atomic(tmp_path / "a.txt", "Spaß")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "Spaß"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("fails", ["write", "replace"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, fails):
    """A full disk, while writing or while renaming."""
    files.write_atomic(tmp_path / "a.txt", "old")

    def full(*_):
        raise OSError("no space left on device")

    if fails == "replace":
        monkeypatch.setattr(os, "replace", full)
    write = full if fails == "write" else (lambda path: path.write_text("new"))
    with pytest.raises(OSError, match="no space"):
        files.replace_file(tmp_path / "a.txt", write, 3)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_what_a_killed_process_left_is_swept_away(tmp_path):
    """A library that is killed leaves an unfinished file of its own name beside its target."""
    left_over = tmp_path / ".a.txt.tmp"
    left_over.mkdir()
    (left_over / ".tmpQx81").write_bytes(b"half")
    files.write_atomic(tmp_path / "a.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_processes_that_share_a_file_do_not_share_the_unfinished_one(tmp_path):
    """While one writes, another may: each in a place of its own."""
    seen = []

    def write(path):
        seen.append(path.parent.name)
        path.write_text("x")

    files.replace_file(tmp_path / "a.txt", write, 1, shared=True)
    assert seen == [f".a.txt.{os.getpid()}.tmp"]


def test_a_directory_is_replaced_whole(tmp_path):
    """Files of the old one are gone; one that fails leaves the old one."""
    target = tmp_path / "d"
    files.replace_directory(target, lambda folder: (folder / "old").write_text("1"), 1)
    files.replace_directory(target, lambda folder: (folder / "new").write_text("2"), 1)
    assert [path.name for path in target.iterdir()] == ["new"]

    def fails(folder):
        (folder / "half").write_text("3")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        files.replace_directory(target, fails, 1)
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [*tmp_path.iterdir()] == [target]
    files.remove_directory(target)
    assert not target.exists()


def test_a_directory_whose_replacement_was_killed_has_its_name_again(tmp_path, monkeypatch):
    """Killed between the two renames: nothing has the name until it is recovered."""
    target = tmp_path / "d"
    files.replace_directory(target, lambda folder: (folder / "old").write_text("1"), 1)
    rename = os.rename

    def killed(source, destination):
        rename(source, destination)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        files.replace_directory(target, lambda folder: (folder / "new").write_text("2"), 1)
    monkeypatch.undo()
    assert not target.exists()
    files.recover_directory(target)
    assert [path.name for path in target.iterdir()] == ["old"]


def test_a_directory_that_is_being_deleted_is_not_brought_back(tmp_path, monkeypatch):
    """Half deleted, it must not look whole."""
    target = tmp_path / "d"
    files.replace_directory(target, lambda folder: (folder / "a").write_text("1"), 1)
    monkeypatch.setattr(files.shutil, "rmtree", lambda path, **_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        files.remove_directory(target)
    files.recover_directory(target)
    assert not target.exists()
