"""The one error a user is meant to see. Every floor of the house may raise it; only the command line catches it."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend: the message is one line that names the file, key or value and says what to do.

    The command line prints it without a traceback and exits with 2.
    """


class Stopped(UserError):  # noqa: N818 - nothing went wrong
    """A run ended because it was told to, and can be continued; the command line exits with 143, as SIGTERM would."""
