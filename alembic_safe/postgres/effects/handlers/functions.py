"""Functions and procedures, and the objects that are made of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from alembic_safe.postgres.effects.handlers.names import split_name, strings
from alembic_safe.postgres.effects.model import Change
from alembic_safe.postgres.effects.tally import Handler, Tally
from alembic_safe.postgres.effects.world import Function
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode

_VOLATILITY = {"immutable": "i", "stable": "s", "volatile": "v"}


def create_function(node: Any, tally: Tally) -> None:
    """`CREATE [OR REPLACE] FUNCTION` or `PROCEDURE`: no lock on relations.

    Functions of one name are kept as one, the most volatile; the body is then known to no call.
    """
    from postgast import pg_query_pb2 as grammar

    world = tally.world
    if node.HasField("sql_body") and world.version < 14:
        tally.refuse('syntax error at or near "BEGIN"', "42601")
    options = {item.def_elem.defname: item.def_elem.arg for item in node.options}
    parts = strings(node.funcname)
    schema = parts[-2] if len(parts) > 1 else world.search_path[0]
    name = QualifiedName(parts[-1], schema)
    language = options["language"].string.sval.lower() if "language" in options else "sql"
    texts = strings(options["as"].list.items) if "as" in options else []
    parameters = [item.function_parameter for item in node.parameters]
    outputs = (grammar.FUNC_PARAM_OUT, grammar.FUNC_PARAM_TABLE)
    arguments = [parameter.name for parameter in parameters]
    volatility = options["volatility"].string.sval if "volatility" in options else "volatile"
    function = Function(
        name,
        _VOLATILITY[volatility],
        language,
        _body(node, language, texts, tally.sql),
        arguments=tuple(argument for argument in arguments if argument),
        argument_types=tuple(
            _type(each.arg_type) for each in parameters if each.mode not in outputs
        ),
        returns="procedure" if node.is_procedure else _type(node.return_type) or "record",
        can_be_inlined=language == "sql"
        and not node.is_procedure
        and not node.return_type.setof
        and not options.keys() & {"set", "security", "strict"},
        born=world.batch,
    )
    old = world.functions.get(name)
    if old is not None and old.is_known:
        function = _replaced(old, function, node.replace, tally)
    elif old is not None:
        function = Function(name, _most_volatile(old, function))
    world.put_function(function)


def _body(node: Any, language: str, texts: list[str], sql: str) -> str:
    """Return the body of a function, in quotes or of standard SQL (14); empty for what is none."""
    if language not in ("sql", "plpgsql"):
        return ""
    if not node.HasField("sql_body"):
        return texts[0] if len(texts) == 1 else ""
    found = re.search(r"\b(?:BEGIN\s+ATOMIC|RETURN)\b.*", sql, re.IGNORECASE | re.DOTALL)
    return found[0] if found is not None else ""


def _replaced(old: Function, new: Function, replaces: bool, tally: Tally) -> Function:
    """Return the function that is there afterwards, where one of its name was there before."""
    if old.argument_types != new.argument_types:
        return Function(
            new.name, _most_volatile(old, new), is_used=old.is_used, triggers=old.triggers
        )
    if not replaces:
        message = f'function "{new.name.name}" already exists with same argument types'
        tally.refuse(message, "42723")
    if old.returns != new.returns:
        tally.refuse("cannot change return type of existing function", "42P13")
    return replace(new, is_used=old.is_used, triggers=old.triggers, born=old.born)


def _type(node: Any) -> str:
    return strings(node.names)[-1] + "[]" * len(node.array_bounds) if node.names else ""


def _most_volatile(one: Function, other: Function) -> str:
    return max(one.volatility, other.volatility, key="isv".index)


def alter_function(node: Any, tally: Tally) -> None:
    """`ALTER FUNCTION`, `ALTER PROCEDURE`: no lock on relations."""
    name = tally.world.qualified_function(*split_name(strings(node.func.objname)))
    for item in node.actions:
        if item.def_elem.defname == "volatility":
            volatility = _VOLATILITY[item.def_elem.arg.string.sval]
            changed = Function(name, volatility)
            old = tally.world.functions.get(name)
            worst = _most_volatile(old, changed) if old is not None else volatility
            tally.world.put_function(Function(name, worst))


def drop_functions(names: Iterable[list[str]], node: Any, tally: Tally) -> None:
    """`DROP FUNCTION`, `DROP PROCEDURE`, `DROP ROUTINE`, `DROP AGGREGATE`: no lock on relations,
    except with CASCADE on those whose defaults, triggers, views or indexes use it.

    Args:
        names: the parts of each name.
        node: the DROP statement.
        tally: where to write.
    """
    from postgast import pg_query_pb2 as grammar

    for parts in names:
        name = tally.world.qualified_function(*split_name(parts))
        found = tally.world.functions.get(name)
        if found is None and tally.world.complete and node.missing_ok:
            continue
        is_new = found is not None and tally.world.is_new(found.born)
        # A trigger's function cannot be called by its name.
        if found is None or found.returns != "trigger":
            tally.change(Change.DROPPED, "function", name, born=found.born if found else 0)
        if node.behavior != grammar.DROP_CASCADE and found is not None and _in_use(found, tally):
            message = f"cannot drop function {name.name}() because other objects depend on it"
            tally.refuse(message, "2BP01")
        if node.behavior == grammar.DROP_CASCADE and not is_new:
            tally.unknown(f"what goes away with the function {name} is not known")
        tally.world.remove_function(name)


def _in_use(function: Function, tally: Tally) -> bool:
    relations = tally.world.relations
    return function.is_used or any(
        relation in relations and name in relations[relation].triggers
        for relation, name in function.triggers
    )


def define(node: Any, tally: Tally) -> None:
    """`CREATE AGGREGATE`, `OPERATOR`, `COLLATION`, `TYPE`, `TEXT SEARCH ...`: no lock."""
    from postgast import pg_query_pb2 as grammar

    if node.kind == grammar.OBJECT_AGGREGATE:
        name = tally.world.qualified_function(*split_name(strings(node.defnames)))
        tally.world.put_function(Function(name, "v", born=tally.world.batch))


def no_lock(node: Any, tally: Tally) -> None:
    """Casts, operator classes, languages, conversions, access methods, foreign-data wrappers and
    servers, text search: no lock on relations."""


def depends(node: Any, tally: Tally) -> None:
    """`ALTER ... DEPENDS ON EXTENSION`: ACCESS EXCLUSIVE at most on the relation of the object."""
    if node.relation.relname:
        tally.lock(tally.existing(node.relation), LockMode.ACCESS_EXCLUSIVE)


HANDLERS: dict[str, Handler] = {
    "alter_collation_stmt": no_lock,
    "alter_fdw_stmt": no_lock,
    "alter_foreign_server_stmt": no_lock,
    "alter_function_stmt": alter_function,
    "alter_object_depends_stmt": depends,
    "alter_op_family_stmt": no_lock,
    "alter_operator_stmt": no_lock,
    "alter_tsconfiguration_stmt": no_lock,
    "alter_tsdictionary_stmt": no_lock,
    "alter_type_stmt": no_lock,
    "create_am_stmt": no_lock,
    "create_cast_stmt": no_lock,
    "create_conversion_stmt": no_lock,
    "create_fdw_stmt": no_lock,
    "create_foreign_server_stmt": no_lock,
    "create_function_stmt": create_function,
    "create_op_class_stmt": no_lock,
    "create_op_family_stmt": no_lock,
    "create_plang_stmt": no_lock,
    "create_transform_stmt": no_lock,
    "define_stmt": define,
}
