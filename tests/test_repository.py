"""The repository's own order: its address, its chapters, its tools."""

import importlib.util
import shutil
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from packaging.requirements import Requirement

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


def test_address_agrees_everywhere():
    assert set_repository.check(ROOT) == []


@pytest.fixture
def copy_of_files(tmp_path):
    for glob in set_repository.PATTERNS:
        for path in ROOT.glob(glob):
            target = tmp_path / path.relative_to(ROOT)
            target.parent.mkdir(exist_ok=True)
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
    listed = {toc["root"], *(entry["file"] for entry in toc["chapters"])}
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


def test_constraints_pin_every_requirement():
    """Each direct requirement has one exact version, and that version satisfies its lower bound."""
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {pin.name.lower().replace("_", "-"): pin for pin in map(Requirement, lines)}
    assert len(pins) == len(lines)
    wanted = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    for requirement in map(Requirement, wanted):
        (pinned,) = pins[requirement.name.lower().replace("_", "-")].specifier
        assert pinned.operator == "=="
        assert requirement.specifier.contains(pinned.version), requirement
