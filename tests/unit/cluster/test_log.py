"""Warnings of a process that the command's terminal does not see."""

import logging.config

from spiral.api.text import printable_logger
from spiral.cluster.log import Warnings


def test_warnings_are_handed_on_until_the_end():
    """Also after a library, such as a web server, configured logging, for which it closes all handlers."""
    heard = []
    warnings = Warnings(heard.append)
    log = printable_logger("spiral.somewhere")
    log.warning("one %d", 1)
    log.info("nothing")
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
    log.warning("two")
    warnings.stop()
    log.warning("three")
    assert heard == ["one 1", "two"]
