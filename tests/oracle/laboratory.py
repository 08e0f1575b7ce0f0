"""A real server, and databases in which cases begin."""

from __future__ import annotations

import itertools
import os
import re
import uuid
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import pq

from alembic_safe.postgres.effects.from_catalog import read_world
from alembic_safe.postgres.effects.model import TransactionNeed
from alembic_safe.postgres.effects.world import World
from alembic_safe.postgres.locks import LockMode
from alembic_safe.rehearsal.server import ScratchServer
from oracle.measure import (
    Beginning,
    Room,
    locks_of,
    look,
    run_in_transaction,
    run_outside_transaction,
)
from oracle.predict import copied
from oracle.statements import FIXTURE, Case
from oracle.truth import Truth
from oracle.undo import fingerprint, take_back

_CONTROL = re.compile(r"(begin|start|commit|end|rollback|abort|savepoint|release)\b", re.I)


class Laboratory:
    """Cases on one server. Each begins in the fixture's database, its `before` committed.

    A context manager: at the end the databases are dropped.
    """

    def __init__(self, server: ScratchServer) -> None:
        self.server = server
        self.version = server.version
        self._template = f"oracle_{os.getpid()}_{uuid.uuid4().hex[:8]}"
        self._numbers = itertools.count()
        self._fingerprint = ""
        self._untouched = Beginning({}, {})
        self._room: Room | None = None

    def __enter__(self) -> Laboratory:
        self._make_what_all_databases_share()
        self.server.create_database(self._template)
        self.server.execute(FIXTURE, database=self._template)
        self.server.execute("analyze", database=self._template)
        with self.server.connect(self._template) as session:
            self._fingerprint = fingerprint(session)
            # Objects keep their oids in a copy.
            self._untouched = look(session)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._room is not None:
            self._close(self._room)
        self.server.drop_database(self._template)

    def _make_what_all_databases_share(self) -> None:
        for kind, name, create in (
            ("roles where rolname", "r1", "create role r1"),
            (
                "tablespace where spcname",
                "ts1",
                "set allow_in_place_tablespaces = on; create tablespace ts1 location ''",
            ),
        ):
            if not self.server.execute(f"select 1 from pg_{kind} = '{name}'"):
                with self.server.connect() as connection:
                    for statement in create.split("; "):
                        connection.execute(statement.encode())

    def room(self, case: Case) -> Room:
        """Return a database in which `case` is about to begin: that of the case before, as far as
        what it committed can be undone.

        Raises:
            psycopg.Error: the server does not take what was to be committed before.
        """
        before = Case("", "", case.before).statements
        room = self._room
        if room is not None and room.committed != before and not self._tidied(room):
            self._close(room)
            room = None
        self._room = room = room or self._open()
        if room.committed != before:
            for statement in before:
                room.session.execute(statement.encode())
                room.committed.append(statement)
            room.beginning = look(room.session)
        return room

    def _tidied(self, room: Room) -> bool:
        """Undo what was committed. Return whether the database is then as it was."""
        try:
            take_back(room.session, room.committed)
        except psycopg.Error:
            return False
        room.committed = []
        room.beginning = self._untouched
        return fingerprint(room.session) == self._fingerprint

    def _open(self) -> Room:
        name = f"{self._template}_{next(self._numbers)}"
        self.server.execute(f"create database {name} template {self._template}")
        # Otherwise it would depend on autovacuum whether a query reads the table.
        self.server.execute(f"alter database {name} set enable_indexonlyscan = off")
        return Room(name, self._connect(name), self._untouched)

    def _connect(self, name: str) -> psycopg.Connection[Any]:
        session = self.server.connect(name)
        session.prepare_threshold = None
        return session

    def _close(self, room: Room) -> None:
        room.session.close()
        self.server.drop_database(room.name)

    def truth(self, case: Case) -> list[Truth]:
        """Run a case and return what each of its statements did; the last one may have failed.

        Raises:
            psycopg.Error: the server does not take what was to be committed before.
        """
        if not case.alone:
            room = self.room(case)
            try:
                room.session.execute("begin")
                return run_in_transaction(room, case.statements)
            finally:
                room.session.execute("rollback")
                room.session.execute("discard all")
        runs = [
            self._truth_alone(case, mode) for mode in ("ACCESS SHARE", "SHARE UPDATE EXCLUSIVE")
        ]
        return [_stronger(*pair) for pair in zip(*runs, strict=True)]

    def _truth_alone(self, case: Case, held: str) -> list[Truth]:
        room = self.room(case)
        truths: list[Truth] = []
        for statement in case.statements:
            truths.append(self._one_alone(room, statement, held))
            # What fails outside a transaction may leave something.
            room.committed.append(statement)
            if truths[-1].error is not None:
                break
        room.session.execute("rollback")
        room.session.execute("discard all")
        return truths

    def _one_alone(self, room: Room, statement: str, held: str) -> Truth:
        session = room.session
        if _CONTROL.match(statement):
            session.execute(statement.encode())
            return locks_of(room)
        if session.info.transaction_status == pq.TransactionStatus.INTRANS:
            return run_in_transaction(room, [statement])[0]
        session.execute("begin")
        truth = run_in_transaction(room, [statement])[0]
        if truth.need is TransactionNeed.ANY:
            session.execute("commit")
            return truth
        session.execute("rollback")
        return run_outside_transaction(room, statement, lambda: self._connect(room.name), held)

    def world(self, case: Case) -> World:
        """Return the database in which a case is about to begin, as the engine reads it."""
        room = self.room(case)
        if room.beginning.world is None:
            engine = sa.create_engine(self.server.url(room.name), poolclass=sa.NullPool)
            with engine.connect() as connection:
                room.beginning.world = read_world(connection)
        return copied(room.beginning.world)


def _stronger(one: Truth, other: Truth) -> Truth:
    locks = {
        name: max(one.locks.get(name, LockMode.NONE), other.locks.get(name, LockMode.NONE))
        for name in {**one.locks, **other.locks}
    }
    assert (one.rewrites, one.builds, one.error) == (other.rewrites, other.builds, other.error)
    return Truth(
        locks, one.rewrites, one.scans, one.builds, one.rebuilds, one.error, one.need, one.renamed
    )
