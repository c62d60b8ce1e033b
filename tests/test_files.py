"""Files that come back as they were written."""

import json

from earlyexit.files import plain, read_table, write_table


def test_table_comes_back_as_it_was(tmp_path):
    rows = [{"model": "a", "n": 3, "value": 0.25, "low": None}, {"model": "b", "n": -1, "value": 1e-6, "low": 2.0}]
    write_table(tmp_path / "t.csv", rows)
    assert read_table(tmp_path / "t.csv") == rows
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_json_knows_no_infinity():
    value = plain({"a": (float("inf"), 1.5), "b": [{"c": float("nan")}], "d": 3})
    assert json.loads(json.dumps(value, allow_nan=False)) == {"a": [None, 1.5], "b": [{"c": None}], "d": 3}
