"""Keep the repository's address the same in every file; pyproject.toml decides.

set_repository.py                                  copy the address of pyproject.toml to the other files
set_repository.py https://github.com/owner/name    change it everywhere
set_repository.py --check                          only compare; exit status 1 if a file disagrees
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Where an address is ours, by file. The group is the "owner/name" that gets replaced.
# Links to the repositories of other people do not match, except in `git+` and Colab links,
# which the course uses for itself only.
SLUG = r"([\w.-]+/[\w-]+)"
INSTALL = rf"git\+https://github\.com/{SLUG}"
COLAB = rf"colab\.research\.google\.com/github/{SLUG}"
RAW = rf"raw\.githubusercontent\.com/{SLUG}"
FILE = rf"https://github\.com/{SLUG}/blob/main/earlyexit/"
CLONE = rf"git clone https://github\.com/{SLUG}"
PATTERNS = {
    "pyproject.toml": [rf'(?m)^Repository = "https://github\.com/{SLUG}"'],
    "_config.yml": [rf"(?m)^  url: https://github\.com/{SLUG}", rf"raw\.githubusercontent\.com/{SLUG}"],
    "CITATION.cff": [rf'(?m)^repository-code: "https://github\.com/{SLUG}"'],
    "README.md": [INSTALL, COLAB, CLONE],
    "CONTRIBUTING.md": [INSTALL, COLAB, CLONE],
    "book/*.ipynb": [INSTALL, COLAB, CLONE, FILE],
    "book/*.md": [INSTALL, COLAB, CLONE, RAW],
    "book/*/*.ipynb": [INSTALL, COLAB, CLONE],
    "book/homework/*/*.ipynb": [INSTALL, COLAB, CLONE],
    "earlyexit/homework/release/*.ipynb": [INSTALL, COLAB, CLONE],
}
# These files have to name the address; a chapter need not.
REQUIRED = ("pyproject.toml", "_config.yml", "CITATION.cff", "README.md")


def find_addresses(text: str, patterns: list[str]) -> list[str]:
    """List each "owner/name" of this repository that a file mentions."""
    return [match[1] for pattern in patterns for match in re.finditer(pattern, text)]


def replace_addresses(text: str, patterns: list[str], slug: str) -> str:
    """Write another "owner/name" wherever a file mentions this repository."""
    for pattern in patterns:
        text = re.sub(pattern, lambda match: match[0].replace(match[1], slug), text)
    return text


def parse_url(url: str) -> str:
    """Take "owner/name" from an address, or stop with a message that shows the address."""
    match = re.fullmatch(rf"https://github\.com/{SLUG}", url.removesuffix("/").removesuffix(".git"))
    if match is None:
        raise ValueError(f"{url!r} is not of the form https://github.com/owner/name (Colab opens only those)")
    return match[1]


def source_address(root: Path) -> str:
    """Read "owner/name" from pyproject.toml."""
    found = find_addresses((root / "pyproject.toml").read_text(encoding="utf-8"), PATTERNS["pyproject.toml"])
    if len(found) != 1:
        raise ValueError(f"pyproject.toml has {len(found)} lines 'Repository = ...'; one is needed")
    return found[0]


def check(root: Path) -> list[str]:
    """List every disagreement with pyproject.toml, one line each."""
    slug = source_address(root)
    problems = []
    for glob, patterns in PATTERNS.items():
        for path in sorted(root.glob(glob)):
            found = find_addresses(path.read_text(encoding="utf-8"), patterns)
            name = path.relative_to(root)
            problems += [f"{name}: has {other}, pyproject.toml has {slug}" for other in found if other != slug]
            if not found and str(name) in REQUIRED:
                problems.append(f"{name}: does not name the repository {slug}")
    return problems


def write(root: Path, slug: str) -> list[Path]:
    """Put the address into every file; return the files that changed."""
    changed = []
    for glob, patterns in PATTERNS.items():
        for path in sorted(root.glob(glob)):
            old = path.read_text(encoding="utf-8")
            new = replace_addresses(old, patterns, slug)
            if new != old:
                path.write_text(new, encoding="utf-8")
                changed.append(path)
    return changed


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(description="Keep the repository's address the same everywhere.")
    parser.add_argument("url", nargs="?", help="new address, https://github.com/owner/name")
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            problems = check(root)
            print("\n".join(problems) or "the repository's address agrees in all files")
            return 1 if problems else 0
        slug = parse_url(options.url) if options.url else source_address(root)
        changed = write(root, slug)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for path in changed:
        print(f"wrote {path.relative_to(root)}")
    print(f"the repository is https://github.com/{slug}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
