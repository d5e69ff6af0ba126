"""Brings a database to the tables of this version, by Alembic: one revision a change of the tables, and none is edited
once it was released."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, MetaData

from spiral.api.errors import SpiralError

FOLDER = Path(__file__).parent


def upgrade(connection: Connection, tables: MetaData) -> None:
    """Do the revisions that a database has not had, in the connection's transaction. Raises SpiralError for one that a
    later version has changed."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes.update(connection=connection, tables=tables)
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise SpiralError(
            f"the database was changed by another version of spiral ({error}); use that one, or a backup from before"
        ) from error
