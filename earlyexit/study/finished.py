"""A finished study for its readers: the tables, verdicts and story that `earlyexit study` wrote."""

import importlib.metadata
import json
import textwrap
from functools import cached_property
from pathlib import Path

import torch

from .files import read_table

WIDTH = 76  # of what is printed
ROOT = Path(__file__).resolve().parents[2]
TABLES = (
    "sweep",
    "random",
    "forced_exits",
    "accuracy",
    "shares",
    "theta",
    "fillers",
    "difficulty",
    "compute",
    "latency",
)
BEYOND = (  # see `earlyexit beyond`
    "beyond_exits",
    "beyond_budgets",
    "beyond_rules",
    "beyond_empty",
    "beyond_times",
    "beyond_clock",
    "beyond_fresh",
)


class Study:
    """What a study found.

    Args:
        folder: where it lies.

    Raises:
        ValueError: if no finished study lies there.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not (self.folder / "manifest.json").is_file():
            raise ValueError(f"{str(folder)!r} holds no finished study: `earlyexit study --out {folder}` makes one")

    def table(self, name: str) -> list[dict]:
        """The rows of one of `TABLES` or `BEYOND`, numbers as numbers."""
        if name not in (*TABLES, *BEYOND):
            raise ValueError(f"the tables of a study are {', '.join((*TABLES, *BEYOND))}, got {name!r}")
        return read_table(self.folder / f"{name}.csv")

    @cached_property
    def summary(self) -> dict:
        """The verdicts, see `summarise`."""
        return json.loads((self.folder / "study_summary.json").read_text(encoding="utf-8"))

    @cached_property
    def manifest(self) -> dict:
        """How the results came about, see `write_manifest`."""
        return json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))

    def claim(self, name: str) -> dict:
        """The verdict on one claim by its name."""
        found = {row["name"]: row for row in self.summary["claims"]}
        if name not in found:
            raise ValueError(f"the claims are {', '.join(found)}, got {name!r}")
        return found[name]

    def verdict(self, *names: str) -> str:
        """Some of the claims as text: what the paper says, its figures, ours, and whether it holds here."""
        return "\n\n".join(_in_words(self.claim(name)) for name in names)

    def __str__(self) -> str:
        m = self.manifest
        hours = sum(m["seconds"].values()) / 3600
        images = ", ".join(f"{m['data'][split]['images']:,} {split}" for split in ("train", "calibration", "test"))
        lines = [
            f"{len(m['models'])} models, seeds {', '.join(map(str, m['seeds']))}; images: {images}",
            m["command"],
            f"{m['date']}, commit {m['commit']}, {m['machine']}, {hours:.1f} process hours",
        ]
        return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="    ", break_on_hyphens=False) for line in lines)


def _in_words(claim: dict) -> str:
    paper = claim["paper"]
    if isinstance(paper, dict):
        paper = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in paper.items())
    lines = [
        f"{claim['claim']} ({claim['where']})",
        f"published: {paper}",
        f"here: {interval_text(claim)}; holds: {claim['holds']}",
        claim.get("detail") or "",
    ]
    wrapped = [
        textwrap.fill(line, WIDTH, initial_indent="  " * (line != lines[0]), subsequent_indent="  ") for line in lines
    ]
    return "\n".join(line for line in wrapped if line)


def interval_text(claim: dict) -> str:
    """What was measured on a claim: "+1.20 points of mAP (+0.40 to +2.00)"."""
    ours = claim["ours"]
    if None in ours.values():
        return "not to be measured"
    return f"{ours['mean']:+.2f} {claim['unit']} ({ours['low']:+.2f} to {ours['high']:+.2f})"


def open_study(data: str = "scenes", *, beyond: bool = False) -> Study:
    """The study of this repository on one kind of data: from the checkout or, where there is none, fetched once.

    Without a checkout, as on Colab, the files come from the repository's main branch and are kept in torch's cache;
    with `beyond`, those of `earlyexit beyond`, too.

    Raises:
        ValueError: if there is no such study.
        OSError: if it cannot be fetched.
    """
    folder = ROOT / "results" / data
    if (ROOT / "pyproject.toml").is_file() and ROOT.joinpath("book").is_dir():
        return Study(folder)
    kept = Path(torch.hub.get_dir()) / "earlyexit" / "results" / data
    kept.mkdir(parents=True, exist_ok=True)
    names = [*(f"{table}.csv" for table in TABLES), "study_summary.json", "manifest.json"]
    names += [*(f"{table}.csv" for table in BEYOND), "beyond_summary.json"] if beyond else []
    for name in names:
        if not (kept / name).is_file():
            torch.hub.download_url_to_file(f"{_raw_address()}/results/{data}/{name}", str(kept / name), progress=False)
    return Study(kept)


def _raw_address() -> str:
    """Where GitHub serves the repository's files, from the address in pyproject.toml."""
    addresses = importlib.metadata.metadata("earlyexit").get_all("Project-URL") or []
    repository = dict(entry.split(", ", 1) for entry in addresses)["Repository"]
    return repository.replace("https://github.com/", "https://raw.githubusercontent.com/") + "/main"
