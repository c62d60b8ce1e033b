"""Use what would be published as a stranger would: far from the checkout, in a fresh environment.

release_check.py built     sdist and wheel hold what they should; the wheel works with the versions of constraints.txt,
                           and so does its folder alone, as in a zip for homework
release_check.py lowest    the wheel works with the lowest versions that pyproject.toml declares, and so do the tests
release_check.py newest    the same with the newest versions that there are

"Works" is: the five lines of the README, --help of every command and one `earlyexit detect`. With --tests PATH, other
tests than all; with --python PATH, another Python than the usual one of the check. Needs uv beside this Python.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = Path(sys.executable).with_name("uv")
# The Python on which a check is meant to run; another one is taken where it is not there, and that is said.
PYTHONS = {"built": "3.11", "lowest": "3.10", "newest": "3.13"}
# Old releases of torch fill gigabytes and are on no machine, so `lowest` keeps these two as constraints.txt has them.
KEPT = ("torch", "torchvision")
MAIN = ("torch", "numpy", "typer", "click", "pillow", "accelerate", "onnx")  # whose versions are printed
# In one process, because each start of torch takes seconds.
HELP_OF_ALL = """
import typer, typer.testing
from earlyexit.cli import app
for name in typer.main.get_command(app).commands:
    answer = typer.testing.CliRunner().invoke(app, [name, "--help"])
    assert answer.exit_code == 0 and "Usage" in answer.output, (name, answer.output)
    print(name)
"""
# Nothing of the checkout, of a user's folder or of a parent's environment reaches the environments that are made here.
CLEAN = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command and give what it printed; where it fails, stop with its output."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=CLEAN | environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"failed: {' '.join(words)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout


def say(text: str) -> None:
    """Print a line at once: the next step may take minutes."""
    print(text, flush=True)


def files_of(folder: str) -> set[str]:
    """The files of a folder that a release has to hold: all that git does not ignore."""
    names = run("git", "ls-files", "--cached", "--others", "--exclude-standard", folder, cwd=ROOT).splitlines()
    return {name for name in names if (ROOT / name).is_file()}


def build(out: Path) -> tuple[Path, Path]:
    """Build the source archive and, from that, the wheel."""
    run(UV, "build", "--quiet", "--out-dir", out, cwd=ROOT)
    (archive,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return archive, wheel


def check_contents(archive: Path, wheel: Path) -> None:
    """Both hold the whole package, the wheel nothing else, and the archive no tests that could not run."""
    package = files_of("earlyexit")
    with zipfile.ZipFile(wheel) as file:
        in_wheel = {name for name in file.namelist() if ".dist-info/" not in name}
    with tarfile.open(archive) as file:
        in_archive = {name.partition("/")[2] for name in file.getnames() if not file.getmember(name).isdir()}
    needed = {name for name in package if not name.endswith(".md")}
    problems = [f"{name}: not in the wheel" for name in sorted(needed - in_wheel)]
    problems += [f"{name}: in the wheel, but no file of the package" for name in sorted(in_wheel - package)]
    problems += [f"{name}: not in the source archive" for name in sorted(needed - in_archive)]
    problems += [f"{name}: tests are left out" for name in sorted(in_archive) if name.startswith("tests/")]
    if problems:
        raise SystemExit("\n".join(problems))
    say(f"{archive.name} and {wheel.name}: {len(needed)} files of the package in both")


def find_python(version: str) -> str:
    """A Python of that version; where there is none, the one that runs this check, and a line that says so."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for path in (shutil.which(f"python{version}"), *sorted(pyenv.glob(f"versions/{version}.*/bin/python"))):
        # What is on the PATH may be a stand-in that only says that this version is not chosen.
        if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            return str(path)
    here = ".".join(map(str, sys.version_info[:2]))
    say(f"note: there is no Python {version} on this machine; Python {here} takes its place")
    return sys.executable


def make_environment(folder: Path, python: str) -> Path:
    """A fresh environment; give its Python."""
    run(UV, "venv", "--quiet", "--python", python, folder, cwd=folder.parent)
    return folder / "bin" / "python"


def install(python: Path, *arguments: str | Path) -> None:
    """Install into an environment by what `uv pip install` takes."""
    run(UV, "pip", "install", "--quiet", "--python", python, *arguments, cwd=python.parent)


def lowest_versions(python: Path, folder: Path) -> Path:
    """The lowest declared versions of what the package and its tests need, as a file of requirements."""
    overrides, out = folder / "kept.txt", folder / "lowest.txt"
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    overrides.write_text("\n".join(pin for pin in pins if pin.partition("==")[0] in KEPT))
    what = ["--extra", "dev", "--resolution", "lowest-direct", "--override", overrides, "--python", python]
    run(UV, "pip", "compile", "--quiet", ROOT / "pyproject.toml", *what, "--output-file", out, cwd=folder)
    return out


def five_lines() -> str:
    """The code of the README."""
    return re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)[1]


def use(python: Path, away: Path, **environment: str) -> None:
    """The README's five lines, --help of every command, and one photo through `detect`; `away` is any other folder."""
    code = five_lines() + "\nprint(earlyexit.__version__, earlyexit.__file__, sorted(detections[0]))"
    found = run(python, "-c", code, cwd=away, **environment)
    if str(ROOT) in found or "'exit'" not in found:
        raise SystemExit(f"the README's lines used the checkout or found no exit: {found}")
    names = run(python, "-c", HELP_OF_ALL, cwd=away, **environment).split()
    run(python, "-c", "from PIL import Image; Image.new('RGB', (160, 120), 'tan').save('photo.png')", cwd=away)
    said = run(python, "-m", "earlyexit", "detect", "photo.png", cwd=away, **environment)
    if "photo.png: exit " not in said:
        raise SystemExit(f"`earlyexit detect` says of no exit: {said}")
    say(f"  {', '.join(names)}: all answer; {said.splitlines()[-1]}")


def check_built(python: str, folder: Path) -> None:
    """What is built, installed with the exact versions, and then its folder alone."""
    archive, wheel = build(folder / "dist")
    check_contents(archive, wheel)
    inside = make_environment(folder / "built", python)
    install(inside, wheel, "--constraint", ROOT / "constraints.txt")
    say("the wheel with the versions of constraints.txt:")
    run(inside.with_name("earlyexit"), "--help", cwd=folder)
    use(inside, folder)
    run(UV, "pip", "uninstall", "--quiet", "--python", inside, "earlyexit-detection", cwd=folder)
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "alone", [name for name in file.namelist() if name.startswith("earlyexit/")])
    say("its folder on PYTHONPATH, not installed:")
    use(inside, folder, PYTHONPATH=str(folder / "alone"))


def check_versions(kind: str, python: str, folder: Path, tests: list[str]) -> None:
    """The wheel with the lowest or the newest versions, and the tests with them."""
    _, wheel = build(folder / "dist")
    inside = make_environment(folder / kind, python)
    if kind == "lowest":
        install(inside, "--no-deps", wheel, "--requirements", lowest_versions(inside, folder))
    else:
        install(inside, f"earlyexit-detection[dev] @ {wheel.as_uri()}")
    shown = run(UV, "pip", "freeze", "--python", inside, cwd=folder).splitlines()
    say(f"the wheel with the {kind} versions: {' '.join(line for line in shown if line.startswith(MAIN))}")
    use(inside, folder)
    # From the checkout: the tests need all of it. What is tried here are the versions; the wheel was used above.
    pytest = ["-m", "pytest", "-q", "--disable-warnings", "-p", "no:cacheprovider", "-n", "auto", "--dist", "loadfile"]
    if subprocess.run([inside, *pytest, *tests], cwd=ROOT, env=CLEAN | {"OMP_NUM_THREADS": "1"}).returncode:
        raise SystemExit(f"tests fail with the {kind} versions")


def main() -> int:
    """Run one check; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=PYTHONS)
    parser.add_argument("--python", help="version or path of the Python")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="tests for lowest and newest")
    options = parser.parse_args()
    if not UV.exists():
        raise SystemExit(f"{UV} is not there: `make release-check` installs it")
    python = options.python or find_python(PYTHONS[options.kind])
    with tempfile.TemporaryDirectory() as folder:
        if options.kind == "built":
            check_built(python, Path(folder).resolve())
        else:
            check_versions(options.kind, python, Path(folder).resolve(), options.tests)
    say(f"{options.kind}: fine")
    return 0


if __name__ == "__main__":
    sys.exit(main())
