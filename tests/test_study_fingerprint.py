"""The sample of numbers that tells whether the code still gives the study's results."""

from pathlib import Path

import pytest
import torch

from earlyexit.evaluation import policies as thresholds
from earlyexit.study import fingerprint as module
from earlyexit.study import open_study
from earlyexit.study.fingerprint import check_numbers, differing, fingerprint


def test_differing_names_what_is_new_gone_or_other():
    before = {"loss": 1.0, "gone": 2.0, "random, mAP": 50.0}
    assert differing(before, {"loss": 1.001, "new": 3.0, "random, mAP": 51.0}) == ["gone", "new"]
    assert differing(before, {"loss": 1.02, "gone": 2.0, "random, mAP": 54.0}) == ["loss", "random, mAP"]


def test_results_of_the_study_are_of_this_code():
    before, state = open_study().manifest["fingerprint"], torch.get_rng_state()
    now = fingerprint()
    assert differing(before, now) == []
    assert torch.equal(torch.get_rng_state(), state)
    assert {name.split(",")[0] for name in now} == {"calibration", "downsample", "zero", *module.TRAINED}


def test_another_rule_gives_another_fingerprint(monkeypatch, tmp_path):
    folder = module._scenes(Path(tmp_path))
    before = module._measured(folder)
    shares = thresholds.exit_proportions()
    monkeypatch.setattr("earlyexit.evaluation.scores.exit_proportions", lambda: shares.flip(1))
    assert any("index 17" in name for name in differing(before, module._measured(folder)))


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"fingerprint": 3}'])
def test_check_names_a_damaged_manifest(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="manifest.json' is damaged"):
        check_numbers(tmp_path)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
