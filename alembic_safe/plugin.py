"""The `alembic.plugins` entry point, through which Alembic 1.18 and newer find this package."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.runtime.plugins import Plugin


def setup(plugin: Plugin) -> None:
    """Be known as a plugin.

    Importing this module has imported the package, which registers its operations and their
    renderers. It needs no comparator: what autogenerate finds is rewritten afterwards.

    Args:
        plugin: what Alembic made for this package.
    """
