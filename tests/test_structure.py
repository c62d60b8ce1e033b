"""How the package is built: what may import what, and how many rooms there are; and that the checks can say no."""

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

import earlyexit

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "earlyexit"
spec = importlib.util.spec_from_file_location("house", ROOT / "tools" / "house.py")
house = importlib.util.module_from_spec(spec)
spec.loader.exec_module(house)
# What was reached, with some room; what is beyond it says here why it is worth its lines.
FILES, LINES = 64, 15_600


@pytest.fixture(scope="module")
def graph():
    return house.imports(PACKAGE)


def test_no_import_circles(graph):
    assert house.circles(graph) == []
    assert house.circles(house.between_rooms(graph)) == []


def test_rooms_import_from_the_storeys_below(graph):
    assert house.wrong_arrows(graph) == []
    rooms = [room for storey in house.STOREYS for room in storey]
    assert sorted(rooms) == house.root_names(PACKAGE)


def test_the_root_stays_small():
    assert len(house.root_names(PACKAGE)) <= 13  # eleven, and two that came with exercises and homework


def test_the_house_stays_small():
    """Whoever adds a room or a long function says why beside the limits."""
    files, lines = house.count(PACKAGE)
    assert files <= FILES and lines <= LINES, f"{files} files, {lines} lines: raise the limits here, and say why"
    assert len(house.files_with(PACKAGE, "filler")) <= 14
    assert len(house.files_with(PACKAGE, "save_every")) == 2  # an option: where it stands, and where it takes effect
    assert house.long_functions(PACKAGE) == []
    assert house.same_names(PACKAGE) == {}


def test_few_files_stand_between_an_image_and_its_result():
    found = house.ways_of_an_image()
    assert {"data.coco", "losses", "model.detector"} <= set(found["a training image"])
    assert {"data.photos", "model.exits", "model.detector"} <= set(found["an image at inference"])
    assert len(found["a training image"]) <= 9 and len(found["an image at inference"]) <= 7


def test_contributing_asks_of_every_file_what_it_answers():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## The house")[1].split("Four recipes")[0]
    room, listed = "", set()
    for row in text.splitlines():
        names = re.findall(r"`([^`]+)`", row.split("|")[1]) if row.startswith("|") else []
        if "**" in row:
            (room,) = names
        else:
            listed |= {room + name.removeprefix("earlyexit/") for name in names}
    files = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    doors = {name for name in files if name.endswith(("__init__.py", "__main__.py"))}
    folders = tuple(name for name in listed if name.endswith("/"))
    assert all((PACKAGE / name).exists() for name in listed)
    assert {name for name in files - doors - listed if not name.startswith(folders)} == set()


@pytest.mark.parametrize(
    "door", ["earlyexit", *(f"earlyexit.{room}" for room in earlyexit._ROOMS if room != "weights")]
)
def test_doors_give_what_they_promise(door):
    """Every name is there, once, and the site has a page for the file that defines it."""
    module = importlib.import_module(door)
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "book" / "api").glob("*.md"))
    described = set(re.findall(r"automodule:: (\S+)", pages))
    assert len(set(module.__all__)) == len(module.__all__) > 0
    for name in module.__all__:
        value = getattr(module, name)
        home = getattr(value, "__module__", None) or ""  # constants have none
        if home.startswith("earlyexit.") and not home.startswith("earlyexit.checks."):
            assert any(home == page or home.startswith(f"{page}.") for page in described), f"{name} of {home}"
    assert set(dir(module)) >= set(module.__all__)


def test_the_graph_is_that_of_the_package(graph):
    """Imports at the top, inside functions, of modules, through lazy doors."""
    assert len(graph) == house.count(PACKAGE)[0] > 40
    assert {"losses", "model.factories", "weights"} <= graph["training.settings"]  # all inside functions
    assert "training.run" in graph["cli"]  # from .training import run
    assert {"model", "model.factories"} <= graph["cli"]  # from .model import load_detector, which is lazy
    assert graph["files"] == {""}
    assert graph[""] == set()  # its door is lazy


# Made-up packages


LAZY = """
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"exits": ["Exit"], "detector": ["Detector"]})
"""
HOUSE = {
    "__init__": "",
    "__main__": "from .cli import main\n",
    "cli": "import json\n\n\ndef main():\n    from .training import loop\n    from .model import Detector\n",
    "files": "from . import __version__\n",
    "model/__init__": LAZY,
    "model/exits": "from ..files import read\n",
    "model/detector": "from .exits import Exit\n",
    "training/__init__": "",
    "training/loop": "import made.model.detector\nfrom ..files import read\n",
}
STOREYS = (("files",), ("model",), ("training",), ("cli",))


@pytest.fixture
def build(tmp_path):
    """`build(**changes)`: the folder of a small package, some of whose files have another content."""

    def made(changes):
        for name, content in {**HOUSE, **changes}.items():
            path = tmp_path / "made" / f"{name}.py"
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(content)
        return tmp_path / "made"

    return made


def test_a_package_in_order(build):
    graph = house.imports(build({}))
    assert graph == {
        "": set(),
        "__main__": {"cli"},
        "cli": {"training.loop", "model", "model.detector"},
        "files": {""},
        "model": set(),
        "model.exits": {"files"},
        "model.detector": {"model.exits"},
        "training": set(),
        "training.loop": {"model.detector", "files"},
    }
    assert house.circles(graph) == []
    assert house.wrong_arrows(graph, STOREYS) == []
    assert house.between_rooms(graph)["cli"] == {"training", "model"}


@pytest.mark.parametrize(
    ("changes", "circle"),
    [
        ({"model/exits": "from .detector import Detector\n"}, {"model.exits", "model.detector"}),
        ({"model/exits": "def f():\n    from .detector import Detector\n"}, {"model.exits", "model.detector"}),
        ({"model/exits": "from made.model.detector import Detector\n"}, {"model.exits", "model.detector"}),
        ({"model/exits": "import made.model.detector\n"}, {"model.exits", "model.detector"}),
        ({"model/exits": "from ..model import Detector\n"}, {"model.exits", "model.detector"}),  # by the lazy door
        ({"model/exits": "from . import Detector\n"}, {"model.exits", "model.detector"}),
        ({"files": "from .training.loop import fit\n"}, {"files", "model.exits", "model.detector", "training.loop"}),
        ({"__init__": "from .files import read\n"}, {"", "files"}),
    ],
)
def test_circles_are_found(build, changes, circle):
    assert house.circles(house.imports(build(changes))) == [circle]


def test_rooms_go_in_circles_where_no_module_does(build):
    graph = house.imports(build({"model/exits": "from ..training import Settings\n"}))
    assert house.circles(graph) == []
    assert house.circles(house.between_rooms(graph)) == [{"model", "training"}]


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"model/exits": "from ..training import loop\n"}, ["model.exits imports training.loop"]),
        ({"model/exits": "class A:\n    def f(self):\n        from .. import cli\n"}, ["model.exits imports cli"]),
        ({"files": "import made.model.exits\n"}, ["files imports model.exits"]),
        ({"extra": ""}, ["extra stands on no storey"]),
        ({"training/loop": "from ..extra import a\n", "extra": ""}, ["extra stands on no storey"]),
    ],
)
def test_arrows_that_point_up_are_found(build, changes, wrong):
    assert house.wrong_arrows(house.imports(build(changes)), STOREYS) == wrong


def test_rooms_of_one_storey_do_not_know_each_other(build):
    graph = house.imports(build({}))
    assert house.wrong_arrows(graph, (("files",), ("model", "training"), ("cli",))) == [
        "training.loop imports model.detector"
    ]


def test_names_of_the_root_are_counted(build):
    package = build({})
    (package / "pictures").mkdir()  # without code it is no room
    assert house.root_names(package) == ["cli", "files", "model", "training"]
    for i in range(8):
        (package / f"more_{i}.py").touch()
    assert len(house.root_names(package)) == 12


def test_what_is_counted(build):
    package = build(
        {"model/detector": "class EarlyExitRetinaNet:\n    def __init__(self, a, *, b=1, **c):\n        pass\n"}
    )
    assert house.constructor(package, "EarlyExitRetinaNet") == ["a", "b", "**c"]
    assert house.constructor(package, "Another") == []
    assert house.count(package)[0] == 9
    lines = house.count(package)[1] - house.count(package, ("model",))[1]
    assert lines == LAZY.count("\n") + 1 + 3
    (package / "files.py").write_text('def f():\n    """One\n    two\n    three."""\n' + "    pass\n" * 4)
    assert house.same_names(package) == {}
    more = package / "training" / "more.py"
    more.write_text(
        "def f():\n    pass\n\n\ndef _g():\n    pass\n\n\ndef main():\n    pass\n\n\nA, (B, c[0]) = 1, (2, 3)\n"
    )
    (package / "training" / "other.py").write_text("B = 2\n")
    assert house.same_names(package) == {"f": {"files", "training.more"}, "B": {"training.more", "training.other"}}
    (package / "training" / "other.py").unlink()
    more.unlink()
    assert house.long_functions(package, 3) == ["files.f"] and house.long_functions(package, 4) == []
    (package / "files.py").write_text("fillers = 1\n")
    assert house.files_with(package, "filler") == []
    (package / "files.py").write_text("x = model.filler\n")
    assert house.files_with(package, "filler") == [package / "files.py"]
    rows = {row.split("|")[1].strip(): row.split("|")[2].strip() for row in house.table(package).splitlines()[2:]}
    assert rows["files in which the word `filler` stands"] == "1"
    assert (rows["names in the root"], rows["parameters of the detector's constructor"]) == ("4", "3")
    assert (rows["Python files"], rows["import circles"]) == ("9", "0")
