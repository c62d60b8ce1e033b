"""Downloading COCO, from a server on this machine: whole, interrupted, of the wrong size, damaged, not at all."""

import http.server
import io
import shutil
import threading
import zipfile
from collections import namedtuple

import numpy as np
import pytest

from prepare import download
from prepare.download import download_coco

FILES = list(download.FILES)
NOISE = np.random.default_rng(0).bytes(50_000)  # cannot be compressed
CONTENT = {
    "annotations_trainval2017.zip": {"annotations/instances_val2017.json": b"{}"},
    "train2017.zip": {"train2017/": b"", "train2017/a.jpg": NOISE, "train2017/b.jpg": b"b"},
    "val2017.zip": {"val2017/c.jpg": b"c"},
}
WHOLE = {name: data for files in CONTENT.values() for name, data in files.items() if not name.endswith("/")}


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`; its other attributes say how badly."""

    def do_HEAD(self):  # noqa: N802
        self.answer(body=False)

    def do_GET(self):  # noqa: N802
        self.server.asked.append((self.path, self.headers["Range"]))
        self.answer(body=True)

    def answer(self, body):
        if self.path not in self.server.files:
            self.send_error(404)
            return
        data = self.server.files[self.path]
        start = int(self.headers["Range"][6:-1]) if self.server.knows_range and self.headers["Range"] else 0
        self.send_response(206 if start else 200)
        if self.server.tells_size:
            self.send_header("Content-Length", str(len(data) - start + (self.server.too_much if not body else 0)))
        self.end_headers()
        if body:
            end = start + self.server.cut_after if self.server.cut_after else len(data)
            self.wfile.write(data[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "PAUSE", 0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files = {f"/{path}": zipped(CONTENT[path.rpartition("/")[2]]) for path in FILES}
        server.asked, server.knows_range, server.tells_size, server.too_much, server.cut_after = [], True, True, 0, 0
        server.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def unpacked(folder):
    files = (path for path in folder.rglob("*.*") if path.is_file() and path.parent != folder)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def beside(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_coco_is_fetched_and_unpacked_once(server, tmp_path):
    folder = tmp_path / "new" / "coco"
    download_coco(folder, server.address)
    assert unpacked(folder) == WHOLE
    assert beside(folder) == sorted([*CONTENT, *(f".{name}.unpacked" for name in CONTENT)])
    assert server.asked == [(f"/{path}", None) for path in FILES]
    for name in CONTENT:
        (folder / name).unlink()  # may be deleted to save space
    server.shutdown()
    download_coco(folder, server.address)
    assert unpacked(folder) == WHOLE


def test_lost_connections_are_taken_up_again(server, tmp_path):
    server.cut_after = 5_000
    download_coco(tmp_path, server.address)
    assert unpacked(tmp_path) == WHOLE
    assert server.asked[1:4] == [("/zips/train2017.zip", r) for r in (None, "bytes=5000-", "bytes=10000-")]
    assert len(server.asked) > 2 + 2 * download.ATTEMPTS  # as long as something comes


def test_run_goes_on_where_the_last_one_stopped(server, tmp_path):
    data = server.files["/zips/train2017.zip"]
    (tmp_path / "train2017.zip.part").write_bytes(data[:1234])
    download_coco(tmp_path, server.address)
    assert ("/zips/train2017.zip", "bytes=1234-") in server.asked
    assert (tmp_path / "train2017.zip").read_bytes() == data


def test_complete_part_is_not_fetched_again(server, tmp_path):
    (tmp_path / "train2017.zip.part").write_bytes(server.files["/zips/train2017.zip"])
    download_coco(tmp_path, server.address)
    assert [path for path, _ in server.asked] == [f"/{FILES[0]}", "/zips/val2017.zip"]
    assert unpacked(tmp_path) == WHOLE


def test_part_that_is_too_long_is_thrown_away(server, tmp_path):
    (tmp_path / "val2017.zip.part").write_bytes(b"x" * 100_000)
    download_coco(tmp_path, server.address)
    assert unpacked(tmp_path) == WHOLE


def test_server_that_does_not_know_range(server, tmp_path):
    server.knows_range = False
    (tmp_path / "train2017.zip.part").write_bytes(b"x" * 500)
    download_coco(tmp_path, server.address)
    assert (tmp_path / "train2017.zip").read_bytes() == server.files["/zips/train2017.zip"]
    assert unpacked(tmp_path) == WHOLE


def test_wrong_size_is_an_error_and_the_part_is_kept(server, tmp_path):
    server.too_much = 7
    size = len(server.files[f"/{FILES[0]}"])
    with pytest.raises(ValueError, match=f"has {size + 7} bytes, {size} came"):
        download_coco(tmp_path, server.address)
    assert beside(tmp_path) == ["annotations_trainval2017.zip.part"]
    assert len(server.asked) == 1 + download.ATTEMPTS  # the first brought all there is
    server.too_much = 0
    download_coco(tmp_path, server.address)
    assert unpacked(tmp_path) == WHOLE


def test_server_that_tells_no_size(server, tmp_path):
    server.tells_size = False
    with pytest.raises(ValueError, match="annotations_trainval2017.zip does not say how large it is"):
        download_coco(tmp_path, server.address)


def test_missing_file_is_asked_for_once(server, tmp_path):
    del server.files["/zips/val2017.zip"]
    with pytest.raises(ValueError, match="404"):
        download_coco(tmp_path, server.address)
    assert server.asked == []


def disk(free):
    return lambda _: namedtuple("usage", "total used free")(10**9, 10**9 - free, free)


def test_full_disk_is_noticed_before_anything_is_fetched(server, tmp_path, monkeypatch):
    needed = 2 * sum(map(len, server.files.values()))
    monkeypatch.setattr(shutil, "disk_usage", disk(needed - 1))
    with pytest.raises(ValueError, match="GB of free disk"):
        download_coco(tmp_path, server.address)
    assert server.asked == []
    monkeypatch.setattr(shutil, "disk_usage", disk(needed))
    download_coco(tmp_path, server.address)
    assert unpacked(tmp_path) == WHOLE


def test_full_disk_is_noticed_before_unpacking(tmp_path, monkeypatch):
    (tmp_path / "train2017.zip").write_bytes(zipped(CONTENT["train2017.zip"]))
    monkeypatch.setattr(shutil, "disk_usage", disk(50_000))  # one byte is missing
    with pytest.raises(ValueError, match="GB of free disk"):
        download.unpack(tmp_path / "train2017.zip", tmp_path)
    assert unpacked(tmp_path) == {}


def test_without_network_one_sentence_says_what_to_do(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(ValueError) as caught:
        download_coco(tmp_path, server.address)
    message = str(caught.value)
    assert "\n" not in message
    for part in (*FILES, server.address, str(tmp_path), "run it again"):
        assert part in message


def test_zip_files_fetched_by_hand_need_no_network(tmp_path):
    for name, files in CONTENT.items():
        (tmp_path / name).write_bytes(zipped(files))
    download_coco(tmp_path, "http://127.0.0.1:1")
    assert unpacked(tmp_path) == WHOLE


def test_folders_without_zip_file_are_taken_as_they_are(server, tmp_path):
    (tmp_path / "train2017").mkdir()
    download_coco(tmp_path, server.address)
    assert [path for path, _ in server.asked] == [f"/{FILES[0]}", "/zips/val2017.zip"]
    (tmp_path / ".val2017.zip.unpacked").unlink()
    (tmp_path / "val2017/c.jpg").unlink()  # the zip file is there, not unpacked to its end
    download_coco(tmp_path, server.address)
    assert (tmp_path / "val2017/c.jpg").read_bytes() == b"c"


def test_damaged_zip_is_named_and_nothing_half_unpacked_stays(tmp_path):
    data = bytearray(zipped(CONTENT["train2017.zip"]))
    data[data.index(NOISE) + 25_000] ^= 1
    path = tmp_path / "train2017.zip"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="train2017.zip' is damaged .*CRC.*delete it and run again"):
        download.unpack(path, tmp_path)
    assert list((tmp_path / "train2017").iterdir()) == []
    path.write_bytes(data[:1000])
    with pytest.raises(ValueError, match="is damaged"):
        download.unpack(path, tmp_path)


def test_unpacking_skips_what_is_there_and_repairs_what_is_short(tmp_path):
    (tmp_path / "train2017.zip").write_bytes(zipped(CONTENT["train2017.zip"]))
    (tmp_path / "train2017").mkdir()
    (tmp_path / "train2017/a.jpg").write_bytes(NOISE[:-1])
    (tmp_path / "train2017/b.jpg").write_bytes(b"B")  # of the right size: taken as done
    download.unpack(tmp_path / "train2017.zip", tmp_path)
    assert unpacked(tmp_path) == {"train2017/a.jpg": NOISE, "train2017/b.jpg": b"B"}


def test_zip_cannot_write_elsewhere(tmp_path):
    (tmp_path / "coco").mkdir()
    (tmp_path / "evil.zip").write_bytes(zipped({"../outside.txt": b"x"}))
    with pytest.raises(ValueError, match="would write outside its folder"):
        download.unpack(tmp_path / "evil.zip", tmp_path / "coco")
    assert not (tmp_path / "outside.txt").exists()
