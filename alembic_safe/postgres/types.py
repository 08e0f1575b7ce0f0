"""Types: how they are written, what they are made of, what PostgreSQL brings itself.

Names are those of `pg_type` (`int4`, not `integer`), as the parser has them too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zlib import crc32

from alembic_safe.postgres.identifiers import readable

if TYPE_CHECKING:
    from alembic_safe.postgres.effects.world import UserType, World


@dataclass(frozen=True)
class TypeName:
    """A type as a column has it.

    Args:
        name: the internal name, `int4`, `varchar`, `bpchar`, `timestamptz`, or the user's.
        modifiers: as written: (50,) of `varchar(50)`, (10, 2) of `numeric(10,2)`.
        is_array: whether it is an array of that.
        schema: None is `pg_catalog`, and where a user's type was written without schema.
    """

    name: str
    modifiers: tuple[int, ...] = ()
    is_array: bool = False
    schema: str | None = None


SERIALS = {
    "smallserial": "int2",
    "serial2": "int2",
    "serial": "int4",
    "serial4": "int4",
    "bigserial": "int8",
    "serial8": "int8",
}
"""What stands for an integer type with a sequence, NOT NULL and a default."""

_BUILT_IN_NAMES = """
    aclitem bit bool box bpchar bytea char cid cidr circle date datemultirange daterange float4
    float8 inet int2 int2vector int4 int4multirange int4range int8 int8multirange int8range interval
    json jsonb jsonpath line lseg macaddr macaddr8 money name numeric nummultirange numrange oid
    oidvector path pg_lsn pg_snapshot point polygon refcursor regclass regcollation regconfig
    regdictionary regnamespace regoper regoperator regproc regprocedure regrole regtype text tid
    time timestamp timestamptz timetz tsmultirange tsquery tsrange tstzmultirange tstzrange
    tsvector txid_snapshot uuid varbit varchar xid xid8 xml
"""

BUILT_IN = frozenset(_BUILT_IN_NAMES.split())
"""Types in `pg_catalog` that a column can have (PostgreSQL 13 to 18, `pg_type`)."""

_EXTENSION_NAMES = """
    box2d box3d citext cube geography geometry halfvec hstore lquery ltree ltxtquery raster seg
    sparsevec vector
"""

OF_EXTENSIONS = frozenset(_EXTENSION_NAMES.split())
"""Types of citext, cube, hstore, ltree, pgvector, PostGIS and seg. They are no domains."""

_WRITTEN = {
    "bit": "bit",
    "bool": "boolean",
    "bpchar": "character",
    "char": '"char"',
    "float4": "real",
    "float8": "double precision",
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "time": "time{} without time zone",
    "timestamp": "timestamp{} without time zone",
    "timestamptz": "timestamp{} with time zone",
    "timetz": "time{} with time zone",
    "varbit": "bit varying",
    "varchar": "character varying",
}
"""As `format_type` says it, where that is not the name; `{}` is the place of the modifiers."""

_MAX_PRECISION = 6
"""Of seconds; the server takes more for this (`anytime_typmod_check`)."""

FULL_RANGE = 0x7FFF
"""How an interval with a precision and without fields is kept (`INTERVAL_FULL_RANGE`)."""

_INTERVAL_FIELDS = {
    1 << 2: "year",
    1 << 1: "month",
    1 << 3: "day",
    1 << 10: "hour",
    1 << 11: "minute",
    1 << 12: "second",
    (1 << 2) | (1 << 1): "year to month",
    (1 << 3) | (1 << 10): "day to hour",
    (1 << 3) | (1 << 10) | (1 << 11): "day to minute",
    (1 << 3) | (1 << 10) | (1 << 11) | (1 << 12): "day to second",
    (1 << 10) | (1 << 11): "hour to minute",
    (1 << 10) | (1 << 11) | (1 << 12): "hour to second",
    (1 << 11) | (1 << 12): "minute to second",
}
"""The bits of INTERVAL_MASK (`utils/datetime.h`)."""


def type_of(node: Any) -> TypeName:
    """Return the type that a `TypeName` of the parse tree means.

    A serial type is returned under its own name.
    """
    parts = [part.string.sval for part in node.names]
    name = parts[-1]
    schema = parts[-2] if len(parts) > 1 and parts[-2] != "pg_catalog" else None
    is_array = bool(node.array_bounds)
    is_built_in = schema is None and name in BUILT_IN
    if schema is None and not is_built_in and name[:1] == "_" and name[1:] in BUILT_IN:
        name, is_array, is_built_in = name[1:], True, True
    modifiers = tuple(_modifier(modifier) for modifier in node.typmods)
    if is_built_in:
        modifiers = _as_kept(name, modifiers)
    return TypeName(name, modifiers, is_array, schema)


def read_type(text: str) -> TypeName:
    """Return the type that SQL text means, as `format_type` writes it too.

    Raises:
        ValueError: it is not exactly one type.
    """
    found = _read_type(text)
    if found is None:
        raise ValueError(f"not exactly one SQL type: {text}")
    return found


@lru_cache(maxsize=1024)
def _read_type(text: str) -> TypeName | None:
    import postgast

    try:
        statements = postgast.parse(f"ALTER TABLE t ALTER c TYPE {text}").stmts
    except (postgast.PgQueryError, RecursionError):
        return None
    commands = statements[0].stmt.alter_table_stmt.cmds
    if len(statements) != 1 or len(commands) != 1:
        return None
    column = getattr(commands[0].alter_table_cmd, "def").column_def
    is_more = column.HasField("raw_default") or column.HasField("coll_clause")
    return None if is_more else type_of(column.type_name)


def type_sql(type_: TypeName) -> str:
    """Return a type as PostgreSQL writes it, `character varying(50)`, `integer[]`."""
    is_built_in = type_.schema is None and type_.name in BUILT_IN
    modifiers = ""
    if type_.modifiers:
        modifiers = "(" + ",".join(map(str, type_.modifiers)) + ")"
    if is_built_in and type_.name == "interval" and type_.modifiers:
        fields = _INTERVAL_FIELDS.get(type_.modifiers[0], "")
        precision = f"({type_.modifiers[1]})" if len(type_.modifiers) > 1 else ""
        name = f"interval {fields}{precision}" if fields else f"interval{precision}"
    elif is_built_in:
        written = _WRITTEN.get(type_.name, type_.name)
        if type_.name == "bpchar" and not modifiers:
            written = "bpchar"
        name = written.format(modifiers) if "{}" in written else written + modifiers
    else:
        schema = "" if type_.schema in (None, "public") else f"{readable(type_.schema or '')}."
        name = f"{schema}{readable(type_.name)}{modifiers}"
    return name + ("[]" if type_.is_array else "")


def _modifier(node: Any) -> int:
    constant = node.a_const
    if constant.HasField("ival"):
        return int(constant.ival.ival)
    # A word, as in geometry(Point): only whether two are the same is of interest.
    return crc32(node.SerializeToString(deterministic=True))


def _as_kept(name: str, modifiers: tuple[int, ...]) -> tuple[int, ...]:
    """Return modifiers as the catalog keeps them."""
    if not modifiers:
        return ()
    if name == "numeric" and len(modifiers) == 1:
        return (modifiers[0], 0)
    if name in ("time", "timetz", "timestamp", "timestamptz"):
        return (min(modifiers[0], _MAX_PRECISION),)
    if name == "interval":
        if len(modifiers) > 1:
            return (modifiers[0], min(modifiers[1], _MAX_PRECISION))
        return () if modifiers[0] == FULL_RANGE else modifiers
    return modifiers


def is_built_in(type_: TypeName) -> bool:
    """Return whether PostgreSQL brings the type, or that of an array's elements, itself."""
    return type_.schema is None and type_.name in BUILT_IN


def user_type(type_: TypeName, world: World) -> UserType | None:
    """Return the user's type that it is, or an array of; None for a built-in or unknown one."""
    if is_built_in(type_):
        return None
    return world.types.get(world.qualified_type(type_.name, type_.schema))


def same_type(one: TypeName, other: TypeName, world: World) -> bool:
    """Return whether two types are the same but for their modifiers."""
    if one.name != other.name or one.is_array != other.is_array:
        return False
    if is_built_in(one) or is_built_in(other):
        return is_built_in(one) and is_built_in(other)
    schemas = [world.qualified_type(each.name, each.schema).schema for each in (one, other)]
    return schemas[0] == schemas[1]


def base_type(type_: TypeName, world: World) -> TypeName | None:
    """Return what a domain is made of, through domains of domains, or the type itself.

    None where the type is not known, so that it might be a domain.
    """
    for _ in range(100):  # a catalog has no longer chain, and a world must not have a circle
        if is_built_in(type_) or type_.is_array:
            return type_
        found = user_type(type_, world)
        if found is None and type_.name in OF_EXTENSIONS:
            return type_
        if found is None or found.kind == "?":
            return None
        if found.kind != "d":
            return type_
        if found.base is None:
            return None
        type_ = found.base
    return None


def domain_has_constraints(type_: TypeName, world: World) -> bool | None:
    """Return whether a type is a domain with a CHECK or NOT NULL; None where it is not known."""
    if is_built_in(type_) or type_.is_array:
        return False
    found = user_type(type_, world)
    if found is None and type_.name in OF_EXTENSIONS:
        return False
    if found is None or found.kind == "?":
        return None
    return found.kind == "d" and found.has_constraints
