"""Names and literals: quoted in one place, and never longer than PostgreSQL keeps."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS

MAX_IDENTIFIER_BYTES = 63
"""NAMEDATALEN - 1 (PostgreSQL documentation, 4.1.1 Identifiers and Key Words)."""

_HASH_LENGTH = 8

_KEYWORDS = RESERVED_WORDS | {"collation", "concurrently", "lateral", "system_user", "tablesample"}
"""SQLAlchemy's list lacks five words that cannot be a column's name without quotes (PostgreSQL
documentation, appendix C). `system_user` would even be read, as another thing."""


def quote(name: str) -> str:
    """Return `name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def readable(name: str) -> str:
    """Return `name` as an SQL identifier, in quotes only where it needs them."""
    is_plain = re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in _KEYWORDS
    return name if is_plain else quote(name)


def literal(text: str) -> str:
    """Return `text` as an SQL string literal that is read alike whatever the server's
    `standard_conforming_strings`."""
    doubled = text.replace("'", "''")
    if "\\" in doubled:
        return "E'" + doubled.replace("\\", "\\\\") + "'"
    return f"'{doubled}'"


class QualifiedName(NamedTuple):
    """A table, index or function, with its schema if one was given.

    A tuple, because the effects engine looks names up a hundred thousand times.
    """

    name: str
    schema: str | None = None

    @property
    def sql(self) -> str:
        """The quoted name, as it stands in a statement."""
        if self.schema is None:
            return quote(self.name)
        return f"{quote(self.schema)}.{quote(self.name)}"

    @property
    def regclass(self) -> str:
        """An SQL expression that is the relation's oid, or NULL where there is none."""
        return f"to_regclass({literal(self.sql)})"

    def sibling(self, name: str) -> QualifiedName:
        """Return `name` in the same schema."""
        return QualifiedName(name, self.schema)

    def __str__(self) -> str:
        return self.name if self.schema is None else f"{self.schema}.{self.name}"


def derived_name(prefix: str, *parts: str) -> str:
    """Return a name made of `prefix` and `parts`, at most 63 bytes long.

    A name that is too long keeps its readable beginning and ends in a hash of the whole, so that
    two long names never become one (PostgreSQL would cut both to the same 63 bytes).
    """
    full = "_".join((prefix, *parts))
    encoded = full.encode()
    # Parts may contain the separator: "a_b", "c" and "a", "b_c" must not meet either.
    ambiguous = sum("_" in part for part in parts) > 0 and len(parts) > 1
    if len(encoded) <= MAX_IDENTIFIER_BYTES and not ambiguous:
        return full
    digest = hashlib.sha256("\x00".join((prefix, *parts)).encode()).hexdigest()[:_HASH_LENGTH]
    room = MAX_IDENTIFIER_BYTES - _HASH_LENGTH - 1
    return encoded[:room].decode(errors="ignore").rstrip("_") + "_" + digest
