"""Command tags: what PostgreSQL calls each kind of statement (`CreateCommandTag` in utility.c)."""

from __future__ import annotations

from typing import Any

_TAGS = {
    "alter_collation_stmt": "ALTER COLLATION",
    "alter_database_refresh_coll_stmt": "ALTER DATABASE",
    "alter_database_set_stmt": "ALTER DATABASE",
    "alter_database_stmt": "ALTER DATABASE",
    "alter_default_privileges_stmt": "ALTER DEFAULT PRIVILEGES",
    "alter_domain_stmt": "ALTER DOMAIN",
    "alter_enum_stmt": "ALTER TYPE",
    "alter_event_trig_stmt": "ALTER EVENT TRIGGER",
    "alter_extension_contents_stmt": "ALTER EXTENSION",
    "alter_extension_stmt": "ALTER EXTENSION",
    "alter_fdw_stmt": "ALTER FOREIGN DATA WRAPPER",
    "alter_foreign_server_stmt": "ALTER SERVER",
    "alter_op_family_stmt": "ALTER OPERATOR FAMILY",
    "alter_operator_stmt": "ALTER OPERATOR",
    "alter_policy_stmt": "ALTER POLICY",
    "alter_publication_stmt": "ALTER PUBLICATION",
    "alter_role_set_stmt": "ALTER ROLE",
    "alter_role_stmt": "ALTER ROLE",
    "alter_seq_stmt": "ALTER SEQUENCE",
    "alter_stats_stmt": "ALTER STATISTICS",
    "alter_subscription_stmt": "ALTER SUBSCRIPTION",
    "alter_system_stmt": "ALTER SYSTEM",
    "alter_table_space_options_stmt": "ALTER TABLESPACE",
    "alter_tsconfiguration_stmt": "ALTER TEXT SEARCH CONFIGURATION",
    "alter_tsdictionary_stmt": "ALTER TEXT SEARCH DICTIONARY",
    "alter_type_stmt": "ALTER TYPE",
    "alter_user_mapping_stmt": "ALTER USER MAPPING",
    "call_stmt": "CALL",
    "check_point_stmt": "CHECKPOINT",
    "cluster_stmt": "CLUSTER",
    "comment_stmt": "COMMENT",
    "composite_type_stmt": "CREATE TYPE",
    "constraints_set_stmt": "SET CONSTRAINTS",
    "copy_stmt": "COPY",
    "create_am_stmt": "CREATE ACCESS METHOD",
    "create_cast_stmt": "CREATE CAST",
    "create_conversion_stmt": "CREATE CONVERSION",
    "create_domain_stmt": "CREATE DOMAIN",
    "create_enum_stmt": "CREATE TYPE",
    "create_event_trig_stmt": "CREATE EVENT TRIGGER",
    "create_extension_stmt": "CREATE EXTENSION",
    "create_fdw_stmt": "CREATE FOREIGN DATA WRAPPER",
    "create_foreign_server_stmt": "CREATE SERVER",
    "create_foreign_table_stmt": "CREATE FOREIGN TABLE",
    "create_op_class_stmt": "CREATE OPERATOR CLASS",
    "create_op_family_stmt": "CREATE OPERATOR FAMILY",
    "create_plang_stmt": "CREATE LANGUAGE",
    "create_policy_stmt": "CREATE POLICY",
    "create_publication_stmt": "CREATE PUBLICATION",
    "create_range_stmt": "CREATE TYPE",
    "create_role_stmt": "CREATE ROLE",
    "create_schema_stmt": "CREATE SCHEMA",
    "create_seq_stmt": "CREATE SEQUENCE",
    "create_stats_stmt": "CREATE STATISTICS",
    "create_stmt": "CREATE TABLE",
    "create_subscription_stmt": "CREATE SUBSCRIPTION",
    "create_table_space_stmt": "CREATE TABLESPACE",
    "create_transform_stmt": "CREATE TRANSFORM",
    "create_trig_stmt": "CREATE TRIGGER",
    "create_user_mapping_stmt": "CREATE USER MAPPING",
    "createdb_stmt": "CREATE DATABASE",
    "declare_cursor_stmt": "DECLARE CURSOR",
    "delete_stmt": "DELETE",
    "do_stmt": "DO",
    "drop_owned_stmt": "DROP OWNED",
    "drop_role_stmt": "DROP ROLE",
    "drop_subscription_stmt": "DROP SUBSCRIPTION",
    "drop_table_space_stmt": "DROP TABLESPACE",
    "drop_user_mapping_stmt": "DROP USER MAPPING",
    "dropdb_stmt": "DROP DATABASE",
    "execute_stmt": "EXECUTE",
    "explain_stmt": "EXPLAIN",
    "import_foreign_schema_stmt": "IMPORT FOREIGN SCHEMA",
    "insert_stmt": "INSERT",
    "listen_stmt": "LISTEN",
    "load_stmt": "LOAD",
    "lock_stmt": "LOCK TABLE",
    "merge_stmt": "MERGE",
    "notify_stmt": "NOTIFY",
    "prepare_stmt": "PREPARE",
    "reassign_owned_stmt": "REASSIGN OWNED",
    "rule_stmt": "CREATE RULE",
    "sec_label_stmt": "SECURITY LABEL",
    "truncate_stmt": "TRUNCATE TABLE",
    "unlisten_stmt": "UNLISTEN",
    "update_stmt": "UPDATE",
    "variable_show_stmt": "SHOW",
    "view_stmt": "CREATE VIEW",
}

_OBJECTS = {
    "FDW": "FOREIGN DATA WRAPPER",
    "FOREIGN_SERVER": "SERVER",
    "MATVIEW": "MATERIALIZED VIEW",
    "OPCLASS": "OPERATOR CLASS",
    "OPFAMILY": "OPERATOR FAMILY",
    "STATISTIC_EXT": "STATISTICS",
    "TSCONFIGURATION": "TEXT SEARCH CONFIGURATION",
    "TSDICTIONARY": "TEXT SEARCH DICTIONARY",
    "TSPARSER": "TEXT SEARCH PARSER",
    "TSTEMPLATE": "TEXT SEARCH TEMPLATE",
    "DOMCONSTRAINT": "DOMAIN",
    "ATTRIBUTE": "TYPE",
}
"""Kinds of objects that the grammar calls otherwise than the commands do."""

_ON_TABLES = frozenset({"COLUMN", "TABCONSTRAINT"})
"""Kinds whose renaming is an ALTER of the relation that they belong to."""

_OBJECT_FIELDS = {
    "alter_function_stmt": ("ALTER", "objtype"),
    "alter_object_depends_stmt": ("ALTER", "object_type"),
    "alter_object_schema_stmt": ("ALTER", "object_type"),
    "alter_owner_stmt": ("ALTER", "object_type"),
    "alter_table_move_all_stmt": ("ALTER", "objtype"),
    "alter_table_stmt": ("ALTER", "objtype"),
    "create_table_as_stmt": ("CREATE", "objtype"),
    "define_stmt": ("CREATE", "kind"),
    "drop_stmt": ("DROP", "remove_type"),
    "rename_stmt": ("ALTER", "rename_type"),
}
"""Statements whose tag names the kind of object, and the field that tells it."""


def command_tag(node_name: str, node: Any) -> str:
    """Return the command that a statement is, as PostgreSQL reports it.

    `CONCURRENTLY` is added where it is part of the command; a handler may say it better still.
    """
    if node_name in _OBJECT_FIELDS:
        verb, field = _OBJECT_FIELDS[node_name]
        tag = f"{verb} {_object(node, field)}"
        if tag == "CREATE TABLE":
            tag = "CREATE TABLE AS"  # CREATE TABLE has a node of its own
    else:
        tag = _TAGS.get(node_name) or _by_fields(node_name, node)
    return f"{tag} CONCURRENTLY" if _is_concurrent(node_name, node) else tag


def _object(node: Any, field: str) -> str:
    from postgast import pg_query_pb2 as grammar

    kind = grammar.ObjectType.Name(getattr(node, field)).removeprefix("OBJECT_")
    if kind in _ON_TABLES:
        kind = grammar.ObjectType.Name(node.relation_type).removeprefix("OBJECT_")
    return _OBJECTS.get(kind) or kind.replace("_", " ")


def _by_fields(node_name: str, node: Any) -> str:
    from postgast import pg_query_pb2 as grammar

    if node_name == "create_function_stmt":
        return "CREATE PROCEDURE" if node.is_procedure else "CREATE FUNCTION"
    if node_name == "grant_stmt":
        return "GRANT" if node.is_grant else "REVOKE"
    if node_name == "grant_role_stmt":
        return "GRANT ROLE" if node.is_grant else "REVOKE ROLE"
    if node_name == "vacuum_stmt":
        return "VACUUM" if node.is_vacuumcmd else "ANALYZE"
    if node_name == "variable_set_stmt":
        return "RESET" if node.kind in (grammar.VAR_RESET, grammar.VAR_RESET_ALL) else "SET"
    if node_name == "transaction_stmt":
        kind = grammar.TransactionStmtKind.Name(node.kind).removeprefix("TRANS_STMT_")
        return _TRANSACTIONS.get(kind) or kind.replace("_", " ")
    if node_name == "discard_stmt":
        return str(grammar.DiscardMode.Name(node.target)).replace("_", " ")
    if node_name == "deallocate_stmt":
        return "DEALLOCATE ALL" if node.isall else "DEALLOCATE"
    if node_name == "close_portal_stmt":
        return "CLOSE CURSOR" if node.portalname else "CLOSE CURSOR ALL"
    if node_name == "fetch_stmt":
        return "MOVE" if node.ismove else "FETCH"
    if node_name == "select_stmt":
        return "SELECT INTO" if node.HasField("into_clause") else "SELECT"
    return _WITH_CONCURRENTLY.get(node_name) or node_name.removesuffix("_stmt").upper()


_TRANSACTIONS = {
    "START": "START TRANSACTION",
    "ROLLBACK_TO": "ROLLBACK",
    "PREPARE": "PREPARE TRANSACTION",
}

_WITH_CONCURRENTLY = {
    "index_stmt": "CREATE INDEX",
    "refresh_mat_view_stmt": "REFRESH MATERIALIZED VIEW",
    "reindex_stmt": "REINDEX",
}


def _is_concurrent(node_name: str, node: Any) -> bool:
    if node_name in ("index_stmt", "drop_stmt", "refresh_mat_view_stmt"):
        return bool(node.concurrent)
    if node_name == "reindex_stmt":
        return any(option.def_elem.defname == "concurrently" for option in node.params)
    return False
