"""Files appear whole or not at all."""

import pytest

from earlyexit.files import write_whole


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
