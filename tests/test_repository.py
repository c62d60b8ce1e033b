"""The repository's own order: its address, its chapters, its tools."""

import importlib.machinery
import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import earlyexit

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))


def load_tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


set_repository = load_tool("set_repository")
check_notebooks = load_tool("check_notebooks")
run_notebooks = load_tool("run_notebooks")
first_cell = load_tool("first_cell")


def test_address_agrees_everywhere():
    assert set_repository.check(ROOT) == []


@pytest.mark.parametrize("name", ["exercises", "homework", "first_cell", "story", "sliders", "budget", "gallery"])
def test_tools_that_write_refuse_what_they_do_not_know(name, monkeypatch, capsys):
    """`--chek` must not write."""
    tool = importlib.import_module(name)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--chek"])
    monkeypatch.setattr(Path, "write_text", lambda *_: pytest.fail("it wrote"))
    with pytest.raises(SystemExit) as ended:
        (tool.main if hasattr(tool, "main") else tool.PART.main)()
    assert ended.value.code == 2 and "unrecognized arguments: --chek" in capsys.readouterr().err


@pytest.fixture
def copy_of_files(tmp_path):
    for glob in set_repository.PATTERNS:
        for path in ROOT.glob(glob):
            target = tmp_path / path.relative_to(ROOT)
            target.parent.mkdir(exist_ok=True, parents=True)
            shutil.copy(path, target)
    return tmp_path


def test_address_is_changed_everywhere(copy_of_files):
    old = set_repository.source_address(ROOT)
    assert set_repository.main(["https://github.com/someone/other-name.git"], copy_of_files) == 0
    assert set_repository.check(copy_of_files) == []
    texts = [path.read_text() for path in copy_of_files.rglob("*") if path.is_file()]
    assert not any(old in text for text in texts)
    assert sum("someone/other-name" in text for text in texts) >= 5
    assert "cs470-team10/DynPerceiverBasedDetection" in (copy_of_files / "README.md").read_text()
    for path in copy_of_files.glob("book/*.ipynb"):
        nbformat.validate(nbformat.read(path, as_version=4))


def test_check_names_the_file_that_disagrees(copy_of_files, capsys):
    path = copy_of_files / "_config.yml"
    path.write_text(path.read_text().replace(set_repository.source_address(ROOT), "someone/else"))
    assert set_repository.main(["--check"], copy_of_files) == 1
    assert "_config.yml: has someone/else" in capsys.readouterr().out
    assert set_repository.main([], copy_of_files) == 0
    assert set_repository.main(["--check"], copy_of_files) == 0


def test_bad_address_is_refused_and_shown(copy_of_files, capsys):
    before = (copy_of_files / "pyproject.toml").read_text()
    assert set_repository.main(["https://example.org/a/b"], copy_of_files) == 2
    assert "'https://example.org/a/b'" in capsys.readouterr().err
    assert (copy_of_files / "pyproject.toml").read_text() == before


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.name)
def test_chapter_is_clean(path):
    assert check_notebooks.check_notebook(path) == []


def test_table_of_contents_lists_existing_pages():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = {toc["root"], *(entry["file"] for part in toc["parts"] for entry in part["chapters"])}
    existing = {f"book/{path.stem}" for path in (ROOT / "book").iterdir() if path.suffix in (".ipynb", ".md")}
    assert listed <= existing


def ran(*outputs, **metadata):
    return new_code_cell("run()", execution_count=1, outputs=list(outputs), metadata=metadata)


PICTURE = new_output("display_data", data={"image/png": "aaaa"})


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        (ran(new_output("error", ename="E", evalue="", traceback=[])), "stores an error"),
        (ran(new_output("stream", name="stderr", text="careful")), "stderr"),
        (ran(PICTURE), "no alt text"),
        (ran(new_output("stream", text="saved in /home/ada/runs")), "/home/ada"),
        (ran(new_output("stream", text="sh: 1: gti: command not found\n")), "gti: command not found"),
        (new_code_cell("run()"), "was not run"),
        (new_markdown_cell("See /Users/ada/notes."), "/Users/ada"),
    ],
)
def test_check_finds_what_it_looks_for(tmp_path, cell, problem):
    path = tmp_path / "chapter.ipynb"
    nbformat.write(new_notebook(cells=[new_markdown_cell("Fine."), cell]), path)
    (found,) = check_notebooks.check_notebook(path)
    assert "cell 2" in found
    assert problem in found


def test_picture_with_alt_text_is_clean(tmp_path):
    cell = ran(PICTURE, mystnb={"image": {"alt": "Two curves."}})
    nbformat.write(new_notebook(cells=[cell]), tmp_path / "chapter.ipynb")
    assert check_notebooks.check_notebook(tmp_path / "chapter.ipynb") == []


def test_file_that_is_no_notebook_is_reported(tmp_path):
    path = tmp_path / "chapter.ipynb"
    path.write_text("{broken")
    assert "not a valid notebook" in check_notebooks.check_notebook(path)[0]


def test_run_stores_outputs_and_is_reproducible(tmp_path):
    path = tmp_path / "chapter.ipynb"
    cell = new_code_cell("for i in range(3):\n    print(i, flush=True)\n6 * 7", metadata={"tags": ["kept"]})
    nbformat.write(new_notebook(cells=[cell]), path)
    run_notebooks.run_notebook(path)
    first = path.read_text()
    run_notebooks.run_notebook(path)
    assert path.read_text() == first
    (stored,) = nbformat.read(path, as_version=4).cells
    assert stored.metadata == {"tags": ["kept"]}
    assert [output.output_type for output in stored.outputs] == ["stream", "execute_result"]
    assert stored.outputs[0].text == "0\n1\n2\n"
    assert stored.outputs[1].data["text/plain"] == "42"


def test_run_refuses_stderr_and_leaves_the_file(tmp_path):
    path = tmp_path / "chapter.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("import sys\nprint('careful', file=sys.stderr)")]), path)
    before = path.read_text()
    with pytest.raises(RuntimeError, match="careful"):
        run_notebooks.run_notebook(path)
    assert path.read_text() == before


def test_run_refuses_a_command_that_failed(tmp_path):
    """`%run` shows the error and goes on, so nothing else would notice."""
    path = tmp_path / "chapter.ipynb"
    (tmp_path / "fails.py").write_text("raise SystemExit(2)")
    nbformat.write(new_notebook(cells=[new_code_cell("%run fails.py")]), path)
    with pytest.raises(RuntimeError, match="cell 1: SystemExit"):
        run_notebooks.run_notebook(path)


def test_a_build_finds_what_ran_side_by_side(tmp_path):
    """By the notebook as it is stored: the cache knows it by its cells."""
    jupyter_cache = pytest.importorskip("jupyter_cache")
    paths = [tmp_path / f"{name}.ipynb" for name in "ab"]
    for path in paths:
        cell = new_code_cell(f"print({path.stem!r})", metadata={"tags": ["kept"]})
        nbformat.write(new_notebook(cells=[new_markdown_cell("Fine."), cell]), path)
    lines = []
    run_notebooks.run_into_cache(paths, tmp_path / "cache", lines.append)
    assert sorted(lines) == ["a.ipynb has run", "b.ipynb has run"]
    for path in paths:
        _, found = jupyter_cache.get_cache(tmp_path / "cache").merge_match_into_notebook(nbformat.read(path, 4))
        assert found.cells[1].outputs[0].text == f"{path.stem}\n"
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), paths[1])
    with pytest.raises(RuntimeError, match=r"b\.ipynb failed:(?s:.*)ZeroDivisionError"):
        run_notebooks.run_into_cache(paths[1:], tmp_path / "cache", lines.append)


def test_fences_with_backticks_in_the_title_are_made_of_colons():
    """MyST shows others raw, without a warning."""
    texts = {path.name: path.read_text() for path in (ROOT / "book").glob("*.md")}
    for path in CHAPTERS:
        texts[path.name] = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells)
    assert [name for name, text in texts.items() if re.search(r"(?m)^```+\{[^`\n]+`", text)] == []


# The first cell.


def test_first_cell_is_the_same_in_all_chapters(tmp_path):
    assert first_cell.differing(ROOT / "book") == []
    for name in ("01_data", "claims"):
        shutil.copy(ROOT / "book" / f"{name}.ipynb", tmp_path)
    path = tmp_path / "claims.ipynb"
    before = path.read_text()
    path.write_text(before.replace("no network?", "no luck?"))
    assert first_cell.write(tmp_path) == [path]
    assert path.read_text() == before
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.remove(first_cell.first_cell(notebook))
    nbformat.write(notebook, path)
    assert first_cell.write(tmp_path) == [path]
    assert path.read_text() == before


class Shell:
    """IPython as far as a first cell needs it: what was installed or cloned, and what happens then."""

    def __init__(self, then=lambda: None):
        self.commands, self.then = [], then

    def run_line_magic(self, name, line):
        self.commands.append(f"%{name} {line}")
        self.then()

    def system(self, command):
        self.commands.append(f"!{command}")
        self.then()


def run_cell(chapter, cell, shell, names=None, **replaced):
    """Run a cell of a chapter in `names`; `replaced` are values of its lines NAME = None."""
    source = next(c.source for c in nbformat.read(ROOT / "book" / chapter, as_version=4).cells if c.id == cell)
    for name, value in replaced.items():
        assert f"\n{name} = None\n" in source
        source = source.replace(f"\n{name} = None\n", f"\n{name} = {value!r}\n")
    names = {} if names is None else names
    exec(TransformerManager().transform_cell(source), names | {"get_ipython": lambda: shell}, names)
    return names


def test_first_cell_takes_the_package_that_is_there():
    shell = Shell()
    names = run_cell("01_data.ipynb", "install", shell)
    run_cell("01_data.ipynb", "install", shell, names)
    assert names["earlyexit"] is earlyexit and shell.commands == []


def test_first_cell_installs_the_package_where_it_is_missing(monkeypatch):
    found = importlib.util.find_spec("earlyexit")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found if shell.commands else None)
    shell = Shell()
    run_cell("01_data.ipynb", "install", shell)
    assert shell.commands == [f'%pip install -q "git+https://github.com/{set_repository.source_address(ROOT)}"']


def test_first_cell_without_a_network_says_so_in_one_sentence(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for _ in range(2):
        with pytest.raises(ImportError, match="could not be installed: no network") as raised:
            run_cell("01_data.ipynb", "install", Shell())
        assert raised.value.__context__ is None


def test_first_cell_refuses_a_stranger_of_the_same_name(monkeypatch, tmp_path):
    (tmp_path / "earlyexit").mkdir()
    (tmp_path / "earlyexit" / "__init__.py").write_text("def stop(): ...")
    monkeypatch.delitem(sys.modules, "earlyexit")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [importlib.machinery.PathFinder])
    for _ in range(2):
        with pytest.raises(ImportError, match=r"earlyexit/__init__.py'> is a stranger .*%pip uninstall -y earlyexit"):
            run_cell("01_data.ipynb", "install", Shell())


@pytest.fixture
def away(tmp_path, monkeypatch):
    """A folder that lies in no checkout."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def clone(folder):
    (folder / "course" / "data_prep").mkdir(parents=True)


def test_coco_page_can_start_again(away):
    """Twice in one kernel, then in a new one: the same folder with the runs, and one clone."""
    (away / "photos").mkdir()
    (away / "others").mkdir()
    shell = Shell(lambda: clone(away))
    names = run_cell("training_on_coco.ipynb", "setup", shell, COCO="photos")
    (away / "coco-work" / "runs").mkdir()
    for kernel, data in ((names, "photos"), (names, "others"), ({}, "others")):
        if not kernel:
            os.chdir(away)
        run_cell("training_on_coco.ipynb", "setup", shell, kernel, COCO=data)
        assert Path.cwd() == away / "coco-work"
        assert sorted(path.name for path in Path.cwd().iterdir()) == ["coco", "data_prep", "runs"]
        assert Path("coco").resolve() == away / data
        assert Path("data_prep").resolve() == away / "course" / "data_prep"
    (command,) = shell.commands
    assert command.startswith(f"!git clone https://github.com/{set_repository.source_address(ROOT)} course")


def test_coco_page_takes_the_checkout_around_it(away):
    (away / "data_prep").mkdir()
    (away / "book").mkdir()
    os.chdir(away / "book")
    names, shell = {}, Shell()
    for _ in range(2):
        run_cell("training_on_coco.ipynb", "setup", shell, names)
        assert Path("data_prep").resolve() == away / "data_prep"
        assert away not in Path.cwd().parents, "the stand-in is made in a temporary folder"
    assert shell.commands == []


def test_coco_page_without_a_network_says_so_in_one_sentence(away):
    for _ in range(2):
        with pytest.raises(FileNotFoundError, match="could not be cloned from GitHub: no network") as raised:
            run_cell("training_on_coco.ipynb", "setup", Shell())
        assert raised.value.__context__ is None


# The distribution and its versions.


def project():
    tomllib = pytest.importorskip("tomllib")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_distribution_has_a_name_of_its_own():
    """`earlyexit` on the package index is a stranger; nothing may send a reader there."""
    assert project()["name"] == "earlyexit-detection"
    texts = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *CHAPTERS]
    texts += [path for folder in ("earlyexit", "data_prep", "book") for path in (ROOT / folder).rglob("*.[pm][yd]")]
    wrong = re.compile(r"pip install (-\S+ )*\"?earlyexit(?!-detection)")
    # The README says once what not to do.
    assert {path.name: len(wrong.findall(path.read_text())) for path in texts if wrong.search(path.read_text())} == {
        "README.md": 1
    }


def test_version_stands_in_one_place():
    assert "version" not in project() and project()["dynamic"] == ["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == earlyexit.__version__


def requirements():
    """What pyproject.toml asks for, extras included, itself left out."""
    extras = project()["optional-dependencies"].values()
    lines = [*project()["dependencies"], *(line for extra in extras for line in extra)]
    return [found for found in map(Requirement, lines) if found.name != project()["name"]]


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("python", ["3.10.0", "3.11.7", "3.12.1", "3.13.0"])
def test_constraints_pin_every_requirement(python):
    """Each direct requirement has one exact version on each Python, and that version satisfies its lower bound."""
    here = {"python_version": python.rpartition(".")[0], "python_full_version": python, "sys_platform": "linux"}
    valid = [pin for pin in pins() if pin.marker is None or pin.marker.evaluate(here)]
    versions = {canonicalize_name(pin.name): pin.specifier for pin in valid}
    assert len(versions) == len(valid), "one version for each name"
    for requirement in requirements():
        (pinned,) = versions[canonicalize_name(requirement.name)]
        assert pinned.operator == "=="
        assert requirement.specifier.contains(pinned.version), requirement


def test_constraints_are_of_this_pyproject():
    """`make pins` made them, and they name no server."""
    text = (ROOT / "constraints.txt").read_text()
    assert "make pins" in text.split("\n", 3)[1]
    assert "://" not in text and "--" not in text


def test_environment_for_conda_installs_the_same():
    """conda gives Python and pip; pip reads the constraints and the package with the extras of `make`."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == project()["name"]
    python, pip, by_pip = environment["dependencies"]
    assert Requirement(python.replace("=", "==", 1)).name == "python" and pip == "pip"
    assert SpecifierSet(project()["requires-python"]).contains(python.removeprefix("python="))
    constraints, package = by_pip["pip"]
    assert (ROOT / constraints.removeprefix("-c ")).is_file()
    extras = re.fullmatch(r"-e \.\[(.*)\]", package)[1].split(",")
    assert set(extras) <= set(project()["optional-dependencies"])
    assert f'-e ".[{",".join(extras)}]"' in (ROOT / "Makefile").read_text()
