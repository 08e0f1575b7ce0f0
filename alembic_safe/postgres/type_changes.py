"""What a new type for a column costs: nothing, new indexes, or every row written again.

PostgreSQL keeps the rows where the planner finds that the conversion changes none of them
(tablecmds.c, `ATColumnChangeRequiresRewrite`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from alembic_safe.postgres.types import (
    FULL_RANGE,
    TypeName,
    base_type,
    domain_has_constraints,
    is_built_in,
    same_type,
    type_of,
    type_sql,
    user_type,
)

if TYPE_CHECKING:
    from alembic_safe.postgres.effects.world import World


@dataclass(frozen=True)
class TypeChange:
    """What becomes of a column's values.

    Args:
        rewrites: every row is written again.
        reason: why, to follow `because`; empty where the rows stay.
        impossible: the SQLSTATE with which the server says that it has no such cast; 42804 where it
            asks for one with USING, 42846 where USING asks for one.
        assumed: what was assumed for want of knowledge, as a short sentence.
        failure: the error, as message and SQLSTATE, of a value that has no equal in the new type;
            None where every value has one.
    """

    rewrites: bool
    reason: str = ""
    impossible: str = ""
    assumed: str = ""
    failure: tuple[str, str] | None = None


_FREE = TypeChange(rewrites=False)

_OID_ALIASES = (
    "regclass",
    "regcollation",
    "regconfig",
    "regdictionary",
    "regnamespace",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
)

_SAME_BYTES = frozenset(
    {
        ("bit", "varbit"),
        ("varbit", "bit"),
        ("cidr", "inet"),
        ("text", "varchar"),
        ("text", "bpchar"),
        ("varchar", "text"),
        ("varchar", "bpchar"),
        ("xml", "text"),
        ("xml", "varchar"),
        ("xml", "bpchar"),
        ("int4", "oid"),
        ("oid", "int4"),
        ("regoper", "regoperator"),
        ("regoperator", "regoper"),
        ("regproc", "regprocedure"),
        ("regprocedure", "regproc"),
        *((alias, plain) for alias in _OID_ALIASES for plain in ("int4", "oid")),
        *((plain, alias) for alias in _OID_ALIASES for plain in ("int4", "oid")),
        # The extension citext.
        ("text", "citext"),
        ("varchar", "citext"),
        ("citext", "text"),
        ("citext", "varchar"),
    }
)
"""Casts without a function that need not be asked for (pg_cast: castmethod `b`, castcontext `a` or
`i`; the same on 13 to 18)."""

_NUMBERS = ("int2", "int4", "int8", "float4", "float8", "numeric")

_ASSIGNABLE = frozenset(
    {
        *((a, b) for a in _NUMBERS for b in _NUMBERS),
        *((number, "money") for number in ("int4", "int8", "numeric")),
        ("money", "numeric"),
        *((number, name) for number in ("int2", "int8") for name in ("oid", *_OID_ALIASES)),
        *((name, "int8") for name in ("oid", *_OID_ALIASES)),
        *((string, "char") for string in ("text", "varchar", "bpchar")),
        *((string, "name") for string in ("text", "varchar", "bpchar")),
        ("text", "regclass"),
        ("varchar", "regclass"),
        ("box", "polygon"),
        ("path", "polygon"),
        ("point", "box"),
        ("polygon", "path"),
        ("date", "timestamp"),
        ("date", "timestamptz"),
        ("inet", "cidr"),
        ("interval", "time"),
        ("time", "interval"),
        ("time", "timetz"),
        ("timetz", "time"),
        *((stamp, part) for stamp in ("timestamp", "timestamptz") for part in ("date", "time")),
        ("timestamp", "timestamptz"),
        ("timestamptz", "timestamp"),
        ("timestamptz", "timetz"),
        ("macaddr", "macaddr8"),
        ("macaddr8", "macaddr"),
        ("json", "jsonb"),
        ("jsonb", "json"),
    }
)
"""Casts by a function or by text that need not be asked for (pg_cast: castcontext `a` or `i`)."""

_EXPLICIT = frozenset(
    {
        ("bit", "int4"),
        ("bit", "int8"),
        ("bool", "int4"),
        ("int4", "bit"),
        ("int4", "bool"),
        ("int4", "char"),
        ("int8", "bit"),
        ("char", "int4"),
        ("box", "circle"),
        ("box", "lseg"),
        ("box", "point"),
        ("circle", "box"),
        ("circle", "point"),
        ("circle", "polygon"),
        ("lseg", "point"),
        ("path", "point"),
        ("polygon", "box"),
        ("polygon", "circle"),
        ("polygon", "point"),
        *(("jsonb", name) for name in ("bool", *_NUMBERS)),
        *((f"{name}range", f"{name}multirange") for name in ("date", "int4", "int8", "num", "ts")),
        ("tstzrange", "tstzmultirange"),
        *((number, "bytea") for number in ("int2", "int4", "int8")),
        *(("bytea", number) for number in ("int2", "int4", "int8")),
        ("xid8", "xid"),
    }
)
"""Casts that have to be asked for (pg_cast: castcontext `e`, of any version)."""

_STRINGS = frozenset({"text", "varchar", "bpchar", "name"})
"""To these every type is cast by way of its text (pg_type.typcategory `S`)."""

_SECONDS = frozenset({"time", "timetz", "timestamp", "timestamptz"})

_UTC_NAMES = """
    0 +00 +00:00 00:00 gmt gmt0 gmt+0 gmt-0 greenwich uct universal utc zulu
    etc/gmt etc/gmt0 etc/gmt+0 etc/gmt-0 etc/greenwich etc/uct etc/universal etc/utc etc/zulu
"""

_UTC = frozenset(_UTC_NAMES.split())
"""Time zones in which `timestamp` and `timestamptz` have the same bytes."""


def type_change(
    old: TypeName | None, new: TypeName, world: World, using: Any = None, column: str = ""
) -> TypeChange:
    """Return what `ALTER COLUMN ... TYPE` makes of the column's values.

    Args:
        old: None where it is not known.
        new: the type that the statement gives.
        world: for domains, and for the session's time zone.
        using: the expression of USING, a `Node`; None without.
        column: the column's name, as the expression has it.
    """
    if using is None:
        return _conversion(old, new, world, explicit=False)
    steps = _casts_of_column(using, column)
    if steps is None:
        return TypeChange(True, "USING computes new values")
    changes = []
    for step in steps:
        changes.append(_conversion(old, step, world, explicit=True))
        old = step
    changes.append(_conversion(old, new, world, explicit=False))
    impossible = next((each for each in changes if each.impossible), None)
    return impossible or next((each for each in changes if each.rewrites), _FREE)


def _casts_of_column(node: Any, column: str) -> list[TypeName] | None:
    """Return the types to which an expression casts the column, in their order; None where it does
    anything else."""
    kind = node.WhichOneof("node")
    if kind == "column_ref":
        fields = node.column_ref.fields
        return [] if fields[-1].string.sval == column else None
    if kind == "collate_clause":
        return _casts_of_column(node.collate_clause.arg, column)
    if kind == "type_cast":
        inner = _casts_of_column(node.type_cast.arg, column)
        return None if inner is None else [*inner, type_of(node.type_cast.type_name)]
    return None


def _conversion(old: TypeName | None, new: TypeName, world: World, *, explicit: bool) -> TypeChange:
    if old is None:
        return TypeChange(True, "the old type is not known", assumed="its old type is another one")
    if same_type(old, new, world):
        change = _length_change(old, new)
        return replace(change, failure=_failure(old, new)) if change.rewrites else change
    target, source = base_type(new, world), base_type(old, world)
    if target is None or source is None:
        if (old.name, new.name) in _SAME_BYTES:
            return _length_change(TypeName(new.name), new)
        unknown = new if target is None else old
        assumed = f"{type_sql(unknown)} has other values than {type_sql(old)}"
        if target is not None:
            assumed = f"{type_sql(unknown)} has other values than {type_sql(new)}"
        return TypeChange(True, "the values change", assumed=assumed)
    change = _base_change(old, source, target, world, explicit=explicit)
    if change.rewrites and not change.impossible:
        return replace(change, failure=_failure(source, target))
    if not change.rewrites and domain_has_constraints(new, world):
        failure = (f"value for domain {type_sql(new)} violates its constraints", "23514")
        return TypeChange(True, f"the domain {type_sql(new)} checks every value", failure=failure)
    return change


def _base_change(
    old: TypeName, source: TypeName, target: TypeName, world: World, *, explicit: bool
) -> TypeChange:
    # A domain's own modifiers are not those of a column that has it.
    known = source if same_type(old, source, world) else TypeName(source.name, (), source.is_array)
    if same_type(source, target, world):
        return _length_change(known, target)
    if source.is_array or target.is_array:
        return _array_change(source, target, world, explicit=explicit)
    pair = (source.name, target.name)
    if pair in _SAME_BYTES:
        return _length_change(TypeName(target.name), target)
    if set(pair) == {"timestamp", "timestamptz"}:
        return _time_zone_change(source, target, world)
    if pair in _ASSIGNABLE or target.name in _STRINGS:
        return TypeChange(True, f"{type_sql(target)} is stored otherwise than {type_sql(source)}")
    # Whether a user has made a cast is not known.
    is_known = _is_known(source, world) and _is_known(target, world)
    can_be_asked_for = pair in _EXPLICIT or source.name in _STRINGS
    impossible = is_known and not (explicit and can_be_asked_for)
    reason = f"{type_sql(target)} is stored otherwise than {type_sql(source)}"
    return TypeChange(True, reason, _no_cast(explicit) if impossible else "")


def _no_cast(explicit: bool) -> str:
    return "42846" if explicit else "42804"


def _is_known(type_: TypeName, world: World) -> bool:
    """Whether all casts of a type are known: a user can add some for a type that he made."""
    found = user_type(type_, world)
    return is_built_in(type_) or (found is not None and found.kind in "ecr")


def _array_change(
    source: TypeName, target: TypeName, world: World, *, explicit: bool
) -> TypeChange:
    reason = f"{type_sql(target)} is converted element by element"
    if target.name in _STRINGS and not target.is_array:
        return TypeChange(True, f"{type_sql(target)} is stored otherwise than {type_sql(source)}")
    if not (source.is_array and target.is_array):
        strings = source.name in _STRINGS and not source.is_array
        return TypeChange(True, reason, "" if explicit and strings else _no_cast(explicit))
    elements = [
        TypeName(each.name, each.modifiers, False, each.schema) for each in (source, target)
    ]
    of_elements = _conversion(elements[0], elements[1], world, explicit=explicit)
    return TypeChange(True, reason, of_elements.impossible, of_elements.assumed)


def _time_zone_change(source: TypeName, target: TypeName, world: World) -> TypeChange:
    zone = world.settings.get("timezone")
    if zone is not None and zone.strip("'\"").lower() in _UTC:
        return _length_change(TypeName(target.name), target)
    reason = "timestamp and timestamptz differ by the session's time zone"
    if zone is None:
        return TypeChange(True, reason, assumed="the session's time zone is not UTC")
    return TypeChange(True, f"{reason}, {zone}")


def _length_change(old: TypeName, new: TypeName) -> TypeChange:
    """Return what new modifiers of the same type cost."""
    if old.modifiers == new.modifiers or not new.modifiers:
        return _FREE
    if not is_built_in(new):
        return TypeChange(True, f"the values may not fit {type_sql(new)}")
    if not new.is_array and _is_wider(new.name, old.modifiers, new.modifiers):
        return _FREE
    return TypeChange(True, f"the values may not fit {type_sql(new)}")


def _is_wider(name: str, old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Return whether every value of the old modifiers is one of the new (the support functions of
    the casts: varchar_support, numeric_support, ...)."""
    if name in ("varchar", "varbit"):
        return bool(old) and old[0] <= new[0]
    if name == "numeric":
        return bool(old) and old[1] == new[1] and old[0] <= new[0]
    if name in _SECONDS:
        return new[0] == 6 or (bool(old) and old[0] <= new[0])
    if name == "interval":
        return _is_wider_interval(old, new)
    return False


def _is_wider_interval(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    old_least = _least_field(old[0]) if old else 0
    new_least = _least_field(new[0])
    old_precision = old[1] if len(old) > 1 else 0xFFFF
    new_precision = new[1] if len(new) > 1 else 0xFFFF
    is_enough = old_least > 0 or new_precision >= 6 or new_precision >= old_precision
    return new_least <= old_least and is_enough


def _least_field(fields: int) -> int:
    """Return how coarse an interval is: 0 is down to seconds, 5 years only."""
    if fields == FULL_RANGE:
        return 0
    for place, bit in enumerate((12, 11, 10, 3, 1, 2)):
        if fields & (1 << bit):
            return place
    return 0


_WHOLE_NUMBERS = {"int2": 2, "int4": 4, "int8": 8, "oid": 4}
"""Bytes."""


def _failure(old: TypeName | None, new: TypeName) -> tuple[str, str] | None:
    """Return the error of a value that does not fit the new type, where there can be one."""
    if old is None or new.is_array or not is_built_in(new):
        return None
    if new.name in ("varchar", "bpchar") and new.modifiers and not old.is_array:
        return (f"value too long for type {type_sql(new)}", "22001")
    if old.name in _STRINGS and new.name not in _STRINGS:
        date = new.name in (*_SECONDS, "date", "interval")
        return (f"invalid input syntax for type {type_sql(new)}", "22007" if date else "22P02")
    if new.name == "numeric" and new.modifiers:
        return ("numeric field overflow", "22003")
    if old.name in _NUMBERS and _bytes(old) > _bytes(new):
        return (f"{type_sql(new)} out of range", "22003")
    return None


def _bytes(type_: TypeName) -> int:
    return _WHOLE_NUMBERS.get(type_.name, 9)


_OPERATORS = {"varchar": "text", "cidr": "inet", **dict.fromkeys(_OID_ALIASES, "oid")}
"""Types that share the operators of another."""


_UNSORTED_NAMES = """
    aclitem box cid circle json jsonpath line lseg path point polygon txid_snapshot xid xml
"""

UNSORTED = frozenset(_UNSORTED_NAMES.split())
"""Types that no btree index can have (pg_opclass)."""


def same_operators(old: TypeName, new: TypeName, world: World) -> bool:
    """Return whether an index or foreign key on the column stays as it is, given that its values
    do: the default operator class is the same (`CheckIndexCompatible`)."""
    if same_type(old, new, world):
        return True
    source, target = base_type(old, world), base_type(new, world)
    if source is None or target is None or source.is_array or target.is_array:
        return False
    names = [_OPERATORS.get(type_.name, type_.name) for type_ in (source, target)]
    return names[0] == names[1] and source.schema == target.schema
