"""Types: enums, domains, composite and range types."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from alembic_safe.postgres.effects.handlers.definitions import text_of
from alembic_safe.postgres.effects.handlers.names import is_of_type, strings, type_name
from alembic_safe.postgres.effects.model import Change
from alembic_safe.postgres.effects.tally import Handler, Tally
from alembic_safe.postgres.effects.world import Relation, TypeName, UserType, World
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from alembic_safe.postgres.types import type_of

# Enums


def create_enum(node: Any, tally: Tally) -> None:
    """`CREATE TYPE ... AS ENUM`: no lock.

    Raises:
        Refused: there is such a type.
    """
    labels = tuple(strings(node.vals))
    _create(UserType(_new_type(node.type_name, tally), "e", labels=labels), tally)


def alter_enum(node: Any, tally: Tally) -> None:
    """`ALTER TYPE ... ADD VALUE`, `RENAME VALUE`: no lock on relations.

    Up to the end of the transaction a label that it added cannot be used, except in 17 and newer
    where the transaction also made the type.

    Raises:
        Refused: there is such a label, or none that could be renamed.
    """
    name = type_name(node.type_name, tally.world)
    found = tally.world.types.get(name)
    if found is None and tally.world.complete:
        tally.refuse(f'type "{name.name}" does not exist', "42704")
    type_ = found or UserType(name, "e")
    is_known = bool(type_.labels)
    if node.old_val:
        if is_known and node.old_val not in type_.labels:
            tally.refuse(f'"{node.old_val}" is not an existing enum label', "22023")
        labels = tuple(node.new_val if x == node.old_val else x for x in type_.labels)
        tally.world.put_type(replace(type_, labels=labels))
        _note_renamed_value(type_, node.old_val, node.new_val, tally)
        return
    if node.new_val in type_.labels:
        if not node.skip_if_new_val_exists:
            tally.refuse(f'enum label "{node.new_val}" already exists', "42710")
        return
    new = type_.new_labels
    if tally.world.transaction is not None and not _may_be_used_at_once(name, tally.world):
        new = new | {node.new_val}
    labels = (*type_.labels, node.new_val) if is_known else ()
    tally.world.put_type(replace(type_, labels=labels, new_labels=new))


def _note_renamed_value(type_: UserType, old: str, new: str, tally: Tally) -> None:
    if not tally.world.is_new(type_.born):
        tally.change(Change.RENAMED, "value", type_.name, old, new_name=new)


def _may_be_used_at_once(name: QualifiedName, world: World) -> bool:
    """Whether the type was made in this transaction, which 17 takes into account."""
    block = world.transaction
    if world.version < 17 or block is None:
        return False
    return any(
        mapping is world.types and key == name and before is None
        for mapping, key, before in world.journal[block.mark :]
    )


# Domains


def create_domain(node: Any, tally: Tally) -> None:
    """`CREATE DOMAIN`: no lock.

    Raises:
        Refused: there is such a type.
    """
    from postgast import pg_query_pb2 as grammar

    base = type_of(node.type_name)
    under = tally.world.types.get(tally.world.qualified_type(base.name, base.schema))
    kinds = [grammar.ConstrType.Name(item.constraint.contype) for item in node.constraints]
    names = {item.constraint.conname: True for item in node.constraints if item.constraint.conname}
    defaults = [item.constraint for item in node.constraints if _is_default(item.constraint)]
    inherited = under.default if under is not None else None
    constrained = "CONSTR_CHECK" in kinds or "CONSTR_NOTNULL" in kinds
    _create(
        UserType(
            _new_type(node.domainname, tally),
            "d",
            base=base,
            has_constraints=constrained or bool(under and under.has_constraints),
            has_default=bool(defaults) or bool(under and under.has_default),
            default=text_of(defaults[0].raw_expr) if defaults else inherited,
            constraints=names,
        ),
        tally,
    )


def _is_default(constraint: Any) -> bool:
    from postgast import pg_query_pb2 as grammar

    if constraint.contype != grammar.CONSTR_DEFAULT:
        return False
    expression = constraint.raw_expr
    return not (expression.HasField("a_const") and expression.a_const.isnull)


def alter_domain(node: Any, tally: Tally) -> None:
    """`ALTER DOMAIN`: a constraint that has to hold for what is there (ADD without NOT VALID,
    VALIDATE, SET NOT NULL) reads every table with columns of the domain under SHARE.

    Raises:
        Refused: there is no such domain or constraint, or a composite, array or range column
            holds the domain.
    """
    name = type_name(node.type_name, tally.world)
    domain = tally.world.types.get(name)
    if domain is None and tally.world.complete:
        tally.refuse(f'type "{name.name}" does not exist', "42704")
    domain = domain or UserType(name, "d")
    kind = node.subtype
    if kind == "C":
        _add_constraint(node, domain, tally)
    elif kind == "V":
        if domain.constraints.get(node.name) is not True:
            _check_values(domain, tally)
        constraints = {**domain.constraints, node.name: True}
        tally.world.put_type(replace(domain, constraints=constraints))
    elif kind == "O":
        _check_values(domain, tally)
        _tighten(domain, "NOT NULL", tally)
    elif kind == "T":
        value = getattr(node, "def")
        has_default = value.WhichOneof("node") is not None and not value.a_const.isnull
        default = text_of(value) if has_default else None
        tally.world.put_type(replace(domain, has_default=has_default, default=default))
    elif kind == "X":
        left = {key: valid for key, valid in domain.constraints.items() if key != node.name}
        tally.world.put_type(replace(domain, constraints=left))


def _add_constraint(node: Any, domain: UserType, tally: Tally) -> None:
    constraint = getattr(node, "def").constraint
    is_valid = not constraint.skip_validation
    if is_valid:
        _check_values(domain, tally)
    constraints = dict(domain.constraints)
    if constraint.conname:
        if constraint.conname in constraints:
            message = f'constraint "{constraint.conname}" for domain "{domain.name.name}" already'
            tally.refuse(f"{message} exists", "42710")
        constraints[constraint.conname] = is_valid
    _tighten(replace(domain, constraints=constraints), "CHECK", tally)


def _tighten(domain: UserType, what: str, tally: Tally) -> None:
    tally.world.put_type(replace(domain, has_constraints=True))
    if not tally.world.is_new(domain.born):
        tally.change(Change.TIGHTENED, "type", domain.name, detail=what)


def _check_values(domain: UserType, tally: Tally) -> None:
    """Note the read of every table with columns of a domain, or of a domain over it."""
    world = tally.world
    names = set(_over(domain.name, world))
    for relation in list(world.relations.values()):
        types = [column.type for column in relation.columns.values()]
        if relation.kind in ("r", "m", "?") and _uses(types, names, world):
            tally.lock(relation, LockMode.SHARE)
            tally.scan(relation)
        held = [t for t in types if t is not None and t.is_array]
        if any(_uses([replace(t, is_array=False)], names, world) for t in held):
            message = f'cannot alter type "{domain.name.name}" because a column of'
            tally.refuse(f'{message} "{relation.name.name}" uses it', "0A000")
    if not world.complete and not world.is_new(domain.born):
        tally.unknown(
            f"every table with a column of the domain {domain.name} is read while writes to it"
            " wait, and which these are is not known",
            forgets=False,
        )


def _over(name: QualifiedName, world: World) -> Iterator[QualifiedName]:
    """Yield a domain and the domains that are made of it."""
    waiting = [name]
    while waiting:
        current = waiting.pop()
        yield current
        waiting += [
            type_.name
            for type_ in world.types.values()
            if type_.kind == "d" and is_of_type(type_.base, current, world)
        ]


def _uses(types: list[TypeName | None], names: set[QualifiedName], world: World) -> bool:
    return any(is_of_type(type_, name, world) for type_ in types for name in names)


# Composite and range types


def create_composite(node: Any, tally: Tally) -> None:
    """`CREATE TYPE ... AS (...)`: no lock.

    Raises:
        Refused: there is such a type.
    """
    schema = node.typevar.schemaname or tally.world.search_path[0]
    _create(UserType(QualifiedName(node.typevar.relname, schema), "c"), tally)


def create_range(node: Any, tally: Tally) -> None:
    """`CREATE TYPE ... AS RANGE`: no lock.

    Raises:
        Refused: there is such a type.
    """
    _create(UserType(_new_type(node.type_name, tally), "r"), tally)


def alter_composite(node: Any, tally: Tally) -> None:
    """`ALTER TYPE ... ADD ATTRIBUTE`, `DROP ATTRIBUTE`, `ALTER ATTRIBUTE`: no lock on tables.

    Raises:
        Refused: an attribute gets another type while a table has a column of the composite type.
    """
    from postgast import pg_query_pb2 as grammar

    world = tally.world
    name = world.qualified_type(node.relation.relname, node.relation.schemaname or None)
    found = world.types.get(name)
    if found is None and world.complete and world.find(name) is None:
        if node.missing_ok:
            return
        tally.refuse(f'relation "{name.name}" does not exist', "42P01")
    users = [
        relation for relation in world.relations.values() if _has_column(relation, name, world)
    ]
    for item in node.cmds:
        command = item.alter_table_cmd
        kind = grammar.AlterTableType.Name(command.subtype)
        if kind == "AT_AlterColumnType":
            if users:
                message = f'cannot alter type "{name.name}" because a column of'
                tally.refuse(f'{message} "{users[0].name.name}" uses it', "0A000")
            if not world.complete and not (found and world.is_new(found.born)):
                message = f'cannot alter type "{name.name}" because a column uses it'
                tally.may_fail(message, "0A000")
            _note_attribute(Change.RETYPED, name, command.name, found, tally)
        elif kind == "AT_DropColumn":
            _note_attribute(Change.DROPPED, name, command.name, found, tally)
        elif kind != "AT_AddColumn":
            tally.unknown(f"ALTER TYPE with {kind} is not understood")


def _has_column(relation: Relation, name: QualifiedName, world: World) -> bool:
    return any(is_of_type(column.type, name, world) for column in relation.columns.values())


def _note_attribute(
    change: Change, name: QualifiedName, attribute: str, type_: UserType | None, tally: Tally
) -> None:
    if type_ is None or not tally.world.is_new(type_.born):
        tally.change(change, "type", name, attribute)


def drop_types(node: Any, tally: Tally) -> None:
    """`DROP TYPE`, `DROP DOMAIN`: no lock on tables, except with CASCADE, which drops the columns
    of the type under ACCESS EXCLUSIVE.

    Raises:
        Refused: it is not there, or is used and CASCADE is not said.
    """
    from postgast import pg_query_pb2 as grammar

    world = tally.world
    cascades = node.behavior == grammar.DROP_CASCADE
    for item in node.objects:
        name = type_name(item.type_name.names, world)
        found = world.types.get(name)
        if found is None and world.complete:
            if node.missing_ok:
                continue
            tally.refuse(f'type "{name.name}" does not exist', "42704")
        is_new = found is not None and world.is_new(found.born)
        # A domain takes the domains that are made of it along.
        types = list(_over(name, world))
        users = list(_columns_of(types, world))
        if (users or len(types) > 1) and not cascades:
            message = f"cannot drop type {name.name} because other objects depend on it"
            tally.refuse(message, "2BP01")
        for relation, columns in users:
            _drop_columns(relation, columns, tally)
        if cascades and not world.complete and not is_new:
            tally.unknown(f"which columns go away with the type {name} is not known")
        for each in types:
            if not is_new:
                tally.change(Change.DROPPED, "type", each)
            world.remove_type(each)


def _columns_of(types: list[QualifiedName], world: World) -> Iterator[tuple[Relation, list[str]]]:
    """Yield the relations with columns of these types, or of arrays of them."""
    for relation in list(world.relations.values()):
        columns = [
            column.name
            for column in relation.columns.values()
            if column.type is not None
            and _uses([replace(column.type, is_array=False)], set(types), world)
        ]
        if columns:
            yield relation, columns


def _drop_columns(relation: Relation, columns: list[str], tally: Tally) -> None:
    tally.lock(relation, LockMode.ACCESS_EXCLUSIVE)
    for column in columns:
        born = relation.columns[column].born
        tally.change(Change.DROPPED, "column", relation.name, column, born=born)
    left = {name: column for name, column in relation.columns.items() if name not in columns}
    # Indexes and constraints on them go too; which are left is not followed.
    tally.world.put(replace(relation, columns=left, complete=False))


def _new_type(nodes: Any, tally: Tally) -> QualifiedName:
    parts = strings(nodes)
    schema = parts[-2] if len(parts) > 1 else tally.world.search_path[0]
    return QualifiedName(parts[-1], schema)


def _create(type_: UserType, tally: Tally) -> None:
    if type_.name in tally.world.types:
        tally.refuse(f'type "{type_.name.name}" already exists', "42710")
    tally.world.put_type(replace(type_, born=tally.world.batch))


HANDLERS: dict[str, Handler] = {
    "alter_domain_stmt": alter_domain,
    "alter_enum_stmt": alter_enum,
    "composite_type_stmt": create_composite,
    "create_domain_stmt": create_domain,
    "create_enum_stmt": create_enum,
    "create_range_stmt": create_range,
}
