"""What EXCEPTION clauses of PL/pgSQL catch."""

from __future__ import annotations

from collections.abc import Iterable

_SQLSTATES = {
    "active_sql_transaction": "25001",
    "check_violation": "23514",
    "dependent_objects_still_exist": "2BP01",
    "duplicate_column": "42701",
    "duplicate_database": "42P04",
    "duplicate_function": "42723",
    "duplicate_object": "42710",
    "duplicate_prepared_statement": "42P05",
    "duplicate_schema": "42P06",
    "duplicate_table": "42P07",
    "feature_not_supported": "0A000",
    "foreign_key_violation": "23503",
    "insufficient_privilege": "42501",
    "invalid_object_definition": "42P17",
    "invalid_schema_name": "3F000",
    "invalid_table_definition": "42P16",
    "invalid_transaction_termination": "2D000",
    "lock_not_available": "55P03",
    "not_null_violation": "23502",
    "object_in_use": "55006",
    "object_not_in_prerequisite_state": "55000",
    "raise_exception": "P0001",
    "syntax_error": "42601",
    "undefined_column": "42703",
    "undefined_file": "58P01",
    "undefined_function": "42883",
    "undefined_object": "42704",
    "undefined_table": "42P01",
    "unique_violation": "23505",
    "unsafe_new_enum_value_usage": "55P04",
    "wrong_object_type": "42809",
}
"""Names of conditions (PostgreSQL documentation, appendix A) of errors that definitions raise."""


def catches(conditions: Iterable[str], sqlstate: str) -> bool:
    """Return whether a handler for these conditions catches an error.

    Args:
        conditions: names in lower case, classes of errors, or SQLSTATEs as they were written.
        sqlstate: of the error.
    """
    return any(
        condition == "others"
        or condition == sqlstate
        or _SQLSTATES.get(condition) == sqlstate
        or (condition in _CLASSES and sqlstate.startswith(_CLASSES[condition]))
        for condition in conditions
    )


_CLASSES = {
    "integrity_constraint_violation": "23",
    "syntax_error_or_access_rule_violation": "42",
}
