"""What the chapters open: the finished study of the repository, or one that is fetched."""

import json

import pytest
import torch
from made_study import made_models

from earlyexit.study import finished
from earlyexit.study.files import write_table
from earlyexit.study.models import Models
from earlyexit.study.tables import accuracy_table

MANIFEST = {
    "command": "earlyexit study --seeds 3",
    "commit": "abc1234",
    "date": "2026-01-02",
    "machine": "made up",
    "seeds": [0, 1, 2],
    "seconds": {"training": 5400.0, "images": 1800.0},
    "models": [{"name": "proposed-0"}, {"name": "baseline-0"}],
    "data": {split: {"images": n} for split, n in (("train", 4748), ("calibration", 1175), ("test", 2011))},
}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "results" / "scenes"
    folder.mkdir(parents=True)
    for name in finished.TABLES:
        write_table(folder / f"{name}.csv", accuracy_table(Models(made_models())))
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    (folder / "study_summary.json").write_text(json.dumps({"claims": [{"name": "full depth", "holds": "yes"}]}))
    return folder


def test_a_study_gives_its_tables_claims_and_story(folder):
    study = finished.Study(folder)
    last = [row for row in study.table("accuracy") if (row["model"], row["exit"]) == ("proposed", 4)]
    assert [row["accuracy"] for row in last] == [64]  # 50 + the gain of 10 + the exit, see made_study
    assert study.claim("full depth")["holds"] == "yes"
    for part in (
        "2 models",
        "2,011 test",
        "earlyexit study --seeds 3",
        "2026-01-02, commit abc1234",
        "2.0 process hours",
    ):
        assert part in str(study)


def test_what_is_not_there_is_named(folder, tmp_path):
    study = finished.Study(folder)
    with pytest.raises(ValueError, match="sweep.*got 'curves'"):
        study.table("curves")
    with pytest.raises(ValueError, match="full depth, got 'no such'"):
        study.claim("no such")
    with pytest.raises(ValueError, match="no finished study"):
        finished.Study(tmp_path)


def test_without_a_checkout_files_are_fetched_once(folder, tmp_path, monkeypatch):
    fetched = []

    def download(url, target, progress):
        fetched.append(url)
        source = folder / url.rsplit("/", 1)[1]
        with open(target, "wb") as file:
            file.write(source.read_bytes())

    monkeypatch.setattr(finished, "ROOT", tmp_path / "nowhere")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    first = finished.open_study()
    assert len(fetched) == len(finished.TABLES) + 2
    assert fetched[0].startswith("https://raw.githubusercontent.com/") and "/main/results/scenes/" in fetched[0]
    assert finished.open_study().manifest == first.manifest == MANIFEST
    assert len(fetched) == len(finished.TABLES) + 2, "the second time nothing is fetched"
    with pytest.raises(OSError):  # this study has nothing beyond
        finished.open_study(beyond=True)
