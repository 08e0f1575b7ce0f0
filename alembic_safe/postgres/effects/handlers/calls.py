"""What calling a function does: PostgreSQL's own, those of well-known extensions, and a user's,
whose body is read where it is known."""

from __future__ import annotations

import re
from typing import Any

from alembic_safe.postgres.builtin_functions import (
    IMMUTABLE_OR_STABLE,
    RUNS_OTHER_SQL,
    VOLATILE,
)
from alembic_safe.postgres.effects.handlers.names import split_name, strings
from alembic_safe.postgres.effects.handlers.plpgsql import run_function_body
from alembic_safe.postgres.effects.handlers.settings import set_by_function
from alembic_safe.postgres.effects.handlers.writes import lock_sequence
from alembic_safe.postgres.effects.parsing import parse
from alembic_safe.postgres.effects.tally import Tally
from alembic_safe.postgres.effects.world import Function

_OF_SEQUENCES = frozenset({"nextval", "setval", "currval"})

_EXTENSION_NAMES = """
    armor crypt dearmor decrypt decrypt_iv digest encrypt encrypt_iv gen_random_bytes gen_salt
    hmac pgp_pub_decrypt pgp_pub_encrypt pgp_sym_decrypt pgp_sym_encrypt
    uuid_generate_v1 uuid_generate_v1mc uuid_generate_v3 uuid_generate_v4 uuid_generate_v5
    uuid_nil uuid_ns_dns uuid_ns_oid uuid_ns_url uuid_ns_x500
    akeys avals delete each exist defined hstore hstore_to_array hstore_to_json hstore_to_jsonb
    skeys slice svals
    show_trgm similarity strict_word_similarity word_similarity
    dmetaphone dmetaphone_alt levenshtein metaphone soundex difference unaccent
    subltree subpath nlevel lca ltree2text text2ltree
    cosine_distance inner_product l1_distance l2_distance vector_dims vector_norm
    connectby crosstab normal_rand
"""

_OF_EXTENSIONS = frozenset(_EXTENSION_NAMES.split())
"""Functions of pgcrypto, uuid-ossp, hstore, pg_trgm, fuzzystrmatch, unaccent, ltree, pgvector and
tablefunc, which only compute a value."""

_POSTGIS = "st_"
"""What PostGIS begins the names of its functions on geometries with; all of them only compute."""


def call(function_call: Any, tally: Tally) -> None:
    """Note what a call in a statement does (`FuncCall`).

    A function that is not known may do anything, so the statement is then unknown.

    Raises:
        Refused: what the function's body does is certainly refused.
    """
    name, schema = split_name(strings(function_call.funcname))
    known = tally.world.functions.get(tally.world.qualified_function(name, schema))
    is_of_extension = name in _OF_EXTENSIONS or name.startswith(_POSTGIS)
    if known is not None and schema != "pg_catalog":
        if not (is_of_extension and known.language == "c"):
            _call_known(known, tally)
        return
    if schema in (None, "pg_catalog"):
        if name in RUNS_OTHER_SQL:
            tally.unknown(f"{name}() runs SQL that it is given as text")
            return
        if name in IMMUTABLE_OR_STABLE:
            return
        if name in VOLATILE:
            _call_volatile(name, function_call.args, tally)
            return
    if is_of_extension:
        return
    shown = name if schema is None else f"{schema}.{name}"
    tally.details.setdefault("unknown_functions", []).append(shown)
    tally.unknown(f"it calls {shown}(), of which is not known what it does")


def _call_volatile(name: str, arguments: Any, tally: Tally) -> None:
    texts = [_text(argument) for argument in arguments]
    if name in _OF_SEQUENCES and texts and texts[0] is not None:
        lock_sequence(texts[0], tally)
    elif name == "set_config":
        set_by_function(texts, arguments, tally)
    elif "advisory" in name and "unlock" not in name:
        tally.details["advisory_lock"] = True
    elif name.startswith("pg_sleep"):
        tally.details["sleeps"] = True


def _text(node: Any) -> str | None:
    if node.WhichOneof("node") == "type_cast":
        return _text(node.type_cast.arg)
    if node.WhichOneof("node") == "a_const" and node.a_const.WhichOneof("val") == "sval":
        return str(node.a_const.sval.sval)
    return None


def _call_known(function: Function, tally: Tally) -> None:
    if function.volatility != "v":
        # The server does not let it change anything.
        return
    if function.name in tally.called:
        return
    tally.called.add(function.name)
    if function.language == "sql" and function.body:
        for parsed in parse(_statements_of(function.body)):
            tally.absorb(tally.inside_statement(parsed), certain=False)
    elif function.language == "plpgsql" and function.body:
        run_function_body(function, tally)
    else:
        tally.details.setdefault("unknown_functions", []).append(str(function.name))
        tally.unknown(f"it calls {function.name}(), whose body is not known")


_ATOMIC = re.compile(r"\s*BEGIN\s+ATOMIC\b(.*)\bEND\s*;?\s*", re.IGNORECASE | re.DOTALL)
_RETURN = re.compile(r"\s*RETURN\b(.*)", re.IGNORECASE | re.DOTALL)


def _statements_of(body: str) -> str:
    """Return the statements of an SQL function, without what standard SQL has around them (14)."""
    if atomic := _ATOMIC.fullmatch(body):
        return atomic[1]
    if returned := _RETURN.fullmatch(body):
        return f"SELECT {returned[1]}"
    return body
