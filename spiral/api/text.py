"""Text of games, policies and servers, made fit for a terminal, a log or a page."""

from __future__ import annotations

import logging
import re

# Control characters, among them the escape that begins a terminal's commands; what is invisible or turns the direction
# of writing; half characters, and tags, which are invisible text.
_STEERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"
    "\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffc\ufffe\uffff"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)


def printable(text: str) -> str:
    """The text with all that steers a terminal, turns the direction of writing or is invisible written as escapes, such
    as `\\x1b`; line breaks, tabs and the joiners of scripts and emoji stay."""
    return _STEERS.sub(_escape, text)


def printable_logger(name: str) -> logging.Logger:
    """The logger of a module, whose lines are printable whatever they quote."""
    logger = logging.getLogger(name)
    logger.addFilter(_filter)
    return logger


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def _filter(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable(record.getMessage()), ()
    return True
