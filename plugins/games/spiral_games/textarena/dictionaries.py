"""Word lists without a network: stand-ins for the nltk corpora, and one English dictionary a process.

TextArena's word games ask nltk for the corpora `words` and `averaged_perceptron_tagger_eng`, and try to download them
every time. Where they are not installed, stand-ins are made from the American hunspell dictionary that TextArena ships:
`en` is its words in lower case, `en-basic` those with the most inflections, which are the everyday ones, and the tagger
calls every word a noun. So the words drawn differ from those of a machine with the real corpora; real corpora that nltk
can find are used in preference.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.resources
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

VERSION = "1"
"""Part of the cache's name: raise it when what is written changes."""
NUM_BASIC = 850
"""Words of `en-basic`, as many as the real one has."""
UNCHANGING = ("word_list", "universal_word_list", "word_data", "data", "facts_data", "game_board_data", "all_sets")
"""Attributes in which environments keep what they read or computed once, and never change."""
TAGGER = "averaged_perceptron_tagger_eng"

_lock = threading.RLock()


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Within it, nltk downloads nothing: what `prepare` put in place is all there is."""
    nltk: Any = sys.modules.get("nltk") or importlib.import_module("nltk")
    with _lock:
        download = nltk.download
        nltk.download = lambda *args, **kwargs: True
        try:
            yield
        finally:
            nltk.download = download


def prepare() -> None:
    """Make nltk find the stand-ins, after any real corpora; called before a word game is imported."""
    import nltk.data

    where = str(stand_in_corpora())
    if where not in nltk.data.path:
        nltk.data.path.append(where)


def stand_in_corpora() -> Path:
    """The directory of the stand-ins, written on first use. Safe for several processes at once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spiral-games"
    where = cache / f"nltk-data-{VERSION}"
    if where.is_dir():
        return where
    try:
        cache.mkdir(parents=True, exist_ok=True)
        made = _written_corpora(cache)
    except OSError:  # the cache cannot be written, or is full: a directory for this process will do
        return _written_corpora(None)
    # Written beside and renamed into place, so that no process sees half a corpus.
    try:
        made.rename(where)
    except OSError:  # another process was faster
        shutil.rmtree(made, ignore_errors=True)
    return where


def _written_corpora(parent: Path | None) -> Path:
    """The stand-ins in a new directory under `parent`, or among the system's temporary files; whole or not at all."""
    made = Path(tempfile.mkdtemp(prefix="spiral-games-", dir=parent))
    try:
        _write_corpora(made)
    except OSError:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return made


def _write_corpora(where: Path) -> None:
    everything, basic = _word_lists()
    lists = where / "corpora" / "words"
    lists.mkdir(parents=True)
    (lists / "en").write_text("\n".join(everything) + "\n", encoding="utf-8")
    (lists / "en-basic").write_text("\n".join(basic) + "\n", encoding="utf-8")
    tagger = where / "taggers" / TAGGER
    tagger.mkdir(parents=True)
    for part, content in (("weights", {}), ("tagdict", {}), ("classes", ["NN"])):
        (tagger / f"{TAGGER}.{part}.json").write_text(json.dumps(content), encoding="utf-8")


def _word_lists() -> tuple[list[str], list[str]]:
    """(all words, everyday words), each sorted."""
    source = importlib.resources.files("textarena.envs.utils.data").joinpath("en_US.dic")
    inflections: dict[str, int] = {}
    for line in source.read_text(encoding="utf-8").splitlines()[1:]:
        word, _, flags = line.strip().partition("/")
        if word.isascii() and word.isalpha() and word.islower():
            inflections[word] = max(len(flags), inflections.get(word, 0))
    ranked = sorted((w for w in inflections if 3 <= len(w) <= 7), key=lambda w: (-inflections[w], len(w), w))
    return sorted(inflections), sorted(ranked[:NUM_BASIC])


def share_dictionary() -> None:
    """Make every `EnglishDictionary` of this process the same few sets of words: expanding them takes seconds.

    Copies and pickles of a match then hold a reference to it. The words are never changed.
    """
    module: Any = importlib.import_module("textarena.envs.utils.word_lists")
    dictionary = module.EnglishDictionary
    if "__deepcopy__" in vars(dictionary):
        return
    for name in ("_load_dic", "_load_nltk"):
        setattr(dictionary, name, _once(getattr(dictionary, name)))
    dictionary.__deepcopy__ = lambda self, memo: self
    dictionary.__reduce__ = lambda self: (
        shared_dictionary,
        (self.keep_proper_nouns, self.include_nltk, self.keep_non_alpha),
    )


@functools.cache
def shared_dictionary(keep_proper_nouns: bool, include_nltk: bool, keep_non_alpha: bool) -> Any:
    """What an unpickled match refers to."""
    prepare()
    share_dictionary()
    module: Any = importlib.import_module("textarena.envs.utils.word_lists")
    with offline():
        return module.EnglishDictionary(keep_proper_nouns, include_nltk, keep_non_alpha)


def sharing(env: Any) -> dict[int, Any]:
    """A memo for `copy.deepcopy` under which copies of an environment share its lists and data, which never change."""
    return {id(vars(env)[name]): vars(env)[name] for name in UNCHANGING if name in vars(env)} if env else {}


def listed(dictionary: Any) -> Sequence[str]:
    """The words of an environment's dictionary, sorted; none for an environment without one."""
    if dictionary is None:
        return ()
    return _sorted_words(dictionary.keep_proper_nouns, dictionary.include_nltk, dictionary.keep_non_alpha)


@functools.cache
def _sorted_words(keep_proper_nouns: bool, include_nltk: bool, keep_non_alpha: bool) -> Sequence[str]:
    return tuple(sorted(shared_dictionary(keep_proper_nouns, include_nltk, keep_non_alpha).get_all_words()))


def beginning(dictionary: Any, letter: str, length: int) -> Sequence[str]:
    """Words of a length that begin with a letter, sorted."""
    key = (dictionary.keep_proper_nouns, dictionary.include_nltk, dictionary.keep_non_alpha)
    return _by_beginning(*key).get((letter, length), ())


@functools.cache
def _by_beginning(*key: bool) -> Mapping[tuple[str, int], Sequence[str]]:
    words: dict[tuple[str, int], list[str]] = {}
    for word in _sorted_words(*key):
        words.setdefault((word[0], len(word)), []).append(word)
    return words


def _once(load: Any) -> Any:
    """`load`, remembered by what its result depends on."""
    known: dict[Any, Any] = {}

    @functools.wraps(load)
    def remembered(self: Any, *args: Any, **kwargs: Any) -> Any:
        key = (self.keep_proper_nouns, self.keep_non_alpha, args, tuple(sorted(kwargs.items())))
        if key not in known:
            known[key] = load(self, *args, **kwargs)
        return known[key]

    return remembered
