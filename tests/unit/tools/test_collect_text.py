"""The text of a machine: what is documentation, each paragraph once, the same files for the same packages."""

import gzip

import pytest

from tools.collect_text import collect, main

LICENCE = "Permission is granted to copy, distribute and modify this text, as long as this notice stays with it."


@pytest.fixture
def share(tmp_path):
    folder = tmp_path / "share"
    files = {
        "common-licenses/GPL-3": LICENCE,
        "doc/a/copyright": f"Copyright of a.\n\n{LICENCE}\n\nThe end.",
        "doc/b/copyright": LICENCE,
        "doc/b/README": "Read\r\nme, ü.",
        "doc/b/changelog": "many changes",
        "doc/b/NEWS.txt": "news",
        "doc/b/program.c": "int main;",
        "perl/5/pod/perl.pod": "=head1 NAME",
        "games/README": "elsewhere",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    (folder / "doc/b/guide.txt.gz").write_bytes(gzip.compress(b"A guide."))
    (folder / "doc/b/broken.txt.gz").write_bytes(b"no gzip")
    (folder / "doc/b/latin.txt").write_bytes(b"f\xfcr")
    (folder / "doc/b/large.txt").write_bytes(b"x" * 1_000_001)
    (folder / "doc/c").symlink_to(folder / "doc/b")
    (folder / "doc/b/link.txt").symlink_to(folder / "doc/b/README")
    return folder


def _texts(out):
    found = {path.relative_to(out).as_posix(): path.read_bytes().decode() for path in out.rglob("*") if path.is_file()}
    return dict(sorted(found.items()))


def test_documentation_is_taken_and_each_long_paragraph_stands_once(share, tmp_path):
    texts = {
        "common-licenses/GPL-3": LICENCE,
        "doc/a/copyright": "Copyright of a.\n\nThe end.",
        "doc/b/README": "Read\r\nme, ü.",
        "doc/b/guide.txt": "A guide.",
        "perl/5/pod/perl.pod": "=head1 NAME",
    }
    assert collect(share, tmp_path / "one") == (5, sum(len(text.encode()) for text in texts.values()))
    assert _texts(tmp_path / "one") == texts
    collect(share, tmp_path / "two")
    assert _texts(tmp_path / "two") == texts


def test_a_folder_that_holds_something_is_left_alone(share, tmp_path, capsys):
    main([str(tmp_path / "out"), "--share", str(share)])
    assert "5 files" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="is not empty"):
        main([str(tmp_path / "out"), "--share", str(share)])
