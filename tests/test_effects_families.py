"""Tables with partitions, inheriting tables and foreign keys between them: what the engine says,
from the catalog and from history, is what the server does that is asked now."""

from __future__ import annotations

import pytest
from oracle.laboratory import Laboratory
from oracle.predict import differences, predict, world_of_history
from oracle.recorded import answer_of
from oracle.statements import Case

from alembic_safe.rehearsal.server import ScratchServer

REFS = "create table refs (area text, id int, constraint f foreign key (area, id) references deep)"
"""References a table with two levels of partitions."""

IDS = """create table ids (id int primary key); insert into ids select id from pt;
    alter table pt add constraint f foreign key (id) references ids"""
"""Is referenced by a table with partitions."""

FITS = "create table fits (like pt including all); create index on fits (k)"

STATEMENTS = [
    ("", "alter table base add primary key (id)"),
    ("", "alter table base add unique (id)"),
    ("", "alter table base add foreign key (id) references users"),
    ("", "alter table base drop constraint base_chk"),
    ("", "alter table only base drop constraint base_chk"),
    ("", "alter table derived drop constraint base_chk"),
    ("alter table derived add constraint k check (id > 0)", "alter table base add check (id > 0)"),
    ("", "alter table pt add constraint u unique (id, k)"),
    ("create unique index pt1u on pt1 (id)", "alter table pt add primary key (id)"),
    ("", "alter table only pt add primary key (id)"),
    ("", "alter table pt add exclude (id with =)"),
    ("", "alter table deep drop constraint deep_pkey"),
    ("", "alter table deep_eu drop constraint deep_eu_pkey"),
    ("", "alter table parent drop constraint parent_pkey cascade"),
    ("", "alter table tree drop constraint tree_pkey cascade"),
    ("", "alter table pairs add foreign key (parent_b, parent_a) references pairs (b, a)"),
    (REFS, "alter table refs drop constraint f"),
    (REFS, "drop table refs"),
    (REFS, "drop table deep cascade"),
    (REFS, "drop table deep_us"),
    (REFS, "create table deep_x partition of deep for values in ('x')"),
    (REFS, "alter table deep detach partition deep_us"),
    (IDS, "create table pt3 partition of pt for values from (300001) to (400001)"),
    (IDS, "drop table pt1"),
    (IDS, "drop table pt"),
    (IDS, "drop table ids cascade"),
    (IDS, "alter table pt drop constraint f"),
    (IDS, "alter table pt detach partition pt1"),
    (FITS, "alter table pt attach partition fits for values from (300001) to (400001)"),
    (FITS, "alter table pt attach partition fits default"),
    ("", "alter table ptd detach partition ptd1"),
    ("", "alter table ptd detach partition ptd_def"),
    ("", "drop table deep_eu"),
    ("", "drop table ptd1"),
    ("", "drop table base"),
    ("", "drop table base cascade"),
    ("", "drop table derived"),
    ("", "drop table users cascade"),
    ("", "drop table watched cascade"),
    ("", "truncate serials restart identity"),
    ("", "truncate deep_eu"),
    ("", "truncate only pt"),
    ("", "lock table vw"),
    ("", "create index on base (v)"),
    ("create index pt1v on pt1 (v)", "create index on pt (v)"),
    ("create index pt1v on pt1 (v) where k > 0", "create index on pt (v)"),
    ("create index i on deep (n)", "drop index i"),
    ("create index i on deep (n)", "alter index i set (fillfactor = 50)"),
    ("", "create table n (like orders including all, extra int unique)"),
    ("", "create table n (area text, id int, foreign key (area, id) references deep (area, id))"),
    ("", "create table n (id int) inherits (base, inh)"),
]


@pytest.mark.parametrize(("before", "statement"), STATEMENTS)
def test_the_engine_says_what_the_server_does_to_a_family(
    before: str, statement: str, server: ScratchServer, laboratory: Laboratory
) -> None:
    case = Case("family", "families", statement, before)
    truths = answer_of(laboratory, case)
    assert truths is not None
    for world in (laboratory.world(case), world_of_history(case, server.version)):
        assert list(differences(predict(case, world), truths)) == []
