"""A deploy of a small shop, from beginning to end, and back: what `make demo` plays.

The shop has 700,000 rows, and clients that read and write without a pause. Its models change from
release v1 to v2 (`models_v1.py`, `models_v2.py`). Every command is the plain `alembic`; all that
knows of alembic_safe is `env.py`. Read from top to bottom.

    python sample_env/deploy.py            # or: make demo
    python sample_env/deploy.py --quick    # with few rows
    python sample_env/deploy.py --keep DIR # and keep the revisions that it writes

The exit status is 0 if every promise was kept.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from diary import Diary
from rich.console import Console
from rich.syntax import Syntax
from shop import FIRST_REVISION, SAME, V1, V2, CommandFailed, Shop, Size

from alembic_safe.rehearsal.server import ScratchServer, ScratchServerError
from alembic_safe.rehearsal.two_releases import TwoReleases

CLIENTS = 2
"""Clients of each release."""

FULL = Size(users=100_000, products=1_000, orders=300_000, items=300_000)
QUICK = Size(users=2_000, products=100, orders=6_000, items=6_000)

HELD = "The contract revisions waited for the next release"
EACH_OTHER = "Each release read what the other wrote"
NO_ERROR = "No client query failed"
NO_ROW_LOST = "No row was lost or changed"
MODELS = "The models and the database are equal"
EVERY_COMMAND = "Every command succeeded"


@dataclass
class Story:
    """What the chapters have in common."""

    shop: Shop
    clients: TwoReleases
    diary: Diary
    console: Console
    size: Size
    together_seconds: float

    def chapter(self, title: str, text: str) -> None:
        """Print what comes next."""
        self.console.rule(f"[bold]{title}", align="left")
        self.console.print(text)

    def alembic(
        self, *arguments: str, release: str | None = None, models: str = "models_v2"
    ) -> list[str]:
        """Run an Alembic command as a step of the diary; return what it printed."""
        command = f"alembic {shlex.join(arguments)}"
        if release is not None:
            command = f"ALEMBIC_SAFE_RELEASE={release} {command}"
        self.console.print(f"[bold]$ {command}[/bold]")
        with self.diary.step(command):
            return self.shop.alembic(*arguments, release=release, models=models)

    def side_by_side(self) -> None:
        """Let both releases work on the same rows, and look whether each sees the other's."""
        with self.diary.step("v1 and v2 side by side"):
            time.sleep(self.together_seconds)
        with self.diary.step("each reads and changes the other's rows"):
            self.diary.promise(EACH_OTHER, self.clients.cross_check())


def open_the_shop(story: Story) -> list[tuple[object, ...]]:
    """The shop as it is today: release v1, in business for a while."""
    story.chapter("The shop", "The first revision, and what was sold so far.")
    story.shop.open()
    story.alembic("upgrade", "head", models="models_v1")
    size = story.size
    rows = size.users + size.products + size.orders + size.items
    with story.diary.step(f"{rows:,} rows are sold"):
        story.shop.fill(size)
    return story.shop.sold(size, name_column="full_name")


def write_the_revisions(story: Story) -> None:
    """A developer has changed the models to v2 and asks for the migration, as ever."""
    story.chapter(
        "The models change",
        "users.full_name is now display_name, orders.note is NOT NULL, orders.created_at has an "
        "index, orders.user_id a foreign key; and there is a new table, shipments.",
    )
    story.alembic("revision", "--autogenerate", "-m", "display name")
    files = story.shop.revision_files()
    story.console.print("This wrote, in the order in which they will run:")
    for file in files:
        story.console.print(f"  {file.relative_to(story.shop.folder)}", soft_wrap=True)
    story.console.print("One of them:")
    migrate = next(file for file in files if "_migrate_" in file.name)
    story.console.print(Syntax(migrate.read_text(), "python", background_color="default"))


def roll_out(story: Story, sold: list[tuple[object, ...]]) -> None:
    """Release r1 brings v2 of the code. The release after it, r2, tidies up."""
    clients, diary = story.clients, story.diary
    story.chapter(
        "Deploy r1: v1 is at work, v2 comes",
        "What both releases can live with is applied. What v1 still needs is not taken away.",
    )
    clients.start("old", CLIENTS)
    printed = story.alembic("upgrade", "head", release="r1")
    held = [line for line in printed if "Held: contract revision" in line]
    diary.promise(HELD, [] if held else ["`alembic upgrade` did not say that it held any back"])
    clients.start("new", CLIENTS)
    story.side_by_side()

    story.chapter(
        "Deploy r2: v1 is gone, v2 goes on",
        "Nobody needs the old schema any more: the contract revisions are due.",
    )
    clients.stop("old")
    story.alembic("upgrade", "head", release="r2")
    story.alembic("check")
    diary.promise(MODELS)
    diary.promise(NO_ROW_LOST, clients.check_rows("new"))
    diary.promise(
        NO_ROW_LOST, _changes(sold, story.shop.sold(story.size, name_column="display_name"))
    )


def roll_back(story: Story, sold: list[tuple[object, ...]]) -> None:
    """Release v2 was a mistake. The way back is as quiet, and keeps what v2 wrote."""
    clients, diary = story.clients, story.diary
    story.chapter(
        "Back: v2 is at work, v1 comes again",
        "The last revision of the history goes, and before it the contract revisions that complete "
        "it. Then both releases can work once more.",
    )
    story.alembic("downgrade", "-1")
    clients.start("old", CLIENTS)
    story.side_by_side()

    story.chapter("Back: v2 is gone, v1 goes on", "The rest of what v2 brought goes.")
    clients.stop("new")
    story.alembic("downgrade", FIRST_REVISION)
    diary.promise(MODELS, story.shop.differences(V1))
    # What v2 wrote to display_name has to be in full_name: read by v1.
    diary.promise(NO_ROW_LOST, clients.check_rows("old"))
    diary.promise(NO_ROW_LOST, _changes(sold, story.shop.sold(story.size, name_column="full_name")))

    story.chapter("Back: the shop closes", "v1 stops, and the first revision goes too.")
    clients.stop("old")
    story.alembic("downgrade", "base")
    left = story.shop.tables()
    diary.promise(MODELS, [f"`alembic downgrade base` left a table: {name}" for name in left])


def play(story: Story) -> None:
    """Play all chapters, as far as they succeed."""
    try:
        sold = open_the_shop(story)
        write_the_revisions(story)
        roll_out(story, sold)
        roll_back(story, sold)
        story.diary.promise(EVERY_COMMAND)
    except CommandFailed as failed:
        story.diary.promise(EVERY_COMMAND, [str(failed)])
    story.clients.stop()
    seen = story.clients.observations()
    story.diary.promise(NO_ERROR, [str(failure) for failure in seen.errors])
    story.diary.promise(NO_ROW_LOST, seen.differences)


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the story and print the diary; return the exit status."""
    options = _parse(arguments)
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    # What ends a program politely (`timeout` for one) ends this one as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ScratchServer() as server, _folder(options.keep) as folder:
            server.create_database("shop")
            shop = Shop(folder, server, tell=partial(_tell, console))
            with TwoReleases(V1, V2, shop.url, SAME) as clients:
                size, seconds = (QUICK, 0.5) if options.quick else (FULL, 4.0)
                story = Story(shop, clients, Diary(clients), console, size, seconds)
                play(story)
                story.diary.print(console)
                return 0 if story.diary.kept_all else 1
    except ScratchServerError as error:
        console.print(f"{error}", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("Stopped; the server and its data are gone.")
        return 130


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A deploy of a small shop, and the way back.")
    parser.add_argument("--quick", action="store_true", help="with few rows")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="play in this empty folder, and keep it"
    )
    return parser.parse_args(arguments)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="shop-") as folder:
            yield Path(folder)
        return
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        sys.exit(f"{keep} is not empty")
    yield keep


_EVERYDAY = ("Context impl", "Will assume", "setting up autogenerate plugin", "assuming SERIAL")
"""What Alembic says at every command."""


def _tell(console: Console, line: str) -> None:
    if not any(part in line for part in _EVERYDAY):
        style = "yellow" if "Held:" in line else "dim"
        console.print(f"  {line}", style=style, markup=False, soft_wrap=True)


def _changes(before: Sequence[object], after: Sequence[object]) -> list[str]:
    return [
        f"The rows that were sold at first: {one}, and now {other}"
        for one, other in zip(before, after, strict=True)
        if one != other
    ]


if __name__ == "__main__":
    sys.exit(main())
