"""Progress on a terminal as bars, elsewhere as plain lines at most every ten seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_PLAIN_EVERY_SECONDS = 10.0


@contextmanager
def track(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show progress on stderr.

    Args:
        description: what is being done, e.g. ``"teach · id teacher"``.
        total: number of units.

    Yields:
        ``advance(n)``: say that ``n`` more units are done.
    """
    if sys.stderr.isatty():
        from rich.console import Console

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(description, total=total)

            def advance_bar(n: int = 1) -> None:
                bars.advance(task, n)

            yield advance_bar
        return
    done, said, started = 0, time.monotonic(), time.monotonic()

    def advance(n: int = 1) -> None:
        nonlocal done, said
        done += n
        now = time.monotonic()
        if now - said >= _PLAIN_EVERY_SECONDS:
            said = now
            print(f"{description}: {done}/{total} ({now - started:.0f} s)", file=sys.stderr, flush=True)

    yield advance
