"""What a plug-in's own code raises, as one sentence: whose code it was, what it raised, and in which file and line."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spiral.api.errors import PluginError, SpiralError

_OURS = str(Path(__file__).parents[1])
_LOADERS = {"importlib", "pluggy"}
"""Parts of the paths of what loads plug-ins."""


@contextmanager
def blamed(plugin: str) -> Iterator[None]:
    """Raise PluginError for whatever the body raises, in the name of `plugin`, such as "opponent sampler 'league'".

    A SpiralError is a sentence of the plug-in's own, and passes.
    """
    try:
        yield
    except SpiralError:
        raise
    except Exception as error:
        raise PluginError(f"{plugin} raised {told(error)}; mend it, or choose another") from error


def told(error: BaseException) -> str:
    """The type and the message on one line, and the file and line that it came from."""
    if isinstance(error, SpiralError):
        return str(error)
    text = " ".join(f"{type(error).__name__}: {error}".split())
    # A SyntaxError says its own place, which no frame has run yet.
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    place = _place(error)
    return f"{text} ({place})" if place else text


def _place(error: BaseException) -> str:
    """The deepest line that is neither spiral's own nor a loader's; empty without one, as for arguments that
    do not fit, which fail before a line of the plug-in runs."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((_OURS, "<frozen")) and not _LOADERS & {*Path(frame.filename).parts}
    ]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
