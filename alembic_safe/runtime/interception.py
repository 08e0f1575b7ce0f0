"""Every statement on its way from a connection to the server, whatever wrote it.

SQLAlchemy tells of what it sends itself. Cursors of the driver are made by a class of the driver,
for which a subclass stands in meanwhile.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Connection, event

from alembic_safe.runtime.driver_text import text_of, without_placeholders


@dataclass(frozen=True)
class Outgoing:
    """A statement that is about to be sent.

    Args:
        text: SQL, with `$1` in the place of the driver's placeholders.
        with_values: gives the text with the values in it, where the driver puts them there; None
            where it does not.
        can_read: whether the connection can be used for a query before the statement is sent.
    """

    text: str
    with_values: Callable[[], str | None]
    can_read: bool = True


class Watcher(Protocol):
    """What looks at the statements of a connection."""

    def before(self, outgoing: Outgoing) -> None:
        """See a statement that is about to be sent; what is raised keeps it from being sent."""

    def after(self) -> None:
        """See that it was executed; not called where it failed."""

    def ended(self, *, keep: bool) -> None:
        """See that SQLAlchemy ends the transaction; without `keep` it rolls back."""


@contextmanager
def intercepted(connection: Connection, watcher: Watcher) -> Iterator[None]:
    """Show a watcher every statement of a connection.

    Seen are SQLAlchemy's own, and those of cursors that the driver's connection makes: psycopg,
    psycopg2, pg8000, and SQLAlchemy's adapters of asynchronous drivers. Not seen is what is called
    on a connection of asyncpg or pg8000 itself, on libpq, and on a cursor whose class the caller
    names.

    Args:
        connection: the migration's connection; its driver connection may be replaced meanwhile.
        watcher: it is called in the thread that sends the statement.
    """
    interception = _Interception(connection, watcher)
    listeners = (
        ("set_connection_execution_options", interception.set_options),
        ("before_cursor_execute", interception.before_cursor_execute),
        ("after_cursor_execute", interception.after_cursor_execute),
        ("commit", lambda _connection: watcher.ended(keep=True)),
        ("rollback", lambda _connection: watcher.ended(keep=False)),
    )
    interception.watch_driver()
    for name, listener in listeners:
        # First of all, so that nobody takes for sent what is stopped here.
        event.listen(connection, name, listener, insert=True)
    try:
        yield
    finally:
        for name, listener in listeners:
            event.remove(connection, name, listener)
        interception.restored.close()


@dataclass
class _Interception:
    """Two places where statements pass, of which the second one sees those of the first again.

    Args:
        announced: the cursor for which SQLAlchemy has told of a statement.
        sets_level: whether SQLAlchemy sets the isolation level, with pg8000 by statements of which
            it does not tell.
        drivers: the driver connections that make cursors of ours.
        restored: puts their classes of cursors back.
    """

    connection: Connection
    watcher: Watcher
    announced: Any = None
    sets_level: bool = False
    drivers: list[Any] = field(default_factory=list)
    restored: ExitStack = field(default_factory=ExitStack)

    def set_options(self, _connection: Connection, options: dict[str, Any]) -> None:
        self.sets_level = "isolation_level" in options

    def before_cursor_execute(
        self,
        _connection: Connection,
        cursor: Any,
        statement: str,
        parameters: Any,
        context: Any,
        executemany: bool,
    ) -> None:
        self.watch_driver()
        is_verbatim = not parameters and getattr(context, "no_parameters", False)
        self._tell(
            cursor,
            statement,
            None if executemany else parameters,
            has_parameters=not is_verbatim and self.has_placeholders(parameters),
        )
        self.announced = cursor
        self.sets_level = False

    def after_cursor_execute(self, *_details: Any) -> None:
        self.announced = None
        self.watcher.after()

    def has_placeholders(self, values: Any) -> bool:
        """Return whether `%` is special in a text that is sent with parameters."""
        style = self.connection.dialect.paramstyle
        # pg8000 does not look at a text without values.
        return style == "pyformat" or (style == "format" and bool(values))

    def watch_driver(self) -> None:
        """Have the driver's cursors tell of what they send."""
        dbapi_connection = self.connection.connection.dbapi_connection
        driver = getattr(dbapi_connection, "driver_connection", dbapi_connection)
        if not any(driver is known for known in self.drivers):
            self.drivers.append(driver)
            has_factories = hasattr(driver, "cursor_factory")
            maker = driver if has_factories else dbapi_connection
            made_by = _cursors_of_factories if has_factories else _cursors_of_class
            listener = _Listener(self._from_cursor, self.watcher.after)
            self.restored.enter_context(_listening(maker, listener))
            self.restored.enter_context(made_by(maker))

    def _from_cursor(self, cursor: Any, method: str, query: Any, values: Any) -> bool:
        """See what a cursor is about to send; return whether its success is to be told."""
        is_announced = cursor in (self.announced, getattr(self.announced, "_cursor", None))
        if query is None or is_announced or (self.sets_level and _SETS_LEVEL.match(str(query))):
            return False
        is_many = method == "executemany"
        has_parameters = (is_many or values is not None) and self.has_placeholders(values)
        self._tell(
            cursor,
            query,
            None if is_many else values,
            has_parameters=has_parameters,
            can_read=not _is_asynchronous(cursor),
        )
        return True

    def _tell(
        self,
        cursor: Any,
        query: Any,
        values: Any,
        *,
        has_parameters: bool,
        can_read: bool = True,
    ) -> None:
        text = text_of(query, cursor)
        if has_parameters and "%" in text:
            text = without_placeholders(text)
        with_values = functools.partial(_with_values, cursor, query, values)
        self.watcher.before(Outgoing(text, with_values, can_read))


def _with_values(cursor: Any, query: Any, values: Any) -> str | None:
    mogrify = getattr(cursor, "mogrify", None)
    if not values or mogrify is None:
        return None
    return text_of(mogrify(query, values), cursor)


def _is_asynchronous(cursor: Any) -> bool:
    """Return whether a cursor is used in a coroutine, where nothing can be waited for here."""
    return hasattr(cursor, "__aiter__") and not hasattr(cursor, "_adapt_connection")


_SETS_LEVEL = re.compile(r"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL |COMMIT$")


# Classes of cursors that tell what they send.


@dataclass(frozen=True)
class _Listener:
    """Who is told of a connection's cursors: before they send something, and when it was done."""

    tell: Callable[[Any, str, Any, Any], bool]
    sent: Callable[[], None]


_LISTENERS: dict[int, _Listener] = {}
"""By the identity of the connection that cursors know as theirs."""

_SENDING = ("execute", "executemany", "stream", "copy", "copy_expert", "callproc")
_QUERY = ("query", "statement", "operation", "sql", "procname")
_VALUES = ("params", "vars", "parameters", "params_seq", "vars_list", "seq_of_parameters")


@contextmanager
def _listening(connection: Any, listener: _Listener) -> Iterator[None]:
    _LISTENERS[id(connection)] = listener
    try:
        yield
    finally:
        del _LISTENERS[id(connection)]


@contextmanager
def _cursors_of_factories(driver: Any) -> Iterator[None]:
    """Psycopg and psycopg2: the connection has the classes of its cursors as attributes."""
    replaced = {}
    for name in ("cursor_factory", "server_cursor_factory"):
        original = getattr(driver, name, None)
        base = type(driver.cursor()) if original is None else original
        if hasattr(driver, name) and isinstance(base, type):
            replaced[name] = (original, _telling(base))
            setattr(driver, name, replaced[name][1])
    try:
        yield
    finally:
        for name, (original, telling) in replaced.items():
            if getattr(driver, name) is telling:
                setattr(driver, name, original)


@contextmanager
def _cursors_of_class(dbapi_connection: Any) -> Iterator[None]:
    """Other drivers: the connection is given a class that makes other cursors."""
    original: Any = type(dbapi_connection)
    try:
        dbapi_connection.__class__ = _making_telling_cursors(original)
    except TypeError:
        # Written in C: what SQLAlchemy sends is seen all the same.
        yield
        return
    try:
        yield
    finally:
        dbapi_connection.__class__ = original


@functools.cache
def _making_telling_cursors(original: type[Any]) -> type[Any]:
    def cursor(self: Any, *args: Any, **keywords: Any) -> Any:
        made = original.cursor(self, *args, **keywords)
        kind: Any = type(made)
        made.__class__ = _telling(kind)
        return made

    return type(original.__name__, (original,), {"__slots__": (), "cursor": cursor})


@functools.cache
def _telling(base: type[Any]) -> type[Any]:
    """Return a subclass of a class of cursors that tells of what it sends."""
    members: dict[str, Any] = {"__slots__": ()}
    for name in _SENDING:
        if hasattr(base, name):
            members[name] = _sending(getattr(base, name))
    return type(base.__name__, (base,), members)


def _sending(method: Any) -> Any:
    name = method.__name__

    @functools.wraps(method)
    def send(self: Any, *args: Any, **keywords: Any) -> Any:
        listener = _LISTENERS.get(id(_connection_of(self)))
        query = args[0] if args else _named(keywords, _QUERY)
        values = args[1] if len(args) > 1 else _named(keywords, _VALUES)
        if name in ("copy_expert", "callproc"):
            # What comes second is a file, or the arguments of the function.
            values = None
        if name == "callproc":
            query = f"SELECT * FROM {query}()"
        is_told = listener is not None and listener.tell(self, name, query, values)
        result = method(self, *args, **keywords)
        if listener is not None and is_told:
            listener.sent()
        return result

    return send


def _connection_of(cursor: Any) -> Any:
    """Return the connection that makes a cursor: SQLAlchemy's adapter, or the driver's own."""
    # pg8000 warns of whoever reads its `connection`.
    names = ("_adapt_connection", "_c")
    found = next((getattr(cursor, name) for name in names if hasattr(cursor, name)), None)
    return found or cursor.connection


def _named(keywords: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((keywords[name] for name in names if name in keywords), None)
