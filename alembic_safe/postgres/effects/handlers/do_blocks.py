"""DO and CALL: statements inside of a statement."""

from __future__ import annotations

from typing import Any

from alembic_safe.postgres.effects.handlers.calls import call
from alembic_safe.postgres.effects.handlers.plpgsql import dollar_quoted, run_body
from alembic_safe.postgres.effects.handlers.queries import read_query
from alembic_safe.postgres.effects.tally import Handler, Tally


def do(node: Any, tally: Tally) -> None:
    """`DO`: what its statements do, each of them a child.

    Details:
        ends_transaction: it says COMMIT or ROLLBACK.

    Raises:
        Refused: it certainly ends in an error.
    """
    options = {item.def_elem.defname: item.def_elem.arg.string.sval for item in node.args}
    language = options.get("language", "plpgsql").lower()
    if language != "plpgsql":
        tally.unknown(f"a DO block in {language} cannot be read")
        return
    body = options.get("as", "")
    run_body(f"DO {dollar_quoted(body)}", body, tally)


def call_procedure(node: Any, tally: Tally) -> None:
    """`CALL`: what the procedure's body does, where it is known.

    Raises:
        Refused: it certainly ends in an error.
    """
    for function_call in read_query(node, tally).calls:
        call(function_call, tally)


HANDLERS: dict[str, Handler] = {"call_stmt": call_procedure, "do_stmt": do}
