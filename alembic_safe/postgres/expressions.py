"""SQL expressions and definitions, read with PostgreSQL's own parser (`postgast`, grammar of 18).

A definition is renamed in two ways that must agree: on the parse tree, and in the text, where the
tree says which tokens are the column. So the rest of the text stays as the server wrote it, and a
name that only looks like the column is never touched.

`postgast` is imported where it is used, since loading it takes about 70 ms.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from alembic_safe.postgres.identifiers import QualifiedName, quote

_STABLE_FUNCTIONS = frozenset(
    {"now", "transaction_timestamp", "statement_timestamp", "current_database", "current_schema"}
)
"""Functions without arguments that are STABLE (pg_proc.provolatile); `clock_timestamp` is not."""

_TIME_ZONE = "timezone"
"""What `now() AT TIME ZONE 'utc'` is to the parser; IMMUTABLE or STABLE for every type."""

_CONSTRAINT_PREFIX = "ALTER TABLE t ADD CONSTRAINT c "

_LOCATIONS = frozenset(
    {"location", "name_location", "list_start", "list_end", "rexpr_list_start", "rexpr_list_end"}
)
"""Fields of the tree that tell where in the text something stands."""

_NOT_A_COLUMN_LIST = frozenset({"WITH", "WHERE", "CHECK"})
"""Keywords before parentheses that hold something else than a list of columns."""

_BARE_SELECT = frozenset({"target_list", "limit_option", "op"})
"""What is set in the tree of a SELECT that has a target list and nothing else."""

_PLAIN_CALL = frozenset({"funcname", "args", "funcformat", "location"})
"""What is set in the tree of a function call that is no aggregate or window function."""

# Values of enums in the parser's protobuf schema; importing it loads the parser.
_SETOP_NONE = 1
_AEXPR_OP = 1
_NEEDS_NO_QUOTES = (0, 1)  # no keyword, unreserved keyword

_RELATIONS = frozenset(
    f"OBJECT_{kind}" for kind in ("TABLE", "INDEX", "VIEW", "MATVIEW", "SEQUENCE", "FOREIGN_TABLE")
)
_PARTS_OF_RELATIONS = frozenset(
    f"OBJECT_{kind}" for kind in ("COLUMN", "TABCONSTRAINT", "TRIGGER", "POLICY", "RULE")
)
"""Objects whose name is the table's with one more part."""


def check_expression(sql: str) -> None:
    """Check that `sql` is exactly one SQL expression, so that it can be put into a statement.

    Raises:
        ValueError: it is not; the message is the parser's where the parser refused it.
    """
    _expression(sql)


def is_constant_or_stable(sql: str) -> bool:
    """Return whether `sql` has one value for a whole statement, judged by its form.

    True for literals, also signed, cast or in arrays, for `current_timestamp` and its kin, and
    for `now()` and a few more STABLE functions, also AT TIME ZONE a literal. False for anything
    else, an expression that cannot be parsed included.
    """
    try:
        return _is_constant(_expression(sql))
    except ValueError:
        return False


def columns_used(expression: str) -> frozenset[str]:
    """Return the names of the columns that `expression` uses, without their qualifiers.

    `*` stands for a whole row (`t.*`). A field of a composite value, `(address).city`, is no
    column; a whole row by the table's bare name cannot be told from a column.

    Raises:
        ValueError: `expression` is not exactly one SQL expression.
    """
    return frozenset(_referred_name(ref) for ref in _column_refs(_expression(expression)))


def rename_column_in_index(definition: str, old: str, new: str) -> str:
    """Return what follows the table name in `definition`, with the column `old` called `new`.

    Fits after `CREATE [UNIQUE] INDEX [CONCURRENTLY] name ON table`.

    Args:
        definition: a CREATE INDEX statement as `pg_get_indexdef` writes it.
        old: the column's name, unquoted.
        new: its new name, unquoted.

    Raises:
        ValueError: `definition` is not one CREATE INDEX statement.
    """
    index = _index(definition)
    tokens = _tokens(definition)
    body_start = _body_start(index, tokens)
    listed = _listed_names([token for token in tokens if token.start >= body_start])
    text = _replaced(definition, tokens, _locations(index, old) | listed, old, new)
    _rename_references(index, old, new)
    for node in (*index.index_params, *index.index_including_params):
        _rename_element(node, old, new)
    _check_same(_index(text), index, definition)
    # Up to here nothing is renamed, so the text begins alike.
    return text.encode()[body_start:].decode()


def index_body(definition: str) -> str:
    """Return what follows the table name in a CREATE INDEX statement.

    Raises:
        ValueError: `definition` is not one CREATE INDEX statement.
    """
    index = _index(definition)
    return definition.encode()[_body_start(index, _tokens(definition)) :].decode()


def rename_column_in_constraint(
    definition: str, old: str, new: str, *, referenced: bool = False
) -> str:
    """Return `definition` with the column `old` called `new`.

    Args:
        definition: as `pg_get_constraintdef` writes it: CHECK, FOREIGN KEY, UNIQUE, PRIMARY KEY,
            EXCLUDE or NOT NULL.
        old: the column's name, unquoted.
        new: its new name, unquoted.
        referenced: rename on the referenced side of a foreign key too, because the table
            references itself. Without it only the referencing side is renamed.

    Raises:
        ValueError: `definition` is not one constraint.
    """
    sql = _CONSTRAINT_PREFIX + definition
    constraint = _constraint(sql)
    tokens = _tokens(sql)
    own_tokens = [token for token in tokens if token.start >= len(_CONSTRAINT_PREFIX)]
    listed = _listed_names(own_tokens, referenced=referenced)
    text = _replaced(sql, tokens, _locations(constraint, old) | listed, old, new)
    _rename_references(constraint, old, new)
    lists = [constraint.keys, constraint.including, constraint.fk_attrs]
    lists += [constraint.fk_del_set_cols, [e.list.items[0] for e in constraint.exclusions]]
    lists += [constraint.pk_attrs] if referenced else []
    for nodes in lists:
        for node in nodes:
            _rename_element(node, old, new)
    _check_same(_constraint(text), constraint, definition)
    return text[len(_CONSTRAINT_PREFIX) :]


def foreign_key_options(definition: str) -> str:
    """Return what stands behind the columns of a foreign key: MATCH, the actions, when it is
    checked; not whether it is validated.

    Args:
        definition: as `pg_get_constraintdef` writes it.

    Raises:
        ValueError: `definition` is not one foreign key, or is one with PERIOD, whose columns are
            no plain list.
    """
    constraint = _constraint(_CONSTRAINT_PREFIX + definition)
    if not constraint.HasField("pktable") or constraint.fk_with_period:
        raise ValueError(f"not a foreign key of plain columns: {definition}")
    tokens = _tokens(definition)
    texts = [token.text for token in tokens]
    # Where it stands as a keyword: a name of that spelling would be in quotes.
    end = tokens[texts.index(")", texts.index("REFERENCES"))].end
    return definition.encode()[end:].decode().strip().removesuffix("NOT VALID").strip()


def relations_of(sql: str) -> tuple[QualifiedName, ...]:
    """Return the tables and other relations that `sql` names, each once, in the order of the text.

    For DROP, ALTER and REINDEX INDEX that is the index, for CREATE INDEX the table. Names of a
    WITH clause are left out. Empty for what cannot be parsed, which includes text with `:name`
    or `%s` placeholders.
    """
    try:
        statements = _statements(sql)
    except ValueError:
        return ()
    found: list[QualifiedName] = []
    for statement in statements:
        ranges = sorted(_range_vars(statement), key=lambda r: r.location)
        found += [QualifiedName(r.relname, r.schemaname or None) for r in ranges]
        found += _named_objects(statement)
    return tuple(dict.fromkeys(found))


# Parsing


def _statements(sql: str) -> list[Any]:
    """Return the tree of each statement of `sql`."""
    import postgast
    from google.protobuf.message import DecodeError

    if "\0" in sql:
        # The parser would see the text only up to here.
        raise ValueError("SQL text with a NUL character")
    try:
        return [_unwrapped(raw.stmt) for raw in postgast.parse(sql).stmts]
    except postgast.PgQueryError as error:
        raise ValueError(f"{error.message}: {sql}") from error
    except DecodeError as error:
        raise ValueError(f"nested too deeply: {sql}") from error


def _only_statement(sql: str, kind: str, what: str) -> Any:
    statements = _statements(sql)
    if len(statements) != 1 or type(statements[0]).__name__ != kind:
        raise ValueError(f"not exactly one {what}: {sql}")
    return statements[0]


def _index(definition: str) -> Any:
    return _only_statement(definition, "IndexStmt", "CREATE INDEX statement")


def _constraint(sql: str) -> Any:
    table = _only_statement(sql, "AlterTableStmt", "constraint")
    if len(table.cmds) != 1:
        raise ValueError(f"not exactly one constraint: {sql}")
    command = table.cmds[0].alter_table_cmd
    return getattr(command, "def").constraint  # `def` is a keyword of Python


def _unwrapped(node: Any) -> Any:
    """Return the message in a `Node`, which is a union of all of them."""
    kind = node.WhichOneof("node")
    return node if kind is None else getattr(node, kind)


def _messages(root: Any) -> Iterator[Any]:
    """Yield `root` and every message in it, without recursion: expressions can be deep."""
    waiting: list[Any] = [root]
    while waiting:
        message = waiting.pop()
        yield message
        waiting += (child for _, child in _children(message))


def _children(message: Any) -> Iterator[tuple[str, Any]]:
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for child in value if _is_repeated(value) else (value,):
                yield field.name, child


def _is_repeated(value: object) -> bool:
    # The way to ask the field's descriptor changed between protobuf releases.
    return not hasattr(value, "ListFields")


def _without_locations(root: Any) -> Any:
    copy = type(root)()
    copy.CopyFrom(root)
    for message in _messages(copy):
        for field, _ in message.ListFields():
            if field.name in _LOCATIONS:
                message.ClearField(field.name)
    return copy


# Expressions


def _expression(sql: str) -> Any:
    """Return the tree of the one expression that `sql` is."""
    if "--" in sql and any(token.text.startswith("--") for token in _tokens(sql)):
        # It would swallow what follows where the end of its line gets lost.
        raise ValueError(f"a comment in an SQL expression: {sql}")
    inside = _single_target(f"SELECT ({sql})", sql)
    # Text that closes our parenthesis and opens another, "1) + (2", fails on its own; text that
    # is more than an expression, "1 AS x" or "DISTINCT x", failed in the parentheses.
    alone = _single_target(f"SELECT {sql}", sql)
    if _without_locations(inside) != _without_locations(alone):
        raise ValueError(f"not exactly one SQL expression: {sql}")
    return inside


def _single_target(query: str, sql: str) -> Any:
    statements = _statements(query)
    if len(statements) == 1 and type(statements[0]).__name__ == "SelectStmt":
        select = statements[0]
        parts = {field.name for field, _ in select.ListFields()}
        if parts == _BARE_SELECT and select.op == _SETOP_NONE and len(select.target_list) == 1:
            value = _unwrapped(select.target_list[0].res_target.val)
            if type(value).__name__ != "SetToDefault" and not _is_whole_row(value):
                return value
    raise ValueError(f"not exactly one SQL expression: {sql}")


def _is_whole_row(value: Any) -> bool:
    return type(value).__name__ == "ColumnRef" and _referred_name(value) == "*"


def _column_refs(root: Any) -> Iterator[Any]:
    return (m for m in _messages(root) if type(m).__name__ == "ColumnRef")


def _referred_name(ref: Any) -> str:
    last = _unwrapped(ref.fields[-1])
    name: str = "*" if type(last).__name__ == "A_Star" else last.sval
    return name


def _is_constant(value: Any) -> bool:
    kind = type(value).__name__
    if kind in ("A_Const", "SQLValueFunction"):
        return True
    if kind == "TypeCast":
        return _is_constant(_unwrapped(value.arg))
    if kind == "A_ArrayExpr":
        return all(_is_constant(_unwrapped(element)) for element in value.elements)
    if kind == "A_Expr":
        sign = [_unwrapped(part).sval for part in value.name]
        is_sign = value.kind == _AEXPR_OP and sign in (["+"], ["-"])
        is_prefix = not value.HasField("lexpr")
        return is_sign and is_prefix and _is_constant(_unwrapped(value.rexpr))
    return kind == "FuncCall" and _is_stable_call(value)


def _is_stable_call(call: Any) -> bool:
    *schema, name = (_unwrapped(part).sval for part in call.funcname)
    if schema not in ([], ["pg_catalog"]):
        return False
    if not {field.name for field, _ in call.ListFields()} <= _PLAIN_CALL:
        return False
    if name == _TIME_ZONE:
        return all(_is_constant(_unwrapped(argument)) for argument in call.args)
    return name in _STABLE_FUNCTIONS and not call.args


# Renaming


@dataclass(frozen=True)
class _Token:
    """A token with its place in the text, in bytes of UTF-8."""

    start: int
    end: int
    text: str

    @property
    def name(self) -> str:
        """The identifier that it is, if it is one."""
        if self.text.startswith('"'):
            return self.text[1:-1].replace('""', '"')
        return self.text


def _tokens(sql: str) -> list[_Token]:
    import postgast

    text = sql.encode()
    try:
        scanned = postgast.scan(sql).tokens
    except postgast.PgQueryError as error:
        raise ValueError(f"{error.message}: {sql}") from error
    return [_Token(t.start, t.end, text[t.start : t.end].decode()) for t in scanned]


def _body_start(index: Any, tokens: list[_Token]) -> int:
    """Return the offset of the token behind the table's name."""
    position = next(i for i, t in enumerate(tokens) if t.start == index.relation.location) + 1
    while tokens[position].text == ".":
        position += 2
    return tokens[position].start


def _locations(root: Any, column: str) -> set[int]:
    """Return where expressions refer to `column`. The server writes it there without the table."""
    return {
        ref.location
        for ref in _column_refs(root)
        if len(ref.fields) == 1 and _referred_name(ref) == column
    }


def _listed_names(tokens: list[_Token], *, referenced: bool = False) -> set[int]:
    """Return where names stand in lists of columns; the tree has no locations for these.

    Args:
        tokens: those of a definition after the name of the table or constraint.
        referenced: whether the list after REFERENCES counts.
    """
    if [token.text for token in tokens[:2]] == ["NOT", "NULL"]:
        return {tokens[2].start}
    found: set[int] = set()
    before = ""  # the last token outside parentheses
    depth, in_list, after_references = 0, False, False
    for position, token in enumerate(tokens):
        previous = tokens[position - 1].text if position else ""
        if token.text in ("(", "["):
            if depth == 0:
                in_list = before not in _NOT_A_COLUMN_LIST
                in_list = in_list and (referenced or not after_references)
                after_references = False
            depth += 1
        elif token.text in (")", "]"):
            depth -= 1
        elif depth == 0:
            before = token.text
            after_references = after_references or token.text == "REFERENCES"
        elif depth == 1 and in_list:
            is_call = position + 1 < len(tokens) and tokens[position + 1].text == "("
            if previous in ("(", ",", "PERIOD") and not is_call:
                found.add(token.start)
    return found


def _replaced(sql: str, tokens: list[_Token], starts: set[int], old: str, new: str) -> str:
    """Return `sql` with the tokens at `starts` that are the name `old` written as `new`."""
    text, written, end = sql.encode(), _as_written(new), 0
    parts = []
    for token in tokens:
        if token.start in starts and token.name == old:
            parts += [text[end : token.start], written.encode()]
            end = token.end
    return b"".join((*parts, text[end:])).decode()


def _as_written(name: str) -> str:
    """Return `name` as the server writes it: in quotes only where it needs them."""
    import postgast

    if re.fullmatch("[a-z_][a-z0-9_]*", name) is None:
        return quote(name)
    kind = postgast.scan(name).tokens[0].keyword_kind
    return name if kind in _NEEDS_NO_QUOTES else quote(name)


def _rename_references(root: Any, old: str, new: str) -> None:
    for ref in _column_refs(root):
        if len(ref.fields) == 1 and _referred_name(ref) == old:
            ref.fields[0].string.sval = new


def _rename_element(node: Any, old: str, new: str) -> None:
    """Rename in one element of a list of columns, on the tree."""
    value = _unwrapped(node)
    field = "name" if type(value).__name__ == "IndexElem" else "sval"
    if getattr(value, field) == old:
        setattr(value, field, new)


def _check_same(read_again: Any, renamed: Any, definition: str) -> None:
    """Check that the text says what the tree says.

    Raises:
        ValueError: it does not.
    """
    if _without_locations(read_again) != _without_locations(renamed):
        raise ValueError(f"cannot rename a column in: {definition}")


# Relations


def _range_vars(statement: Any) -> Iterator[Any]:
    """Yield the references to relations, without those to queries of a WITH clause."""
    waiting: list[tuple[Any, frozenset[str]]] = [(statement, frozenset())]
    while waiting:
        node, hidden = waiting.pop()
        if type(node).__name__ == "RangeVar":
            if node.schemaname or node.relname not in hidden:
                yield node
            continue
        if "with_clause" in node.DESCRIPTOR.fields_by_name:
            queries, hidden = _with_queries(node.with_clause, hidden)
            waiting += queries
        for field, child in _children(node):
            if field != "with_clause":
                # The target of an INSERT, UPDATE, DELETE or MERGE is never such a query.
                waiting.append((child, frozenset() if field == "relation" else hidden))


def _with_queries(
    clause: Any, hidden: frozenset[str]
) -> tuple[list[tuple[Any, frozenset[str]]], frozenset[str]]:
    """Return the queries of a WITH clause, each with the names that it sees as queries, and the
    names that the statement sees so."""
    queries = [cte.common_table_expr for cte in clause.ctes]
    everything = hidden.union(query.ctename for query in queries)
    result = []
    for query in queries:
        result.append((query.ctequery, everything if clause.recursive else hidden))
        hidden |= {query.ctename}
    return result, everything


def _named_objects(statement: Any) -> Iterator[QualifiedName]:
    """Yield the relations that DROP and COMMENT name, which the tree has as lists of words."""
    from postgast.pg_query_pb2 import ObjectType

    kind = type(statement).__name__
    if kind == "DropStmt":
        objects, object_type = list(statement.objects), statement.remove_type
    elif kind == "CommentStmt":
        objects, object_type = [statement.object], statement.objtype
    else:
        return
    type_name = ObjectType.Name(object_type)
    if type_name not in _RELATIONS | _PARTS_OF_RELATIONS:
        return
    for node in objects:
        words = [_unwrapped(word).sval for word in node.list.items]
        if type_name in _PARTS_OF_RELATIONS:
            words.pop()
        yield QualifiedName(words[-1], words[-2] if len(words) > 1 else None)
