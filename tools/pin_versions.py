"""Write constraints.txt: the exact version of everything this project has installed.

Run it with the Python of a virtual environment in which `pip install -e ".[book,dev]"`
has been done. It follows the requirements of the package from there, so that tools which
only happen to be installed are not pinned.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
# torch pins the CUDA libraries it was built with, and only on the systems that have them.
PINNED_BY_TORCH = ("nvidia-", "cuda-", "triton")
SUPPORTED_PYTHONS = ("3.10", "3.11", "3.12", "3.13")
HEADER = """\
# Exact versions with which the book and the tests are known to work.
# `make` and environment.yml both read this file, so there is nothing else to keep in step.
# To refresh it: delete .venv, `python3 -m venv .venv`,
# `.venv/bin/pip install -e ".[book,dev]"`, `.venv/bin/python tools/pin_versions.py`,
# then `make test` and `make book`.
"""


def requirements_of(name: str, extras: set[str]) -> list[Requirement]:
    """List what an installed distribution requires here, with some of its extras."""
    found = []
    for line in distribution(name).requires or []:
        requirement = Requirement(line)
        wanted = [{"extra": extra} for extra in ("", *sorted(extras))]
        if requirement.marker is None or any(requirement.marker.evaluate(env) for env in wanted):
            found.append(requirement)
    return found


def closure(name: str, extras: set[str]) -> set[str]:
    """Collect the names of all installed distributions that `name` needs, itself left out."""
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [(name, frozenset(extras))]
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        for requirement in requirements_of(current[0], set(current[1])):
            todo.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return {found for found, _ in seen} - {name}


def pin(name: str) -> str:
    """Write one line of constraints; a release that needs a newer Python applies only there."""
    package = distribution(name)
    needs = SpecifierSet(package.metadata.get("Requires-Python") or "")
    oldest = next(python for python in SUPPORTED_PYTHONS if needs.contains(f"{python}.99"))
    marker = "" if oldest == SUPPORTED_PYTHONS[0] else f' ; python_version >= "{oldest}"'
    return f"{package.metadata['Name']}=={package.version}{marker}"


def main() -> None:
    """Write constraints.txt next to pyproject.toml."""
    try:
        names = closure("earlyexit", {"book", "dev"})
    except PackageNotFoundError as error:
        raise SystemExit(f'{error.name} is not installed: run `pip install -e ".[book,dev]"` first') from None
    names = {name for name in names if not name.startswith(PINNED_BY_TORCH)}
    lines = sorted((pin(name) for name in names), key=str.lower)
    (ROOT / "constraints.txt").write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"constraints.txt: {len(lines)} versions pinned")


if __name__ == "__main__":
    main()
