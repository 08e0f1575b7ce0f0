"""Expressions without rows, as a DEFAULT is: whether they give one value or another for each row.

As the planner sees them after folding (clauses.c, `eval_const_expressions` and
`contain_volatile_functions`), since a column with a default that is not VOLATILE is added without
touching a row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from alembic_safe.postgres.builtin_functions import IMMUTABLE_OR_STABLE, SINCE, VOLATILE
from alembic_safe.postgres.effects.handlers.names import split_name, strings
from alembic_safe.postgres.effects.handlers.trees import children
from alembic_safe.postgres.effects.world import OLDEST_SERVER, World
from alembic_safe.postgres.types import is_built_in, type_of, user_type


class Volatility(IntEnum):
    """How often the value of an expression changes."""

    CONSTANT = 0
    """A literal, or what is computed of literals by operators."""
    STABLE = 1
    """At most once for a statement; calls of IMMUTABLE functions are counted here too."""
    VOLATILE = 2
    """Possibly for each row."""


_STABLE_NAMES = """
    array_to_json array_to_string concat concat_ws convert convert_from convert_to
    current_database current_schema current_schemas current_setting current_user enum_first
    enum_last enum_range format format_type inet_client_addr inet_client_port inet_server_addr
    inet_server_port json_build_array json_build_object jsonb_build_array jsonb_build_object
    make_timestamptz mxid_age now obj_description session_user statement_timestamp system_user
    to_char to_date to_json to_jsonb to_number to_regclass to_regproc to_regtype
    transaction_timestamp txid_current version
"""

NEVER_IMMUTABLE = frozenset(_STABLE_NAMES.split())
"""Functions of which no overload is IMMUTABLE, on any version; of those of the server's own state
(`pg_...`) and of XML not all are here."""

_OPERATOR_NAMES = """
    ! !! !~ !~* !~~ !~~* # ## #- #> #>> % & && &< &<| &> * *< *<= *<> *= *> *>= + - -> ->> -|- /
    < <-> << <<= <<| <= <> <@ <^ = > >= >> >>= >^ ? ?# ?& ?- ?-| ?| ?|| @ @-@ @> @? @@ @@@ ^ ^@ |
    |&> |/ |>> || ||/ ~ ~* ~<=~ ~<~ ~= ~>=~ ~>~ ~~ ~~* BETWEEN
"""

_OPERATORS = frozenset(_OPERATOR_NAMES.split())
"""PostgreSQL's own (`pg_operator`); none of them is VOLATILE."""

_MAX_INLINED = 10
"""How deep functions that call functions are looked into."""

_TIME_ZONE = "timezone"


@dataclass
class Value:
    """What an expression without rows gives.

    Args:
        volatility: of the expression as a whole.
        is_null: it is the literal NULL.
        unknown: functions and operators that are not known; they count as VOLATILE.
        missing: functions that the server's version certainly does not have.
        sequences: the texts that `nextval` is given.
        is_immutable: nothing in it is known to be other than IMMUTABLE.
        has_columns: it uses a column, which a DEFAULT must not.
        has_subquery: it has a sub-select, which no expression of a table may have.
    """

    volatility: Volatility = Volatility.CONSTANT
    is_null: bool = False
    unknown: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    sequences: list[str] = field(default_factory=list)
    is_immutable: bool = True
    has_columns: bool = False
    has_subquery: bool = False

    def at_least(self, volatility: Volatility) -> None:
        """Note that a part of it changes that often."""
        self.volatility = max(volatility, self.volatility)


def value_of(node: Any, world: World) -> Value:
    """Return what an expression of a parse tree, a `Node`, gives.

    Args:
        node: the expression.
        world: for functions and types that users made.
    """
    value = Value(is_null=is_null(node))
    _read(node, world, value, 0)
    return value


def is_null(node: Any) -> bool:
    """Return whether an expression is the literal NULL, cast or not."""
    return _literal(node) is None


_NO_LITERAL = object()


def _literal(node: Any) -> Any:
    """Return the value of a literal: None of NULL, a truth value, True of any other;
    `_NO_LITERAL` where it is none."""
    kind = node.WhichOneof("node")
    if kind == "type_cast":
        return _literal(node.type_cast.arg)
    if kind != "a_const":
        return _NO_LITERAL
    if node.a_const.isnull:
        return None
    if node.a_const.WhichOneof("val") == "boolval":
        return bool(node.a_const.boolval.boolval)
    return True


def _read(root: Any, world: World, value: Value, depth: int) -> None:
    waiting = [root]
    while waiting:
        message = waiting.pop()
        kind = message.DESCRIPTOR.name
        if kind == "A_Const":
            continue
        if kind == "FuncCall":
            _read_call(message, world, value, depth)
        elif kind == "A_Expr":
            _read_operator(message, value)
        elif kind == "SQLValueFunction":
            value.at_least(Volatility.STABLE)
            value.is_immutable = False
        elif kind == "TypeCast":
            _read_cast(message, world, value)
        elif kind == "ColumnRef":
            value.has_columns = True
        elif kind == "SubLink":
            value.has_subquery = True
        waiting += _after_folding(message, kind)


def _after_folding(message: Any, kind: str) -> list[Any]:
    """Return the parts of an expression that are left after what is constant was computed."""
    if kind == "CoalesceExpr":
        return _until(message.args, lambda literal: literal is not None)
    if kind == "BoolExpr" and message.boolop in (1, 2):  # AND_EXPR, OR_EXPR
        decides = message.boolop == 2
        if any(_literal(argument) is decides for argument in message.args):
            return []
    if kind == "CaseExpr" and not message.HasField("arg"):
        return _branches(message)
    if kind == "TypeCast":
        return [message.arg]
    return list(children(message))


def _until(arguments: Any, ends: Any) -> list[Any]:
    """Return arguments up to the first literal that ends them, without NULLs."""
    left = []
    for argument in arguments:
        literal = _literal(argument)
        if literal is None:
            continue
        left.append(argument)
        if literal is not _NO_LITERAL and ends(literal):
            break
    return left


def _branches(case: Any) -> list[Any]:
    left: list[Any] = []
    for node in case.args:
        when = node.case_when
        condition = _literal(when.expr)
        if condition is True:
            return [*left, when.result]
        if condition is _NO_LITERAL:
            left += [when.expr, when.result]
    return [*left, *([case.defresult] if case.HasField("defresult") else [])]


def _read_call(call: Any, world: World, value: Value, depth: int) -> None:
    name, schema = split_name(strings(call.funcname))
    found = world.functions.get(world.qualified_function(name, schema))
    if found is not None and schema != "pg_catalog":
        value.at_least(Volatility.STABLE)
        if found.volatility != "i":
            value.is_immutable = False
        if found.volatility == "v":
            body = _inlined(found) if depth < _MAX_INLINED else None
            if body is None:
                value.at_least(Volatility.VOLATILE)
            else:
                _read(body, world, value, depth + 1)
        return
    if SINCE.get(name, OLDEST_SERVER) > world.version and world.complete:
        value.missing.append(name)
        return
    if schema in (None, "pg_catalog"):
        if name in IMMUTABLE_OR_STABLE and not _is_volatile_time_zone(name, call):
            value.at_least(Volatility.STABLE)
            value.is_immutable = value.is_immutable and name not in NEVER_IMMUTABLE
            return
        if name in VOLATILE:
            value.at_least(Volatility.VOLATILE)
            value.is_immutable = False
            if name == "nextval" and len(call.args) == 1:
                _read_sequence(call.args[0], value)
            return
    value.at_least(Volatility.VOLATILE)
    value.unknown.append(".".join(strings(call.funcname)) + "()")


def _is_volatile_time_zone(name: str, call: Any) -> bool:
    """Whether it is `timetz AT TIME ZONE text`, which is VOLATILE before PostgreSQL 14."""
    if name != _TIME_ZONE or len(call.args) != 2:
        return False
    argument = call.args[1]
    if argument.WhichOneof("node") == "sqlvalue_function":
        return bool(argument.sqlvalue_function.op in (2, 3))  # CURRENT_TIME
    if argument.WhichOneof("node") == "type_cast":
        return type_of(argument.type_cast.type_name).name == "timetz"
    return False


def _read_sequence(node: Any, value: Value) -> None:
    while node.WhichOneof("node") == "type_cast":
        node = node.type_cast.arg
    if node.WhichOneof("node") == "a_const" and node.a_const.HasField("sval"):
        value.sequences.append(node.a_const.sval.sval)


def _inlined(function: Any) -> Any:
    """Return the expression that the planner puts in place of a call, if it does."""
    if not function.can_be_inlined:
        return None
    import postgast

    body = function.body.strip().removesuffix(";")
    if body[:7].upper() == "RETURN ":
        body = f"SELECT {body[7:]}"
    try:
        statements = postgast.parse(body).stmts
    except (postgast.PgQueryError, RecursionError):
        return None
    if len(statements) != 1 or statements[0].stmt.WhichOneof("node") != "select_stmt":
        return None
    select = statements[0].stmt.select_stmt
    parts = {name.name for name, _ in select.ListFields()}
    if parts - {"target_list", "limit_option", "op"} or len(select.target_list) != 1:
        return None
    return select.target_list[0].res_target.val


def _read_operator(expression: Any, value: Value) -> None:
    name, schema = split_name(strings(expression.name)) if expression.name else ("=", None)
    words = name.removeprefix("NOT ").split()
    if schema not in (None, "pg_catalog") or (words and words[0] not in _OPERATORS):
        value.at_least(Volatility.VOLATILE)
        value.unknown.append(f"operator {name}")


def _read_cast(cast: Any, world: World, value: Value) -> None:
    if _literal(cast.arg) is not _NO_LITERAL:
        return
    target = type_of(cast.type_name)
    if not is_built_in(target) and user_type(target, world) is None:
        value.at_least(Volatility.VOLATILE)
        value.unknown.append(f"a cast to {target.name}")
