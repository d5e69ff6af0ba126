"""A model is its content: every byte that is loaded counts, and nothing that is not."""

import os
import shutil

import pytest

from spiral.api.errors import RunError
from spiral.models.fingerprint import fingerprint, read_from


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model" / "chat").mkdir(parents=True)
    (tmp_path / "model" / "model.safetensors").write_bytes(bytes(1 << 20))
    (tmp_path / "model" / "tokenizer.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model" / "chat" / "tool.jinja").write_text("x", encoding="utf-8")
    return tmp_path / "model"


def flip(path):
    """One bit in the middle; size and dates stay."""
    data, stat = bytearray(path.read_bytes()), path.stat()
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "chat/tool.jinja"])
def test_one_bit_of_any_file_is_another_model(folder, name):
    before = fingerprint(folder)
    flip(folder / name)
    assert fingerprint(folder) != before


def test_a_name_is_content(folder):
    before = fingerprint(folder)
    (folder / "tokenizer.json").rename(folder / "vocab.json")
    assert fingerprint(folder) != before


def test_a_copy_is_the_same_model(folder, tmp_path):
    """Elsewhere, through links, with other dates, with notes of a downloader and a README."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "tokenizer.json").unlink()
    (copy / "tokenizer.json").symlink_to(folder / "tokenizer.json")
    (copy / ".cache").mkdir()
    (copy / ".cache" / "when").write_text("now", encoding="utf-8")
    (copy / "README.md").write_text("A model.", encoding="utf-8")
    assert fingerprint(copy) == fingerprint(folder)


def test_arguments_that_name_files_are_found(folder):
    args = {"path": str(folder), "weights": str(folder / "tokenizer.json"), "context": 64, "style": "board", "none": ""}
    assert read_from(args) == {str(p): fingerprint(p) for p in (folder, folder / "tokenizer.json")}


def test_a_file_that_cannot_be_read_is_one_sentence(folder, monkeypatch):
    def forbidden(file):
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr("spiral.models.fingerprint._content", forbidden)
    with pytest.raises(RunError, match=r"cannot be read \(Permission denied\)"):
        fingerprint(folder)
