"""The one error a user is meant to see. Every floor of the house may raise it; only the command line catches it."""


class UserError(Exception):
    """Something the user can mend: the message is one line that names the file, key or value and says what to do.

    The command line prints it without a traceback and exits with 2.
    """
