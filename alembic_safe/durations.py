"""Durations as a user writes them."""

from __future__ import annotations

import re
from typing import Any

_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(value: Any) -> float:
    """Return a duration in seconds.

    Args:
        value: a number of seconds, or a text with a unit: `500ms`, `2s`, `5min`, `1h`, `7d`.

    Raises:
        ValueError: it is something else.
    """
    problem = "give seconds as a number, or a text such as 500ms, 2s, 5min, 1h"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(problem)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|h|d|)\s*", str(value))
    if match is None:
        raise ValueError(problem)
    return float(match[1]) * _UNITS[match[2]]
