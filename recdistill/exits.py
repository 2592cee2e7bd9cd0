"""How commands and scripts end: what is the user's to mend is printed without a traceback.

Exit codes: 0 done, 1 a fault of ours, 2 a mistake in the input, 130 interrupted.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from recdistill.errors import UserError

_REMEDY = "look at that path: does it exist, may it be read and written, is there space; or give another --out"


@contextmanager
def exit_codes() -> Iterator[None]:
    """Around a command's whole work, or as a decorator of its ``main``: ``@exit_codes()``.

    Raises:
        SystemExit: 2 after a :class:`recdistill.errors.UserError` or a refusal of the system's, whose message and
            remedy are printed to standard error; 130 after Ctrl-C.
    """
    console = Console(stderr=True, highlight=False)
    try:
        yield
    except UserError as error:
        console.print(f"error: {error}", markup=False, soft_wrap=True)
        raise SystemExit(2) from None
    except OSError as error:
        # The system's own refusals (no permission, no space, a file for a folder) name their file. Without a number it
        # is a library's error of that type, and a closed pipe is nobody's mistake.
        if error.errno in (None, errno.EPIPE):
            raise
        console.print(f"error: {error}\n  remedy: {_REMEDY}", markup=False, soft_wrap=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        console.print("interrupted; a run that is started again goes on from here")
        raise SystemExit(130) from None
