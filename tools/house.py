"""Measure how the package is built: python tools/house.py [folder of the package].

Prints a table of its files and lines, the names in its root, and what imports what. `tests/test_structure.py` holds the
package to it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "earlyexit"
# Rooms by storey: a room imports from the storeys below alone. Its own files are free to import each other.
STOREYS = (
    ("files", "losses", "processes"),
    ("weights",),
    ("data", "model"),
    ("evaluation",),
    ("training",),
    ("study",),
    ("checks",),
    ("homework",),
    ("cli", "course"),
)
DOORS = ("__init__", "__main__")  # of the root: whatever they import, nothing is built on them
DETECTOR = "EarlyExitRetinaNet"


def modules(package: Path) -> dict[str, Path]:
    """The files of a package by the name of their module: "" for the package itself, "model.exits", ..."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(package: Path) -> dict[str, set[str]]:
    """For each module the modules of the package that it imports, inside functions too.

    A name that is imported through a lazy door counts as an import of the door and of the module behind it.
    """
    files = modules(package)
    behind = {name: _behind(ast.parse(path.read_text())) for name, path in files.items() if path.stem == "__init__"}
    graph = {}
    for name, path in files.items():
        found = graph[name] = set()
        for source, names in _imported(ast.parse(path.read_text()), name, path, package.name):
            for part in names:
                deeper = _join(source, part)
                target = deeper if deeper in files else source
                if target in files and target != name:
                    found.add(target)
                if target == source and part in behind.get(source, {}):
                    found.add(_join(source, behind[source][part]))
    return graph


def _join(*parts: str) -> str:
    return ".".join(filter(None, parts))


def _imported(tree: ast.Module, name: str, path: Path, package: str) -> list[tuple[str, list[str]]]:
    """What is imported from the package itself: a module, and names in it."""
    found, here = [], name.split(".") if name else []
    room = here if path.stem == "__init__" else here[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = room[: len(room) - node.level + 1]
            found.append((_join(*base, node.module or ""), [alias.name for alias in node.names]))
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == package:
            found.append((_join(*node.module.split(".")[1:]), [alias.name for alias in node.names]))
        elif isinstance(node, ast.Import):
            named = [alias.name.split(".") for alias in node.names]
            found += [(_join(*parts[1:]), [""]) for parts in named if parts[0] == package]
    return found


def _behind(tree: ast.Module) -> dict[str, str]:
    """The names that a lazy door offers, with the module that holds each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "submod_attrs":
            return {name: module for module, names in ast.literal_eval(node.value).items() for name in names}
    return {}


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules each of which imports, directly or not, all others of its group."""
    reached = {name: _reached(graph, name) for name in graph}
    groups = [{other for other in reached[name] if name in reached[other]} for name in graph if name in reached[name]]
    return [group for i, group in enumerate(groups) if group not in groups[:i]]


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    found, waiting = set(), [start]
    while waiting:
        new = graph.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def between_rooms(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same graph for rooms: the files and folders of the root, its doors left out."""
    rooms: dict[str, set[str]] = {}
    for name, targets in graph.items():
        room = name.partition(".")[0]
        if room and room not in DOORS:
            rooms.setdefault(room, set()).update(target.partition(".")[0] for target in targets)
    return {room: targets - {room, ""} for room, targets in rooms.items()}


def wrong_arrows(graph: dict[str, set[str]], storeys: tuple[tuple[str, ...], ...] = STOREYS) -> list[str]:
    """Imports from the same storey or one above, and rooms that stand on no storey."""
    height = {room: i for i, storey in enumerate(storeys) for room in storey}
    rooms = between_rooms(graph)
    lost = [f"{room} stands on no storey" for room in rooms if room not in height]
    return lost + [
        f"{name} imports {target}"
        for name, targets in graph.items()
        for target in sorted(targets)
        if (room := name.partition(".")[0]) != (other := target.partition(".")[0])
        and height.get(room, -1) <= height.get(other, -1)
        and room in height
    ]


def root_names(package: Path) -> list[str]:
    """Files and folders of code in the root, its doors left out."""
    files = {path.stem for path in package.glob("*.py")} - set(DOORS)
    return sorted(files | {path.name for path in package.iterdir() if path.is_dir() and any(path.rglob("*.py"))})


def count(package: Path, without: tuple[str, ...] = ()) -> tuple[int, int]:
    """Python files and their lines, without those under some folders."""
    left_out = [package / name for name in without]
    files = [path for path in package.rglob("*.py") if not any(folder in path.parents for folder in left_out)]
    return len(files), sum(len(path.read_text().splitlines()) for path in files)


def files_with(package: Path, word: str) -> list[Path]:
    """Python files in which a word stands."""
    return [path for path in sorted(package.rglob("*.py")) if re.search(rf"\b{word}\b", path.read_text())]


def constructor(package: Path, name: str) -> list[str]:
    """Parameters of a class's constructor, `self` left out, with ** if it takes any others; [] without one."""
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and node.name == name:
                inits = [f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"]
                return [_parameters(init.args) for init in inits][0] if inits else []
    return []


def _parameters(arguments: ast.arguments) -> list[str]:
    named = [arg.arg for arg in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)][1:]
    return named + ([f"**{arguments.kwarg.arg}"] if arguments.kwarg else [])


def long_functions(package: Path, most: int = 40) -> list[str]:
    """Functions whose body, without its docstring, has more than `most` lines."""
    found = []
    for name, path in modules(package).items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                start = node.body[ast.get_docstring(node) is not None :] or node.body
                if node.end_lineno - start[0].lineno + 1 > most:
                    found.append(_join(name, node.name))
    return found


def same_names(package: Path) -> dict[str, set[str]]:
    """Public functions, classes and constants of one name that several files define.

    Those of the command line, which are named as they are typed, aside, and the `main` and `run` of files that run.
    """
    found: dict[str, set[str]] = {}
    for module, path in modules(package).items():
        for node in ast.parse(path.read_text()).body if module != "cli" else ():
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            parts = [part for target in filter(None, targets) for part in ast.walk(target)]  # of a, b = 1, 2, too
            names = {part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
            names |= {node.name} if isinstance(node, ast.FunctionDef | ast.ClassDef) else set()
            for name in names - {"main", "run"}:
                if not name.startswith("_"):
                    found.setdefault(name, set()).add(module)
    return {name: where for name, where in found.items() if len(where) > 1}


def passed(package: Path, run: Callable[[], object]) -> list[str]:
    """The modules of the package whose functions run during a call."""
    seen = set()
    sys.setprofile(lambda frame, *_: seen.add(frame.f_code.co_filename))
    try:
        run()
    finally:
        sys.setprofile(None)
    return [name for name, path in modules(package).items() if str(path) in seen and path.stem != "__init__"]


def ways_of_an_image() -> dict[str, list[str]]:
    """The files of `earlyexit` that an image passes from the disk to its loss, and from the disk to its detections."""
    import torch

    from earlyexit.data import open_photo, scene_dataset
    from earlyexit.data.coco import make_loader, train_transforms
    from earlyexit.losses import JointLoss
    from earlyexit.model import dyn_retinanet_nano

    data = scene_dataset("train", 8, transforms=train_transforms(min_size=128, max_size=128))
    model = dyn_retinanet_nano(loss=JointLoss(exits=(1, 4)))
    path, limits = str(data.photo(data.ids[0])), (0.5, 0.5, 0.5)

    def find() -> None:
        with torch.inference_mode():
            pixels = torch.frombuffer(bytearray(open_photo(path).image.tobytes()), dtype=torch.uint8)
            model.eval()([pixels.view(128, 128, 3).permute(2, 0, 1) / 255], thresholds=limits)

    find()  # what is imported late, or made once, is no way of an image
    found = {"an image at inference": passed(PACKAGE, find)}
    model.train()
    return {"a training image": passed(PACKAGE, lambda: model(*next(iter(make_loader(data, 4))))), **found}


def table(package: Path) -> str:
    """The measurements as a table in Markdown, beside what they are to stay below."""
    graph = imports(package)
    files, lines = count(package)
    option = len(files_with(package, "save_every"))
    core_files, core_lines = count(package, ("study", "beyond", "data/scenes"))
    rows = [
        ("Python files", files, 62),
        ("lines", lines, 10_300),
        ("files without study and data/scenes", core_files, "-"),
        ("lines without study and data/scenes", core_lines, 6_700),
        ("names in the root", len(root_names(package)), 13),
        ("files in which the word `filler` stands", len(files_with(package, "filler")), 14),
        ("files in which the option `save_every` stands: its own, and where it takes effect", option, 2),
        ("names that several files define", len(same_names(package)), 0),
        ("parameters of the detector's constructor", len(constructor(package, DETECTOR)), 11),
        ("functions of more than 40 lines", len(long_functions(package)), 0),
        ("import circles", len(circles(graph)), 0),
        ("import circles between rooms", len(circles(between_rooms(graph))), 0),
        ("imports against the order of the rooms", len(wrong_arrows(graph)), 0),
    ]
    return "\n".join(
        ["| | now | at most |", "|---|---|---|", *(f"| {what} | {now} | {most} |" for what, now, most in rows)]
    )


if __name__ == "__main__":
    print(table(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE))
    for way, most in {"a training image": 9, "an image at inference": 7}.items() if len(sys.argv) == 1 else ():
        files = ways_of_an_image()[way]
        print(f"| files that {way} passes | {len(files)} | {most} |  # {', '.join(files)}")
