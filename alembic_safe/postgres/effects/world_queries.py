"""The SQL that `from_catalog` reads a world with.

All but `EXPRESSIONS` and `FUNCTION_BODIES` read catalogs only and wait for nobody. What turns a
stored expression into text, and what measures a file, opens the table in ACCESS SHARE mode
(measured on 13 to 18: pg_get_expr, pg_get_constraintdef of a check, pg_get_indexdef,
pg_get_viewdef, pg_get_function_sqlbody, pg_relation_size) and would wait behind an ACCESS EXCLUSIVE
lock, or behind someone who waits for one.

Three habits keep the SQL alike for all drivers: casts are written CAST(...), since `::` and the
`:name` of a bind parameter do not mix; what drivers present differently (`"char"`, `name[]`,
`json`) is cast to text or text[]; and mod() stands for `%`, which pg8000 takes for a placeholder.
"""

from __future__ import annotations

_IN_USE = r"""(
    {0}.oid = pg_my_temp_schema()
    OR {0}.nspname <> 'information_schema' AND {0}.nspname !~ '^pg_'
)"""
"""The schemas that are read: those of the system and of other sessions are not."""

_SCHEMA = """CAST(
    CASE WHEN {0}.oid = pg_my_temp_schema() THEN 'pg_temp' ELSE {0}.nspname END AS text
)"""

_KINDS = "('r', 'p', 'v', 'm', 'S', 'f', 'c')"

# What this transaction itself wrote: its own number, or a later one that is still in progress
# although its row is seen, which then is that of a subtransaction. Numbers of rows have 32 bits;
# far apart from its own they are from before the counter began anew.
WRITTEN_HERE = """EXISTS (
    SELECT FROM (
        SELECT x.own, CAST(CAST({0}.xmin AS text) AS bigint) - mod(x.own, 4294967296) AS later
        FROM (
            SELECT CAST(CAST(pg_current_xact_id_if_assigned() AS text) AS bigint) AS own
        ) AS x
    ) AS x
    WHERE CASE
        WHEN x.later = 0 THEN true
        WHEN x.later BETWEEN 1 AND 1000000
        THEN pg_xact_status(CAST(CAST(x.own + x.later AS text) AS xid8)) = 'in progress'
        ELSE false
    END
)"""

_IN_MILLISECONDS = (
    "CAST(CAST(extract(epoch FROM CAST(current_setting('{0}') AS interval)) * 1000 AS bigint)"
    " AS text)"
)

SESSION = f"""
SELECT CAST(current_setting('server_version_num') AS integer) / 10000 AS version,
       (
           SELECT string_agg(quote_ident(s.name), ', ' ORDER BY s.position)
           FROM unnest(current_schemas(false)) WITH ORDINALITY AS s(name, position)
       ) AS search_path,
       current_setting('TimeZone') AS timezone,
       {_IN_MILLISECONDS.format("lock_timeout")} AS lock_timeout,
       {_IN_MILLISECONDS.format("statement_timeout")} AS statement_timeout,
       ARRAY(
           SELECT CAST(l.relation AS bigint) FROM pg_locks AS l
           WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
           AND l.pid IS DISTINCT FROM pg_backend_pid()
           AND l.database = (
               SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()
           )
       ) AS kept_by_others
"""

ALL_RELATIONS = f"""
SELECT CAST(c.oid AS bigint) AS oid
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN {_KINDS} AND {_IN_USE.format("n")}
"""

# `up` goes to parents and no further down again, so that one leaf does not bring its siblings;
# `hop` counts foreign keys.
CLOSURE = f"""
WITH RECURSIVE asked AS (
    SELECT DISTINCT a.name, a.schema
    FROM unnest(CAST(:names AS text[]), CAST(:schemas AS text[])) AS a(name, schema)
), named(oid) AS (
    SELECT COALESCE(i.indrelid, c.oid)
    FROM asked
    JOIN pg_class AS c ON c.relname = asked.name
    JOIN pg_namespace AS n ON n.oid = c.relnamespace AND {_IN_USE.format("n")}
    LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
    WHERE asked.schema IS NULL OR asked.schema = {_SCHEMA.format("n")}
), type(oid) AS (
    SELECT t.oid
    FROM asked
    JOIN pg_type AS t ON t.typname = asked.name
    JOIN pg_namespace AS n ON n.oid = t.typnamespace AND {_IN_USE.format("n")}
    WHERE asked.schema IS NULL OR asked.schema = {_SCHEMA.format("n")}
    UNION
    -- Arrays of it and domains over it.
    SELECT d.objid
    FROM type JOIN pg_depend AS d ON d.refclassid = CAST('pg_type' AS regclass)
        AND d.refobjid = type.oid AND d.classid = d.refclassid
), member(oid, up, hop) AS (
    SELECT s.oid, false, 0 FROM (
        SELECT named.oid FROM named
        UNION
        SELECT d.objid
        FROM type JOIN pg_depend AS d ON d.refclassid = CAST('pg_type' AS regclass)
            AND d.refobjid = type.oid AND d.classid = CAST('pg_class' AS regclass)
    ) AS s
    UNION
    SELECT next.oid, next.up, next.hop
    FROM member AS m
    CROSS JOIN LATERAL (
        SELECT i.inhparent, true, m.hop FROM pg_inherits AS i WHERE i.inhrelid = m.oid
        UNION ALL
        SELECT i.inhrelid, false, m.hop FROM pg_inherits AS i
        WHERE i.inhparent = m.oid AND NOT m.up
        UNION ALL
        SELECT con.confrelid, false, 1 FROM pg_constraint AS con
        WHERE con.conrelid = m.oid AND con.contype = 'f' AND m.hop = 0
        UNION ALL
        SELECT con.conrelid, false, 1
        FROM pg_depend AS d JOIN pg_constraint AS con ON con.oid = d.objid AND con.contype = 'f'
        WHERE d.refclassid = CAST('pg_class' AS regclass) AND d.refobjid = m.oid
        AND d.classid = CAST('pg_constraint' AS regclass) AND m.hop = 0
        UNION ALL
        SELECT r.ev_class, false, 1
        FROM pg_depend AS d JOIN pg_rewrite AS r ON r.oid = d.objid
        WHERE d.refclassid = CAST('pg_class' AS regclass) AND d.refobjid = m.oid
        AND d.classid = CAST('pg_rewrite' AS regclass)
        UNION ALL
        -- Its own sequences, and the table of a sequence.
        SELECT c.oid, false, 1
        FROM pg_depend AS d JOIN pg_class AS c ON c.oid = d.objid AND c.relkind = 'S'
        WHERE d.refclassid = CAST('pg_class' AS regclass) AND d.refobjid = m.oid
        AND d.refobjsubid > 0 AND d.classid = d.refclassid
        UNION ALL
        SELECT d.refobjid, false, 1
        FROM pg_class AS s
        JOIN pg_depend AS d ON d.objid = s.oid
        WHERE s.oid = m.oid AND s.relkind = 'S' AND d.classid = CAST('pg_class' AS regclass)
        AND d.refclassid = d.classid AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
    ) AS next(oid, up, hop)
)
SELECT CAST(c.oid AS bigint) AS oid
FROM (SELECT DISTINCT member.oid FROM member) AS m
JOIN pg_class AS c ON c.oid = m.oid AND c.relkind IN {_KINDS}
JOIN pg_namespace AS n ON n.oid = c.relnamespace AND {_IN_USE.format("n")}
"""

NAMES = f"""
SELECT CAST(c.oid AS bigint) AS oid, CAST(c.relname AS text) AS name,
       {_SCHEMA.format("n")} AS schema
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = ANY (CAST(:oids AS oid[]))
"""

RELATIONS = f"""
SELECT CAST(c.oid AS bigint) AS oid,
       CAST(c.relname AS text) AS name,
       {_SCHEMA.format("n")} AS schema,
       CAST(c.relkind AS text) AS kind,
       CAST(c.relpersistence AS text) AS persistence,
       c.relispartition AS is_partition,
       CAST(am.amname AS text) AS access_method,
       CAST(ts.spcname AS text) AS tablespace,
       ARRAY(
           SELECT CAST(i.inhparent AS bigint) FROM pg_inherits AS i
           WHERE i.inhrelid = c.oid ORDER BY i.inhseqno
       ) AS parents,
       ARRAY(
           SELECT CAST(i.inhrelid AS bigint) FROM pg_inherits AS i
           WHERE i.inhparent = c.oid ORDER BY i.inhrelid
       ) AS children,
       c.relispartition AND EXISTS (
           SELECT FROM pg_partitioned_table AS p WHERE p.partdefid = c.oid
       ) AS is_default_partition,
       CASE WHEN c.relkind = 'p' THEN ARRAY(
           SELECT CAST(a.attname AS text)
           FROM pg_attribute AS a
           JOIN pg_partitioned_table AS p ON p.partrelid = a.attrelid
           LEFT JOIN unnest(CAST(p.partattrs AS smallint[])) WITH ORDINALITY AS k(number, position)
               ON k.number = a.attnum
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND (
               k.number IS NOT NULL
               -- A column in an expression of the key depends on its table (StorePartitionKey).
               OR EXISTS (
                   SELECT FROM pg_depend AS d
                   WHERE d.classid = CAST('pg_class' AS regclass) AND d.refclassid = d.classid
                   AND d.objid = c.oid AND d.refobjid = c.oid
                   AND d.objsubid = a.attnum AND d.refobjsubid = 0 AND d.deptype = 'i'
               )
           )
           ORDER BY k.position NULLS LAST, a.attnum
       ) ELSE CAST(ARRAY[] AS text[]) END AS partition_key,
       c.relkind = 'p' AND EXISTS (
           SELECT FROM pg_partitioned_table AS p
           WHERE p.partrelid = c.oid AND p.partexprs IS NOT NULL
       ) AS has_key_expressions,
       CASE WHEN c.relhastriggers THEN ARRAY(
           SELECT CAST(t.tgname AS text) FROM pg_trigger AS t
           WHERE t.tgrelid = c.oid AND NOT t.tgisinternal
       ) ELSE CAST(ARRAY[] AS text[]) END AS triggers,
       CASE WHEN c.relhasrules THEN ARRAY(
           SELECT CAST(r.rulename AS text) FROM pg_rewrite AS r
           WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN'
       ) ELSE CAST(ARRAY[] AS text[]) END AS rules,
       ARRAY(
           SELECT CAST(p.polname AS text) FROM pg_policy AS p WHERE p.polrelid = c.oid
       ) AS policies,
       -- Rows of system columns are written once and never changed.
       EXISTS (
           SELECT FROM pg_attribute AS a
           WHERE a.attrelid = c.oid AND a.attnum = -1 AND {WRITTEN_HERE.format("a")}
       ) AS is_new
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_am AS am ON am.oid = c.relam
LEFT JOIN pg_tablespace AS ts ON ts.oid = c.reltablespace
WHERE c.oid = ANY (CAST(:oids AS oid[]))
ORDER BY c.oid
"""

COLUMNS = f"""
SELECT CAST(a.attrelid AS bigint) AS table_oid,
       CAST(a.attnum AS integer) AS number,
       CAST(a.attname AS text) AS name,
       CAST(COALESCE(e.typname, t.typname) AS text) AS type_name,
       {_SCHEMA.format("tn")} AS type_schema,
       e.oid IS NOT NULL AS is_array,
       a.atttypmod AS type_modifier,
       a.attnotnull AND NOT EXISTS (
           -- 18 sets attnotnull for a NOT NULL that is NOT VALID, too.
           SELECT FROM pg_constraint AS con
           WHERE con.conrelid = a.attrelid AND con.contype = 'n' AND NOT con.convalidated
           AND con.conkey[1] = a.attnum
       ) AS not_null,
       CAST(a.attidentity AS text) AS identity,
       CAST(a.attgenerated AS text) AS generated,
       CAST(co.collname AS text) AS collation,
       a.attinhcount > 0 AS inherited,
       a.atthasdef AS has_default,
       (
           SELECT CAST(d.objid AS bigint)
           FROM pg_depend AS d JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
           WHERE d.refclassid = CAST('pg_class' AS regclass) AND d.refobjid = a.attrelid
           AND d.refobjsubid = a.attnum AND d.classid = d.refclassid AND d.deptype IN ('a', 'i')
           -- ALTER SEQUENCE ... OWNED BY can give a column more than one.
           ORDER BY d.objid LIMIT 1
       ) AS sequence
FROM pg_attribute AS a
JOIN pg_type AS t ON t.oid = a.atttypid
LEFT JOIN pg_type AS e ON e.oid = t.typelem AND e.typarray = t.oid
JOIN pg_namespace AS tn ON tn.oid = COALESCE(e.typnamespace, t.typnamespace)
LEFT JOIN pg_collation AS co ON co.oid = a.attcollation AND a.attcollation <> t.typcollation
WHERE a.attrelid = ANY (CAST(:oids AS oid[])) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""

# A key column depends on the table once; what depends on it more often is an expression or the
# predicate. The key columns of a constraint's index depend by the constraint.
INDEXES = """
SELECT CAST(i.indrelid AS bigint) AS table_oid,
       CAST(c.relname AS text) AS name,
       ARRAY(
           SELECT CAST(a.attname AS text)
           FROM unnest(CAST(i.indkey AS smallint[])) WITH ORDINALITY AS k(number, position)
           LEFT JOIN pg_attribute AS a
               ON a.attrelid = i.indrelid AND a.attnum = k.number AND k.number <> 0
           ORDER BY k.position
       ) AS columns,
       CAST(i.indnkeyatts AS integer) AS key_count,
       ARRAY(
           SELECT CAST(a.attname AS text)
           FROM pg_depend AS d
           JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = d.refobjsubid
           WHERE d.classid = CAST('pg_class' AS regclass) AND d.objid = i.indexrelid
           AND d.refclassid = d.classid AND d.refobjid = i.indrelid AND a.attnum > 0
           AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)
           GROUP BY a.attname, a.attnum
           HAVING count(*) > CASE
               WHEN con.oid IS NULL AND a.attnum = ANY (CAST(i.indkey AS smallint[])) THEN 1
               ELSE 0
           END
       ) AS expression_columns,
       ARRAY(
           SELECT CASE WHEN NOT oc.opcdefault THEN CAST(oc.opcname AS text) END
           FROM unnest(CAST(i.indclass AS oid[])) WITH ORDINALITY AS k(oid, position)
           LEFT JOIN pg_opclass AS oc ON oc.oid = k.oid
           ORDER BY k.position
       ) AS operator_classes,
       ARRAY(
           SELECT CASE WHEN k.oid <> COALESCE(a.attcollation, t.typcollation)
                       THEN CAST(co.collname AS text) END
           FROM unnest(CAST(i.indcollation AS oid[])) WITH ORDINALITY AS k(oid, position)
           JOIN pg_attribute AS key ON key.attrelid = i.indexrelid AND key.attnum = k.position
           JOIN pg_type AS t ON t.oid = key.atttypid
           LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum > 0
               AND a.attnum = (CAST(i.indkey AS smallint[]))[k.position]
           LEFT JOIN pg_collation AS co ON co.oid = k.oid
           ORDER BY k.position
       ) AS collations,
       CAST(am.amname AS text) AS method,
       i.indisunique AS is_unique,
       i.indisprimary AS is_primary,
       i.indisvalid AND i.indislive AS is_valid,
       i.indpred IS NOT NULL AS is_partial,
       {nulls_not_distinct} AS nulls_not_distinct,
       CAST(con.conname AS text) AS constraint_name,
       CAST(inh.inhparent AS bigint) AS parent
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
JOIN pg_am AS am ON am.oid = c.relam
LEFT JOIN pg_constraint AS con ON con.conindid = i.indexrelid AND con.conrelid = i.indrelid
    AND con.contype IN ('p', 'u', 'x')
LEFT JOIN pg_inherits AS inh ON inh.inhrelid = i.indexrelid
WHERE i.indrelid = ANY (CAST(:oids AS oid[]))
ORDER BY i.indrelid, c.relname
"""

# A foreign key to a partitioned table has one more row for each partition of it.
CONSTRAINTS = """
SELECT CAST(con.oid AS bigint) AS oid,
       CAST(con.conrelid AS bigint) AS table_oid,
       CAST(con.conname AS text) AS name,
       CAST(con.contype AS text) AS type,
       ARRAY(
           SELECT CAST(a.attname AS text)
           FROM unnest(con.conkey) WITH ORDINALITY AS k(number, position)
           JOIN pg_attribute AS a
               ON a.attrelid = con.conrelid AND a.attnum = k.number AND k.number > 0
           ORDER BY k.position
       ) AS columns,
       con.convalidated AS is_validated,
       {is_enforced} AS is_enforced,
       con.condeferrable AS is_deferrable,
       CAST(NULLIF(con.confrelid, 0) AS bigint) AS referenced,
       ARRAY(
           SELECT CAST(a.attname AS text)
           FROM unnest(con.confkey) WITH ORDINALITY AS k(number, position)
           JOIN pg_attribute AS a ON a.attrelid = con.confrelid AND a.attnum = k.number
           ORDER BY k.position
       ) AS referenced_columns,
       CAST(i.relname AS text) AS index_name,
       con.coninhcount > 0 AS inherited
FROM pg_constraint AS con
LEFT JOIN pg_class AS i ON i.oid = con.conindid
LEFT JOIN pg_constraint AS parent ON parent.oid = con.conparentid
WHERE con.conrelid = ANY (CAST(:oids AS oid[])) AND con.contype IN ('p', 'u', 'f', 'c', 'x', 'n')
AND parent.conrelid IS DISTINCT FROM con.conrelid
ORDER BY con.conrelid, con.conname
"""

# What hangs on columns, each kind as (kind, name or oid of the relation, the columns it uses).
DEPENDENTS = """
WITH hit AS (
    SELECT d.refobjid AS table_oid, d.classid, d.objid, d.objsubid, d.refobjsubid AS number,
           CAST(a.attname AS text) AS column_name
    FROM pg_depend AS d
    LEFT JOIN pg_attribute AS a
        ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid AND a.attnum > 0
    WHERE d.refclassid = CAST('pg_class' AS regclass)
    AND d.refobjid = ANY (CAST(:oids AS oid[]))
), named AS (
    SELECT hit.table_oid, hit.column_name, 'view' AS kind, CAST(NULL AS text) AS name,
           CAST(r.ev_class AS bigint) AS oid
    FROM hit
    JOIN pg_rewrite AS r ON r.oid = hit.objid AND hit.classid = CAST('pg_rewrite' AS regclass)
    WHERE r.ev_class <> hit.table_oid OR hit.column_name IS NOT NULL
    UNION ALL
    -- The expression of a generated column depends on what it uses; up to version 14 the
    -- column itself does.
    SELECT hit.table_oid, hit.column_name, 'generated', CAST(g.attname AS text), NULL
    FROM hit
    LEFT JOIN pg_attrdef AS d
        ON d.oid = hit.objid AND hit.classid = CAST('pg_attrdef' AS regclass)
    JOIN pg_attribute AS g ON g.attrelid = hit.table_oid AND g.attgenerated <> ''
        AND (g.attnum = d.adnum AND g.attrelid = d.adrelid
             OR g.attnum = hit.objsubid AND g.attrelid = hit.objid
             AND hit.classid = CAST('pg_class' AS regclass))
    WHERE hit.number <> g.attnum AND hit.column_name IS NOT NULL
    UNION ALL
    SELECT hit.table_oid, hit.column_name, 'statistics', CAST(s.stxname AS text), NULL
    FROM hit
    JOIN pg_statistic_ext AS s
        ON s.oid = hit.objid AND hit.classid = CAST('pg_statistic_ext' AS regclass)
    WHERE hit.column_name IS NOT NULL
    UNION ALL
    SELECT hit.table_oid, hit.column_name, 'other', 'policy ' || quote_ident(p.polname), NULL
    FROM hit
    JOIN pg_policy AS p ON p.oid = hit.objid AND hit.classid = CAST('pg_policy' AS regclass)
    WHERE hit.column_name IS NOT NULL
    UNION ALL
    SELECT hit.table_oid, hit.column_name, 'other', 'trigger ' || quote_ident(t.tgname), NULL
    FROM hit
    JOIN pg_trigger AS t ON t.oid = hit.objid AND hit.classid = CAST('pg_trigger' AS regclass)
        AND NOT t.tgisinternal
    WHERE hit.column_name IS NOT NULL
    UNION ALL
    -- One of the whole table uses no column; column lists and row filters (15) do.
    SELECT hit.table_oid, hit.column_name, 'other', 'publication ' || quote_ident(p.pubname), NULL
    FROM hit
    JOIN pg_publication_rel AS pr
        ON pr.oid = hit.objid AND hit.classid = CAST('pg_publication_rel' AS regclass)
    JOIN pg_publication AS p ON p.oid = pr.prpubid
    UNION ALL
    -- SQL-standard bodies (14); a body in quotes leaves no trace.
    SELECT hit.table_oid, hit.column_name, 'other', 'function ' || quote_ident(p.proname), NULL
    FROM hit
    JOIN pg_proc AS p ON p.oid = hit.objid AND hit.classid = CAST('pg_proc' AS regclass)
    WHERE hit.column_name IS NOT NULL
)
SELECT CAST(named.table_oid AS bigint) AS table_oid, named.kind, named.name, named.oid,
       COALESCE(array_agg(DISTINCT named.column_name)
                    FILTER (WHERE named.column_name IS NOT NULL),
                CAST(ARRAY[] AS text[])) AS columns
FROM named
GROUP BY named.table_oid, named.kind, named.name, named.oid
"""

TYPES = f"""
WITH RECURSIVE made AS (
    SELECT t.oid, CAST(t.typname AS text) AS name, {_SCHEMA.format("n")} AS schema,
           t.typtype, t.typbasetype, t.typtypmod, t.typdefault
    FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace AND {_IN_USE.format("n")}
    LEFT JOIN pg_class AS c ON c.oid = t.typrelid
    WHERE t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND c.relkind = 'c'
    -- Base types of extensions; those of category A are arrays.
    OR t.typtype = 'b' AND t.typcategory <> 'A'
), base(domain, oid) AS (
    SELECT made.oid, made.oid FROM made WHERE made.typtype = 'd'
    UNION
    SELECT base.domain, t.typbasetype
    FROM base JOIN pg_type AS t ON t.oid = base.oid AND t.typtype = 'd'
)
SELECT made.name, made.schema,
       CAST(made.typtype AS text) AS kind,
       CAST(COALESCE(e.typname, b.typname) AS text) AS base_name,
       {_SCHEMA.format("bn")} AS base_schema,
       e.oid IS NOT NULL AS base_is_array,
       made.typtypmod AS base_modifier,
       EXISTS (
           SELECT FROM base JOIN pg_type AS t ON t.oid = base.oid
           WHERE base.domain = made.oid AND (t.typnotnull OR EXISTS (
               SELECT FROM pg_constraint AS con WHERE con.contypid = t.oid
           ))
       ) AS has_constraints,
       made.typdefault AS default_,
       ARRAY(
           SELECT CAST(l.enumlabel AS text) FROM pg_enum AS l
           WHERE l.enumtypid = made.oid ORDER BY l.enumsortorder
       ) AS labels,
       ARRAY(
           SELECT CAST(l.enumlabel AS text) FROM pg_enum AS l
           WHERE l.enumtypid = made.oid AND {WRITTEN_HERE.format("l")}
       ) AS new_labels,
       ARRAY(
           SELECT CAST(con.conname AS text) FROM pg_constraint AS con
           WHERE con.contypid = made.oid AND con.convalidated
       ) AS validated,
       ARRAY(
           SELECT CAST(con.conname AS text) FROM pg_constraint AS con
           WHERE con.contypid = made.oid AND NOT con.convalidated
       ) AS not_validated
FROM made
LEFT JOIN pg_type AS b ON b.oid = made.typbasetype
LEFT JOIN pg_type AS e ON e.oid = b.typelem AND e.typarray = b.oid
LEFT JOIN pg_namespace AS bn ON bn.oid = COALESCE(e.typnamespace, b.typnamespace)
"""

_TYPE_OF = """(
    SELECT CAST(COALESCE(e.typname || '[]', t.typname) AS text)
    FROM pg_type AS t LEFT JOIN pg_type AS e ON e.oid = t.typelem AND e.typarray = t.oid
    WHERE t.oid = {0}
)"""

# One row for each name: the most volatile overload. Whose body a call runs is not known then.
FUNCTIONS = f"""
WITH firing AS (
    -- pg_trigger has no index by function, and rows for each foreign key.
    SELECT t.tgfoid AS function_oid,
           array_agg(CAST(t.tgname AS text) ORDER BY t.oid) AS names,
           array_agg(CAST(t.tgrelid AS bigint) ORDER BY t.oid) AS relations
    FROM pg_trigger AS t
    WHERE NOT t.tgisinternal
    GROUP BY t.tgfoid
)
SELECT DISTINCT ON (schema, name)
       CAST(p.oid AS bigint) AS oid,
       CAST(p.proname AS text) AS name,
       {_SCHEMA.format("n")} AS schema,
       CAST(p.provolatile AS text) AS volatility,
       CAST(l.lanname AS text) AS language,
       COALESCE(CAST(p.proargnames AS text[]), CAST(ARRAY[] AS text[])) AS arguments,
       ARRAY(
           SELECT {_TYPE_OF.format("a.oid")}
           FROM unnest(CAST(p.proargtypes AS oid[])) WITH ORDINALITY AS a(oid, position)
           ORDER BY a.position
       ) AS argument_types,
       CASE WHEN p.prokind = 'p' THEN 'procedure' ELSE {_TYPE_OF.format("p.prorettype")} END
           AS returns,
       EXISTS (
           SELECT FROM pg_depend AS d
           WHERE d.refclassid = CAST('pg_proc' AS regclass) AND d.refobjid = p.oid
           AND d.deptype IN ('n', 'a') AND d.classid <> CAST('pg_trigger' AS regclass)
       ) AS is_used,
       COALESCE(firing.names, CAST(ARRAY[] AS text[])) AS trigger_names,
       COALESCE(firing.relations, CAST(ARRAY[] AS bigint[])) AS trigger_relations,
       count(*) OVER (PARTITION BY p.proname, p.pronamespace) > 1 AS is_overloaded,
       CASE WHEN l.lanname IN ('sql', 'plpgsql') THEN p.prosrc ELSE '' END AS body,
       l.lanname = 'sql' AND p.prokind = 'f' AND NOT p.proretset AND NOT p.proisstrict
           AND NOT p.prosecdef AND p.proconfig IS NULL AS can_be_inlined,
       {{has_parsed_body}} AS has_parsed_body
FROM pg_proc AS p
JOIN pg_namespace AS n ON n.oid = p.pronamespace AND {_IN_USE.format("n")}
JOIN pg_language AS l ON l.oid = p.prolang
LEFT JOIN firing ON firing.function_oid = p.oid
ORDER BY schema, name, position(CAST(p.provolatile AS text) IN 'vsi')
"""

SHORT_WAIT = "SELECT set_config('lock_timeout', '100ms', true)"

EXPRESSIONS = """
SELECT 'size' AS what, CAST(c.oid AS bigint) AS oid, 0 AS number,
       CAST(
           pg_relation_size(c.oid)
           + COALESCE(pg_relation_size(NULLIF(c.reltoastrelid, CAST(0 AS oid))), 0) AS text
       ) AS definition
FROM pg_class AS c
WHERE c.oid = ANY (CAST(:oids AS oid[])) AND c.relkind IN ('r', 'm')
UNION ALL
SELECT 'bound', CAST(c.oid AS bigint), 0, pg_get_expr(c.relpartbound, c.oid)
FROM pg_class AS c
WHERE c.oid = ANY (CAST(:oids AS oid[])) AND c.relispartition
UNION ALL
SELECT 'default', CAST(d.adrelid AS bigint), CAST(d.adnum AS integer),
       pg_get_expr(d.adbin, d.adrelid)
FROM pg_attrdef AS d
WHERE d.adrelid = ANY (CAST(:oids AS oid[]))
UNION ALL
SELECT 'check', CAST(con.oid AS bigint), 0, pg_get_expr(con.conbin, con.conrelid)
FROM pg_constraint AS con
WHERE con.conrelid = ANY (CAST(:oids AS oid[])) AND con.contype = 'c'
"""

FUNCTION_BODIES = """
SELECT CAST(p.oid AS bigint) AS oid, pg_get_function_sqlbody(p.oid) AS body
FROM pg_proc AS p
WHERE p.oid = ANY (CAST(:oids AS oid[])) AND NOT EXISTS (
    SELECT FROM pg_depend AS d
    WHERE d.classid = CAST('pg_proc' AS regclass) AND d.objid = p.oid
    AND d.refclassid = CAST('pg_class' AS regclass)
    AND d.refobjid = ANY (CAST(:kept_by_others AS oid[]))
)
"""
