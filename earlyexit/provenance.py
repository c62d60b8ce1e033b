"""When, from which commit, with what and on what machine a result was made."""

import datetime
import platform
import subprocess
from pathlib import Path

import torch
import torchvision

from . import __version__


def provenance() -> dict[str, str]:
    """Date, commit, versions and machine, for cards and result files."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    libraries = {"earlyexit": __version__, "torch": torch.__version__, "torchvision": torchvision.__version__}
    machine = f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads"
    return {"date": datetime.date.today().isoformat(), "commit": commit, "versions": libraries, "machine": machine}
