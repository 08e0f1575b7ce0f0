"""Type modifiers: how the catalog keeps the numbers of `varchar(50)` and `numeric(10,2)`."""

from __future__ import annotations

from alembic_safe.postgres.types import FULL_RANGE, TypeName

_HEADER = 4
"""VARHDRSZ, which the modifiers of these types contain."""

_FULL_PRECISION = 0xFFFF


def type_name(name: str, schema: str, modifier: int, is_array: bool = False) -> TypeName:
    """Return a column's type.

    Args:
        name: `pg_type.typname`; of an array that of its elements.
        schema: the type's schema.
        modifier: `atttypmod`; negative where there is none.
        is_array: whether it is an array of that.
    """
    is_built_in = schema == "pg_catalog"
    modifiers = _modifiers(name if is_built_in else "", modifier)
    return TypeName(name, modifiers, is_array, None if is_built_in else schema)


def _modifiers(name: str, modifier: int) -> tuple[int, ...]:
    """Return the modifiers as they are written (varchar.c, numeric.c, timestamp.c)."""
    if modifier < 0:
        return ()
    if name in ("varchar", "bpchar"):
        return (modifier - _HEADER,)
    if name == "numeric":
        packed = modifier - _HEADER
        # The scale is a signed number of 11 bits; up to version 14 it is never negative.
        scale = ((packed & 0x7FF) ^ 0x400) - 0x400
        return (packed >> 16, scale)
    if name == "interval":
        fields, precision = modifier >> 16, modifier & 0xFFFF
        if precision != _FULL_PRECISION:
            return (fields, precision)
        return (fields,) if fields != FULL_RANGE else ()
    return (modifier,)
