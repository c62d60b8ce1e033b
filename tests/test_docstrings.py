"""Docstrings read as the site's builder reads them, in seconds: a stray star is found before the book is built."""

import ast
import io
import re
from pathlib import Path

import pytest
from docutils.core import publish_doctree
from docutils.parsers.rst import roles
from sphinx.ext.napoleon import Config, GoogleDocstring

import earlyexit

ROOT = Path(earlyexit.__file__).parent
KINDS = (ast.FunctionDef, ast.ClassDef, ast.Module)


def complaints(docstring: str) -> str:
    """What docutils says of a docstring once its sections are translated; empty if nothing."""
    said = io.StringIO()
    text = str(GoogleDocstring(docstring, Config(napoleon_use_ivar=True)))
    text = re.sub(r"(:\w+ \w+)_:", r"\1:", text)  # a parameter's name may end so, and Sphinx knows it
    publish_doctree(text, settings_overrides={"warning_stream": said, "report_level": 2, "halt_level": 5})
    return said.getvalue()


@pytest.fixture(autouse=True, scope="module")
def sphinx_roles():
    for name in ("doc", "ref", "class", "func", "meth", "mod", "obj", "py:class"):
        roles.register_local_role(name, lambda *args, **more: ([], []))


@pytest.mark.parametrize("room", sorted({path.parent for path in ROOT.rglob("*.py")}), ids=lambda path: path.name)
def test_docstrings_are_read_without_a_warning(room):
    wrong = {}
    for path in sorted(room.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            said = complaints(ast.get_docstring(node) or "") if isinstance(node, KINDS) else ""
            if said:
                wrong[f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'module')}"] = said
    assert not wrong


@pytest.mark.parametrize("wrong", ["Args:\n    a, **more: see b.", "Of `one", "A *star"])
def test_what_breaks_a_page_is_found(wrong):
    assert "WARNING" in complaints(wrong)
