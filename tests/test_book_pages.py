"""Docstrings on the site: what is returned stands whole, and fields of named tuples stand once."""

from typing import NamedTuple

from sphinx.ext.napoleon import Config, GoogleDocstring
from test_repository import load_tool

from earlyexit import course

book_pages = load_tool("book_pages")


class Pair(NamedTuple):
    first: int


def test_what_is_returned_is_not_cut_at_its_colon():
    lines = ["Count.", "", "Returns:", '    {exit: GMACs} and "exits" {1: images},', "    as read.", ""]
    assert ":rtype: {exit" in str(GoogleDocstring(list(lines), Config()))
    book_pages.whole_returns(None, "function", "count", None, None, lines)
    said = str(GoogleDocstring(lines, Config()))
    assert ":rtype:" not in said
    assert ':returns: {exit: GMACs} and "exits" {1: images},' in said and "as read." in said


def test_only_fields_of_named_tuples_are_skipped():
    assert book_pages.skip_fields(None, "class", "first", Pair.first, False, None) is True
    assert book_pages.skip_fields(None, "class", "start", course.start, False, None) is None
