"""Parse trees: every message in one, without recursion, since they can be deep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def messages(root: Any) -> Iterator[Any]:
    """Yield a message and every message in it, in no particular order."""
    waiting = [root]
    while waiting:
        message = waiting.pop()
        yield message
        waiting += children(message)


def children(message: Any) -> Iterator[Any]:
    """Yield the messages directly in a message."""
    if message.DESCRIPTOR.name == "Node":
        kind = message.WhichOneof("node")
        if kind is not None:
            yield getattr(message, kind)
        return
    for field, value in message.ListFields():
        if field.type != field.TYPE_MESSAGE:
            continue
        # The way to ask whether a field is repeated changed between protobuf releases.
        if hasattr(value, "ListFields"):
            yield value
        else:
            yield from value
