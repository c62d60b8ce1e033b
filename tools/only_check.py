"""The one option of tools that write files: `--check` compares instead. Anything else is refused, not passed over."""

from __future__ import annotations

import argparse


def only_check(about: str | None) -> bool:
    """Whether the command line says `--check`; `--help` prints what the tool says of itself."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if something differs")
    return parser.parse_args().check
