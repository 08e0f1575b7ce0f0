"""DROP, by the kind of what is dropped."""

from __future__ import annotations

from typing import Any

from alembic_safe.postgres.effects.handlers.access import drop_publications, drop_statistics
from alembic_safe.postgres.effects.handlers.functions import drop_functions
from alembic_safe.postgres.effects.handlers.index_commands import drop_index
from alembic_safe.postgres.effects.handlers.names import object_name
from alembic_safe.postgres.effects.handlers.removal import drop_table
from alembic_safe.postgres.effects.handlers.schemas import drop_extensions, drop_schemas
from alembic_safe.postgres.effects.handlers.triggers import drop_from_table
from alembic_safe.postgres.effects.handlers.types import drop_types
from alembic_safe.postgres.effects.handlers.views import drop_views
from alembic_safe.postgres.effects.tally import Handler, Tally

_ROUTINES = frozenset({"AGGREGATE", "FUNCTION", "PROCEDURE", "ROUTINE"})

_USED_BY_NO_TABLE = frozenset(
    {
        "ACCESS_METHOD",
        "CAST",
        "CONVERSION",
        "EVENT_TRIGGER",
        "FDW",
        "FOREIGN_SERVER",
        "LANGUAGE",
        "TRANSFORM",
        "TSPARSER",
        "TSTEMPLATE",
    }
)
"""Kinds that columns and indexes do not hang on; foreign tables hang on their server."""


def drop(node: Any, tally: Tally) -> None:
    """`DROP`: see the functions for each kind.

    Raises:
        Refused: it is not there, or is used and CASCADE is not said.
    """
    from postgast import pg_query_pb2 as grammar

    kind = grammar.ObjectType.Name(node.remove_type).removeprefix("OBJECT_")
    names = [object_name(item) for item in node.objects]
    if kind in ("TABLE", "FOREIGN_TABLE"):
        drop_table(node, tally)
    elif kind == "INDEX":
        drop_index(node, tally)
    elif kind in ("VIEW", "MATVIEW", "SEQUENCE"):
        drop_views(names, {"VIEW": "v", "MATVIEW": "m", "SEQUENCE": "S"}[kind], node, tally)
    elif kind == "TRIGGER":
        drop_from_table(names, "trigger", node, tally)
    elif kind == "RULE":
        drop_from_table(names, "rule", node, tally)
    elif kind == "POLICY":
        drop_from_table(names, "policy", node, tally)
    elif kind in ("TYPE", "DOMAIN"):
        drop_types(node, tally)
    elif kind in _ROUTINES:
        drop_functions(names, node, tally)
    elif kind == "SCHEMA":
        drop_schemas(node, tally)
    elif kind == "EXTENSION":
        drop_extensions(node, tally)
    elif kind == "PUBLICATION":
        drop_publications(names, tally)
    elif kind == "STATISTIC_EXT":
        drop_statistics(names, tally)
    elif node.behavior == grammar.DROP_CASCADE or kind not in (*_USED_BY_NO_TABLE, *_MAY_BE_USED):
        tally.unknown(f"what goes away with the {tally.command.removeprefix('DROP ').lower()}")


_MAY_BE_USED = frozenset(
    {"COLLATION", "OPCLASS", "OPERATOR", "OPFAMILY", "TSCONFIGURATION", "TSDICTIONARY"}
)
"""Kinds that something may hang on; without CASCADE the server then refuses."""


HANDLERS: dict[str, Handler] = {"drop_stmt": drop}
