"""Errors that are the user's to mend: the command line prints them without a traceback and exits 2."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in the input, the recipe or the environment.

    Args:
        message: what is wrong, naming file, row and column where they are known.
        remedy: what to do about it.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.message = message
        self.remedy = remedy
        super().__init__(f"{message}\n  remedy: {remedy}" if remedy else message)


class Diverged(UserError):
    """Training produced a loss or gradient that is not finite."""
