"""The command line, built from `commands/`: one file a command, each one typed function.

Exit codes: 0 done; 2 the user's mistake, said in one line on standard error; 1 anything else.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from cyclopts import App, CycloptsError, Group, Parameter

from distreid import __version__
from distreid.common.errors import Stopped, UserError
from distreid.common.terminal import log_to_terminal

# In the order of `distreid --help`.
COMMANDS = {
    "Run": ("demo", "train", "sweep", "table", "translate"),
    "Data": ("synth", "pack", "info"),
    "Labels and features": ("label", "embed", "export"),
    "Look": ("evaluate", "score", "query", "report", "status", "runs"),
    "Machine": ("doctor", "gpu-check", "bench", "plan", "schema"),
}


def make_app() -> App:
    """The application with all commands; their modules import nothing heavy until they are called."""
    app = App(
        name="distreid",
        help="Adapt person re-identification models to an unlabelled camera network.",
        version=f"distreid {__version__}",
        default_parameter=Parameter(negative=(), show_default=_shown),
        help_on_error=False,
        suppress_keyboard_interrupt=False,  # main has a line for it
    )
    also = Group("Also", sort_key=len(COMMANDS))
    app["--help"].group = app["--version"].group = also
    for number, (title, names) in enumerate(COMMANDS.items()):
        group = Group(title, sort_key=number)
        for name in names:
            python_name = name.replace("-", "_")
            module = import_module(f"distreid.commands.{python_name}")
            app.command(getattr(module, python_name), name=name, group=group, sort_key=names.index(name))
    app.register_install_completion_command(group=also)
    return app


def _shown(default: Any) -> str | None:
    """A default in the help; a switch that is off, and an option whose text says what it is when empty, need no word."""
    if isinstance(default, tuple):
        return " ".join(map(str, default)) or None
    return None if default is None or default is False else str(default)


def main(arguments: list[str] | None = None) -> None:
    """Run one command; ends the process with its exit code unless all went well."""
    log_to_terminal()
    try:
        tokens = sys.argv[1:] if arguments is None else arguments
        make_app()(tokens, exit_on_error=False, print_error=False, result_action="return_none")
    except CycloptsError as error:
        sys.exit(_complain(f"{' '.join(str(error).split())} {_hint(error)}", 2))
    except UserError as error:
        sys.exit(_complain(str(error), 143 if isinstance(error, Stopped) else 2))
    except KeyboardInterrupt:
        sys.exit(_complain("interrupted; a run that was under way continues with --resume", 1))
    except BrokenPipeError:
        sys.exit(1)


def _hint(error: CycloptsError) -> str:
    """Where to read on: the help of the command that was meant."""
    return f"See: {' '.join(('distreid', *(error.command_chain or ()), '--help'))}"


def _complain(message: str, code: int) -> int:
    print(f"\ndistreid: {message}" if sys.stderr.isatty() else f"distreid: {message}", file=sys.stderr, flush=True)
    return code
