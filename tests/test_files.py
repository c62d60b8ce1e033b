"""Files appear whole or not at all, and come back as they were written."""

import json

import pytest

from earlyexit.files import plain, read_table, write_table, write_whole


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_whole(path, lambda temporary: temporary.write_text("old"))

    def fail(temporary):
        temporary.write_text("ne")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_whole(path, fail)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_table_comes_back_as_it_was(tmp_path):
    rows = [{"model": "a", "n": 3, "value": 0.25, "low": None}, {"model": "b", "n": -1, "value": 1e-6, "low": 2.0}]
    write_table(tmp_path / "t.csv", rows)
    assert read_table(tmp_path / "t.csv") == rows
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_json_knows_no_infinity():
    value = plain({"a": (float("inf"), 1.5), "b": [{"c": float("nan")}], "d": 3})
    assert json.loads(json.dumps(value, allow_nan=False)) == {"a": [None, 1.5], "b": [{"c": None}], "d": 3}
