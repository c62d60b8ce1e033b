"""What the commands of `data_prep/` let you choose between."""

from enum import Enum


class Link(str, Enum):
    """How the images get into the new folder."""

    hard = "hard"
    symlink = "symlink"
    copy = "copy"


class Protocol(str, Enum):
    """Where the images come from by which the exits' thresholds are set."""

    own = "own"
    paper = "paper"
