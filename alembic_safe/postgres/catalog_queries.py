"""Reads a `Catalog` from a server: six queries, whatever the number of tables.

Two habits keep the SQL alike for psycopg, psycopg2 and asyncpg: casts are written CAST(...), since
`::` and the `:name` of a bind parameter do not mix, and what drivers present differently (`"char"`,
`name[]`, `json`) is cast to text or text[].
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from alembic_safe.postgres.catalog import (
    Catalog,
    ColumnInfo,
    ConstraintInfo,
    Dependent,
    ForeignKeyInfo,
    IndexInfo,
    TableInfo,
)
from alembic_safe.postgres.identifiers import QualifiedName

_POSTGRESQL_14 = 140000

_TABLES = """
WITH RECURSIVE asked AS (
    SELECT n.position, CAST(to_regclass(n.name) AS oid) AS oid
    FROM unnest(CAST(:names AS text[])) WITH ORDINALITY AS n(name, position)
), member(root, oid) AS (
    SELECT asked.oid, asked.oid FROM asked
    UNION
    SELECT member.root, i.inhrelid
    FROM member
    JOIN pg_class AS parent ON parent.oid = member.oid AND parent.relkind = 'p'
    JOIN pg_inherits AS i ON i.inhparent = member.oid
), size AS (
    SELECT member.root,
           sum(pg_total_relation_size(c.oid)) AS bytes,
           -- Before version 14 a table that was never counted has 0 rows on 0 pages.
           sum(CAST(c.reltuples AS numeric)) FILTER (
               WHERE c.relkind <> 'p' AND c.reltuples >= 0
               AND (c.relpages > 0 OR CAST(:unknown_is_negative AS boolean))
           ) AS row_count
    FROM member JOIN pg_class AS c ON c.oid = member.oid
    GROUP BY member.root
)
SELECT CAST(asked.position AS bigint) AS position,
       CAST(c.oid AS bigint) AS oid,
       CAST(c.relkind AS text) AS kind,
       CAST(c.relreplident AS text) AS replica_identity,
       c.relispartition AS is_partition,
       EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhparent = c.oid) AS has_children,
       CAST(COALESCE(size.bytes, 0) AS bigint) AS size_bytes,
       CAST(COALESCE(size.row_count, -1) AS bigint) AS estimated_rows,
       ARRAY(
           SELECT CAST(a.attname AS text) FROM pg_attribute AS a
           WHERE a.attrelid = c.oid AND c.relkind = 'p' AND (
               a.attnum = ANY (
                   SELECT unnest(CAST(p.partattrs AS smallint[]))
                   FROM pg_partitioned_table AS p WHERE p.partrelid = c.oid
               )
               -- A column in an expression of the key depends on its table (StorePartitionKey).
               OR EXISTS (
                   SELECT FROM pg_depend AS d
                   WHERE d.classid = CAST('pg_class' AS regclass) AND d.refclassid = d.classid
                   AND d.objid = c.oid AND d.refobjid = c.oid
                   AND d.objsubid = a.attnum AND d.refobjsubid = 0 AND d.deptype = 'i'
               )
           ) AND a.attnum > 0
       ) AS partition_key
FROM asked
JOIN pg_class AS c ON c.oid = asked.oid AND c.relkind IN ('r', 'p')
JOIN size ON size.root = asked.oid
ORDER BY asked.position
"""

_COLUMNS = """
WITH RECURSIVE part(root, oid) AS (
    -- The types that a comparison of a value reaches: of a domain its base, of an array its
    -- elements, of a composite its fields.
    SELECT DISTINCT a.atttypid, a.atttypid
    FROM pg_attribute AS a
    WHERE a.attrelid = ANY (CAST(:oids AS oid[])) AND a.attnum > 0 AND NOT a.attisdropped
    UNION
    SELECT part.root, inner_type.oid
    FROM part
    JOIN pg_type AS t ON t.oid = part.oid
    CROSS JOIN LATERAL (
        SELECT t.typbasetype WHERE t.typtype = 'd'
        UNION ALL
        SELECT t.typelem WHERE t.typtype = 'b' AND t.typelem <> 0 AND t.typlen = -1
        UNION ALL
        SELECT f.atttypid FROM pg_attribute AS f
        WHERE t.typtype = 'c' AND f.attrelid = t.typrelid AND f.attnum > 0
        AND NOT f.attisdropped
    ) AS inner_type(oid)
), sortable AS (
    SELECT oc.opcintype AS oid
    FROM pg_opclass AS oc JOIN pg_am AS am ON am.oid = oc.opcmethod AND am.amname = 'btree'
    WHERE oc.opcdefault
), equality AS (
    SELECT part.root, bool_and(
        t.typtype <> 'b'
        OR (t.typelem <> 0 AND t.typlen = -1)
        OR t.oid IN (SELECT s.oid FROM sortable AS s)
        -- varchar has no operator class of its own: it is compared as text.
        OR EXISTS (
            SELECT FROM pg_cast AS c JOIN sortable AS s ON s.oid = c.casttarget
            WHERE c.castsource = t.oid AND c.castmethod = 'b' AND c.castcontext = 'i'
        )
    ) AS has_it
    FROM part JOIN pg_type AS t ON t.oid = part.oid
    GROUP BY part.root
)
SELECT CAST(a.attrelid AS bigint) AS table_oid,
       CAST(a.attname AS text) AS name,
       format_type(a.atttypid, a.atttypmod) AS type,
       a.attnotnull AS not_null,
       pg_get_expr(d.adbin, d.adrelid) AS default_,
       CAST(a.attidentity AS text) AS identity,
       CAST(a.attgenerated AS text) AS generated,
       col_description(a.attrelid, a.attnum) AS comment,
       CAST((
           SELECT json_agg(json_build_array(
                      g.privilege_type,
                      CASE g.grantee WHEN 0 THEN 'PUBLIC'
                                     ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
                      g.is_grantable
                  ) ORDER BY g.grantee, g.privilege_type)
           FROM aclexplode(a.attacl) AS g
       ) AS text) AS grants,
       -- The default is -1 up to version 16 and NULL from 17.
       CAST(NULLIF(a.attstattarget, -1) AS integer) AS statistics_target,
       CASE WHEN a.attstorage <> t.typstorage THEN
           CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'm' THEN 'MAIN'
                             WHEN 'e' THEN 'EXTERNAL' WHEN 'x' THEN 'EXTENDED' END
       END AS storage,
       CASE {compression} WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END AS compression,
       COALESCE(CAST(a.attoptions AS text[]), CAST(ARRAY[] AS text[])) AS options,
       CASE WHEN a.attcollation <> t.typcollation THEN (
           SELECT quote_ident(n.nspname) || '.' || quote_ident(co.collname)
           FROM pg_collation AS co JOIN pg_namespace AS n ON n.oid = co.collnamespace
           WHERE co.oid = a.attcollation
       ) END AS collation,
       equality.has_it AS equality,
       a.attinhcount > 0 AS inherited
FROM pg_attribute AS a
JOIN pg_type AS t ON t.oid = a.atttypid
JOIN equality ON equality.root = a.atttypid
LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = ANY (CAST(:oids AS oid[])) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""

_INDEXES = """
SELECT CAST(i.indrelid AS bigint) AS table_oid,
       CAST(c.relname AS text) AS name,
       pg_get_indexdef(i.indexrelid) AS definition,
       ARRAY(
           SELECT CAST(a.attname AS text) FROM pg_attribute AS a
           WHERE a.attrelid = i.indrelid AND a.attnum > 0 AND (
               a.attnum = ANY (CAST(i.indkey AS smallint[]))
               -- Expressions and the predicate.
               OR EXISTS (
                   SELECT FROM pg_depend AS d
                   WHERE d.classid = CAST('pg_class' AS regclass) AND d.objid = i.indexrelid
                   AND d.refclassid = CAST('pg_class' AS regclass) AND d.refobjid = i.indrelid
                   AND d.refobjsubid = a.attnum
               )
           )
       ) AS columns,
       i.indisunique AS is_unique,
       i.indisprimary AS is_primary,
       i.indisvalid AS is_valid,
       i.indisexclusion AS is_exclusion,
       i.indisreplident AS is_replica_identity,
       i.indisclustered AS is_clustered,
       CAST(con.conname AS text) AS constraint_name,
       obj_description(i.indexrelid, 'pg_class') AS comment,
       CAST(ts.spcname AS text) AS tablespace,
       CAST((
           SELECT json_agg(json_build_array(a.attnum, a.attstattarget) ORDER BY a.attnum)
           FROM pg_attribute AS a WHERE a.attrelid = i.indexrelid AND a.attstattarget >= 0
       ) AS text) AS statistics_targets,
       CAST(parent.relname AS text) AS parent_name,
       CAST(parent_schema.nspname AS text) AS parent_schema
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
LEFT JOIN pg_tablespace AS ts ON ts.oid = c.reltablespace
LEFT JOIN pg_constraint AS con ON con.conindid = i.indexrelid AND con.conrelid = i.indrelid
    AND con.contype IN ('p', 'u', 'x')
LEFT JOIN pg_inherits AS inh ON inh.inhrelid = i.indexrelid
LEFT JOIN pg_class AS parent ON parent.oid = inh.inhparent
LEFT JOIN pg_namespace AS parent_schema ON parent_schema.oid = parent.relnamespace
WHERE i.indrelid = ANY (CAST(:oids AS oid[])) AND i.indislive
ORDER BY i.indrelid, c.relname
"""

# A foreign key from or to a partitioned table has one more row for each partition. Of those only
# the ones count that belong to another table than their parent row does.
_CONSTRAINTS = """
SELECT CAST(con.conrelid AS bigint) AS table_oid,
       CAST(con.confrelid AS bigint) AS referenced_oid,
       con.conrelid = ANY (CAST(:oids AS oid[]))
           AND parent.conrelid IS DISTINCT FROM con.conrelid AS is_own,
       COALESCE(parent.conrelid = con.conrelid, false) AS is_of_a_partition,
       con.confrelid = ANY (CAST(:oids AS oid[]))
           AND parent.confrelid IS DISTINCT FROM con.confrelid AS is_reference,
       CAST(con.conname AS text) AS name,
       CAST(con.contype AS text) AS type,
       pg_get_constraintdef(con.oid) AS definition,
       ARRAY(
           SELECT CAST(a.attname AS text) FROM pg_attribute AS a
           WHERE a.attrelid = con.conrelid AND a.attnum > 0 AND EXISTS (
               SELECT FROM pg_depend AS d
               WHERE d.classid = CAST('pg_constraint' AS regclass) AND d.objid = con.oid
               AND d.refclassid = CAST('pg_class' AS regclass) AND d.refobjid = con.conrelid
               AND d.refobjsubid = a.attnum
               -- Where a table references itself the referenced columns are listed as well.
               AND con.contype <> 'f'
           )
       ) AS used_columns,
       ARRAY(
           SELECT CAST(a.attname AS text)
           FROM unnest(con.conkey) WITH ORDINALITY AS k(number, position)
           JOIN pg_attribute AS a ON a.attrelid = con.conrelid AND a.attnum = k.number
           ORDER BY k.position
       ) AS key_columns,
       ARRAY(
           SELECT CAST(a.attname AS text)
           FROM unnest(con.confkey) WITH ORDINALITY AS k(number, position)
           JOIN pg_attribute AS a ON a.attrelid = con.confrelid AND a.attnum = k.number
           ORDER BY k.position
       ) AS referenced_columns,
       con.convalidated AS is_validated,
       con.condeferrable AS deferrable,
       con.condeferred AS initially_deferred,
       con.coninhcount > 0 AS inherited,
       CAST(i.relname AS text) AS index_name,
       CAST(t.relname AS text) AS table_name,
       CAST(tn.nspname AS text) AS table_schema,
       CAST(r.relname AS text) AS referenced_name,
       CAST(rn.nspname AS text) AS referenced_schema,
       obj_description(con.oid, 'pg_constraint') AS comment
FROM pg_constraint AS con
JOIN pg_class AS t ON t.oid = con.conrelid
JOIN pg_namespace AS tn ON tn.oid = t.relnamespace
LEFT JOIN pg_class AS r ON r.oid = con.confrelid
LEFT JOIN pg_namespace AS rn ON rn.oid = r.relnamespace
LEFT JOIN pg_class AS i ON i.oid = con.conindid
LEFT JOIN pg_constraint AS parent ON parent.oid = con.conparentid
WHERE (con.conrelid = ANY (CAST(:oids AS oid[])) OR con.confrelid = ANY (CAST(:oids AS oid[])))
AND con.contype IN ('p', 'u', 'f', 'c', 'x', 'n')
ORDER BY tn.nspname, t.relname, con.conname
"""

# What belongs to the table itself counts only for the columns it names: it goes with the table.
_DEPENDENTS = """
WITH hit AS (
    SELECT d.refobjid AS table_oid, d.classid, d.objid, d.objsubid, d.deptype,
           a.attnum, CAST(a.attname AS text) AS column_name
    FROM pg_depend AS d
    LEFT JOIN pg_attribute AS a
        ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid AND a.attnum > 0
    WHERE d.refclassid = CAST('pg_class' AS regclass)
    AND d.refobjid = ANY (CAST(:oids AS oid[]))
), named AS (
    SELECT hit.table_oid, hit.column_name,
           CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' ELSE 'rule'
           END AS kind,
           CASE WHEN c.relkind IN ('v', 'm') THEN '' ELSE quote_ident(r.rulename) || ' on ' END
           || quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name
    FROM hit
    JOIN pg_rewrite AS r ON r.oid = hit.objid AND hit.classid = CAST('pg_rewrite' AS regclass)
    JOIN pg_class AS c ON c.oid = r.ev_class
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid <> hit.table_oid OR hit.column_name IS NOT NULL
    UNION ALL
    -- The expression of a generated column depends on what it uses; up to version 14 the
    -- column itself does.
    SELECT hit.table_oid, hit.column_name, 'generated column',
           quote_ident(n.nspname) || '.' || quote_ident(c.relname) || '.' || quote_ident(g.attname)
    FROM hit
    LEFT JOIN pg_attrdef AS d
        ON d.oid = hit.objid AND hit.classid = CAST('pg_attrdef' AS regclass)
    JOIN pg_attribute AS g ON g.attrelid = hit.table_oid AND g.attgenerated <> ''
        AND (g.attnum = d.adnum AND g.attrelid = d.adrelid
             OR g.attnum = hit.objsubid AND g.attrelid = hit.objid
             AND hit.classid = CAST('pg_class' AS regclass))
    JOIN pg_class AS c ON c.oid = g.attrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE hit.attnum <> g.attnum
    UNION ALL
    SELECT hit.table_oid, hit.column_name, 'policy',
           quote_ident(p.polname) || ' on ' || quote_ident(n.nspname) || '.'
           || quote_ident(c.relname)
    FROM hit
    JOIN pg_policy AS p ON p.oid = hit.objid AND hit.classid = CAST('pg_policy' AS regclass)
    JOIN pg_class AS c ON c.oid = p.polrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid <> hit.table_oid OR hit.column_name IS NOT NULL
    UNION ALL
    SELECT hit.table_oid, hit.column_name, 'trigger',
           quote_ident(t.tgname) || ' on ' || quote_ident(n.nspname) || '.'
           || quote_ident(c.relname)
    FROM hit
    JOIN pg_trigger AS t ON t.oid = hit.objid AND hit.classid = CAST('pg_trigger' AS regclass)
        AND NOT t.tgisinternal
    JOIN pg_class AS c ON c.oid = t.tgrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE hit.column_name IS NOT NULL
    UNION ALL
    -- Column lists and row filters (15).
    SELECT hit.table_oid, hit.column_name, 'publication', quote_ident(p.pubname)
    FROM hit
    JOIN pg_publication_rel AS pr
        ON pr.oid = hit.objid AND hit.classid = CAST('pg_publication_rel' AS regclass)
    JOIN pg_publication AS p ON p.oid = pr.prpubid
    WHERE hit.column_name IS NOT NULL
    UNION ALL
    SELECT hit.table_oid, hit.column_name, 'statistics',
           quote_ident(n.nspname) || '.' || quote_ident(s.stxname)
    FROM hit
    JOIN pg_statistic_ext AS s
        ON s.oid = hit.objid AND hit.classid = CAST('pg_statistic_ext' AS regclass)
    JOIN pg_namespace AS n ON n.oid = s.stxnamespace
    WHERE hit.column_name IS NOT NULL
    UNION ALL
    -- SQL-standard bodies (14); a body in quotes leaves no trace.
    SELECT hit.table_oid, hit.column_name,
           CASE p.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END,
           quote_ident(n.nspname) || '.' || quote_ident(p.proname)
           || '(' || pg_get_function_identity_arguments(p.oid) || ')'
    FROM hit
    JOIN pg_proc AS p ON p.oid = hit.objid AND hit.classid = CAST('pg_proc' AS regclass)
    JOIN pg_namespace AS n ON n.oid = p.pronamespace
    UNION ALL
    SELECT hit.table_oid, hit.column_name,
           CASE hit.deptype WHEN 'i' THEN 'identity sequence' ELSE 'sequence' END,
           quote_ident(n.nspname) || '.' || quote_ident(c.relname)
    FROM hit
    JOIN pg_class AS c ON c.oid = hit.objid AND hit.classid = CAST('pg_class' AS regclass)
        AND c.relkind = 'S'
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE hit.column_name IS NOT NULL
)
SELECT CAST(named.table_oid AS bigint) AS table_oid, named.kind, named.name,
       COALESCE(array_agg(named.column_name) FILTER (WHERE named.column_name IS NOT NULL),
                CAST(ARRAY[] AS text[])) AS columns
FROM named
GROUP BY named.table_oid, named.kind, named.name
ORDER BY named.table_oid, named.kind, named.name
"""

_Row = sa.Row[Any]


def read_catalog(connection: sa.Connection, tables: Iterable[QualifiedName]) -> Catalog:
    """Return what hangs on `tables`; those that do not exist are left out.

    A name without a schema is looked up in the `search_path`, as a statement would. Views, foreign
    tables and other relations are no tables. The tables are only read: each gets an
    ACCESS SHARE lock for its size, so the call waits behind an ACCESS EXCLUSIVE one.

    A transaction that `connection` is in stays as it is; without one, the queries run in one of
    their own, which is over when the function returns.

    Raises:
        sqlalchemy.exc.DBAPIError: the server refused a query, for example because the role may
            not use a schema.
    """
    wanted = list(dict.fromkeys(tables))
    if connection.in_transaction():
        return _read(connection, wanted)
    with connection.begin():
        return _read(connection, wanted)


def _read(connection: sa.Connection, wanted: Sequence[QualifiedName]) -> Catalog:
    version = connection.execute(
        sa.text("SELECT CAST(current_setting('server_version_num') AS integer)")
    ).scalar_one()
    found = connection.execute(
        sa.text(_TABLES),
        {
            "names": [name.sql for name in wanted],
            "unknown_is_negative": version >= _POSTGRESQL_14,
        },
    ).all()
    if not found:
        return Catalog(version, {})
    oids = sorted({row.oid for row in found})
    compression = "a.attcompression" if version >= _POSTGRESQL_14 else "''"
    columns = _grouped(_rows(connection, _COLUMNS.format(compression=compression), oids))
    indexes = _grouped(_rows(connection, _INDEXES, oids))
    constraints = _rows(connection, _CONSTRAINTS, oids)
    own = _grouped(row for row in constraints if row.is_own)
    keys_to_partitions = _grouped(row for row in constraints if row.is_of_a_partition)
    references = _grouped((row for row in constraints if row.is_reference), by="referenced_oid")
    dependents = _grouped(_rows(connection, _DEPENDENTS, oids))
    result = {}
    for row in found:
        name = wanted[row.position - 1]
        own_indexes = tuple(_index(index) for index in indexes[row.oid])
        result[name] = TableInfo(
            name=name,
            kind=row.kind,
            columns=tuple(_column(column) for column in columns[row.oid]),
            indexes=own_indexes,
            constraints=tuple(_constraint(c, own_indexes) for c in own[row.oid]),
            referenced_by=tuple(_foreign_key(c) for c in references[row.oid]),
            keys_to_partitions=frozenset(key.name for key in keys_to_partitions[row.oid]),
            partition_key_columns=frozenset(row.partition_key),
            is_partition=row.is_partition,
            has_inheritance_children=row.has_children,
            dependents=tuple(
                Dependent(d.kind, d.name, frozenset(d.columns)) for d in dependents[row.oid]
            ),
            estimated_rows=row.estimated_rows,
            size_bytes=row.size_bytes,
            replica_identity=row.replica_identity,
        )
    return Catalog(version, result)


def _rows(connection: sa.Connection, sql: str, oids: Sequence[int]) -> Sequence[_Row]:
    return connection.execute(sa.text(sql), {"oids": oids}).all()


def _grouped(rows: Iterable[_Row], by: str = "table_oid") -> Mapping[int, Sequence[_Row]]:
    groups: dict[int, list[_Row]] = defaultdict(list)
    for row in rows:
        groups[getattr(row, by)].append(row)
    return groups


def _column(row: _Row) -> ColumnInfo:
    return ColumnInfo(
        name=row.name,
        type=row.type,
        not_null=row.not_null,
        default=row.default_,
        identity=row.identity,
        generated=row.generated,
        comment=row.comment,
        grants=tuple((g[0], g[1], g[2]) for g in json.loads(row.grants or "[]")),
        statistics_target=row.statistics_target,
        storage=row.storage,
        compression=row.compression,
        options=tuple(row.options),
        collation=row.collation,
        equality=row.equality,
        inherited=row.inherited,
    )


def _index(row: _Row) -> IndexInfo:
    has_parent = row.parent_name is not None
    return IndexInfo(
        name=row.name,
        definition=row.definition,
        columns=frozenset(row.columns),
        is_unique=row.is_unique,
        is_primary=row.is_primary,
        is_valid=row.is_valid,
        is_exclusion=row.is_exclusion,
        constraint=row.constraint_name,
        is_replica_identity=row.is_replica_identity,
        is_clustered=row.is_clustered,
        comment=row.comment,
        tablespace=row.tablespace,
        statistics_targets=tuple((s[0], s[1]) for s in json.loads(row.statistics_targets or "[]")),
        parent=QualifiedName(row.parent_name, row.parent_schema) if has_parent else None,
    )


def _constraint(row: _Row, indexes: Sequence[IndexInfo]) -> ConstraintInfo:
    is_foreign_key = row.type == "f"
    # A foreign key's index is one of the referenced table, and may have the name of one of ours.
    index = None if is_foreign_key else row.index_name
    used = frozenset(row.key_columns) | frozenset(row.used_columns)
    return ConstraintInfo(
        name=row.name,
        type=row.type,
        definition=row.definition,
        columns=used.union(*(i.columns for i in indexes if i.name == index)),
        key_columns=tuple(row.key_columns),
        is_validated=row.is_validated,
        deferrable=row.deferrable,
        initially_deferred=row.initially_deferred,
        referenced_table=(
            QualifiedName(row.referenced_name, row.referenced_schema) if is_foreign_key else None
        ),
        referenced_columns=tuple(row.referenced_columns),
        index=index,
        comment=row.comment,
        inherited=row.inherited,
    )


def _foreign_key(row: _Row) -> ForeignKeyInfo:
    return ForeignKeyInfo(
        name=row.name,
        table=QualifiedName(row.table_name, row.table_schema),
        columns=frozenset(row.referenced_columns),
        referencing_columns=tuple(row.key_columns),
        definition=row.definition,
        index=row.index_name,
    )
