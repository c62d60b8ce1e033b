"""How every command says no: one line, exit code 2, and before it has worked for hours."""

import itertools
import sys
from pathlib import Path

import typer

# Every kind of wrong usage: options that are unknown or missing, values that are none. Typer does not export the class.
UsageError = typer.BadParameter.__base__


def run_app(app: typer.Typer, errors: tuple[type[Exception], ...] = (), prefix: str = "") -> None:
    """Run a command and leave Python with its exit code; wrong usage ends in one line and exit code 2.

    Args:
        app: the commands.
        errors: kinds of exceptions whose message is such a line, too.
        prefix: what the line begins with.
    """
    try:
        code = app(standalone_mode=False) or 0  # otherwise Typer draws a box of many lines around what is wrong
    except UsageError as error:
        if len(sys.argv) == 1:  # not wrong, but a question
            error.show()
        else:
            typer.echo(f"{prefix}{' '.join(error.format_message().split())}{_given(error)} (see --help)", err=True)
        code = 2
    except typer.Abort:
        code = 130
    except errors as error:
        typer.echo(f"{prefix}{error}", err=True)
        code = 2
    if code == 130:  # what a shell gives for Ctrl-C
        typer.echo(f"{prefix}stopped", err=True)
    raise SystemExit(code)


def check_file(option: str, path: Path | None, suffix: str = "") -> None:
    """`ValueError` unless `path`, if there is one, can become a file: its folder is there, and it is no folder."""
    if path is None:
        return
    if path.is_dir() or not path.name.lower().endswith(suffix):
        raise ValueError(f"{option} must be a{f' {suffix}' if suffix else ''} file, got {str(path)!r}")
    if not path.parent.is_dir():
        raise ValueError(f"{option} {path}: there is no folder {str(path.parent)!r}")


def _given(error: Exception) -> str:
    """The value of the option that is wrong, as it stands on the command line."""
    names = getattr(getattr(error, "param", None), "opts", ())
    values = [value for name, value in itertools.pairwise(sys.argv) if name in names]
    return f", got {values[-1]!r}" if values else ""
