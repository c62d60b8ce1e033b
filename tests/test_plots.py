"""Boxes on pictures."""

import matplotlib.pyplot as plt
import pytest
import torch

from earlyexit.evaluation.pictures import draw_detection, save_figure


def test_names_grow_towards_the_middle_and_the_best_is_drawn_last():
    figure, ax = plt.subplots()
    detection = {
        "boxes": torch.tensor([[70.0, 5.0, 99.0, 60.0], [1.0, 5.0, 30.0, 60.0], [0.0, 0.0, 9.0, 9.0]]),
        "scores": torch.tensor([0.9, 0.6, 0.2]),
        "labels": torch.tensor([1, 0, 0]),
        "exit": 2,
        "confidence": 0.75,
    }
    draw_detection(ax, torch.zeros(3, 100, 100), detection, ["cup", "barn"], min_score=0.5)
    found = [(text.get_text(), text.get_ha(), text.get_position()) for text in ax.texts]
    plt.close(figure)
    assert found == [("cup 0.60", "left", (1, 5)), ("barn 0.90", "right", (99, 5))]
    assert len(ax.patches) == 2 and ax.get_title() == "exit 2, confidence 0.75"


def test_an_image_taken_for_empty_is_drawn():
    figure, ax = plt.subplots()
    nothing = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}
    draw_detection(ax, torch.zeros(3, 100, 100), {**nothing, "exit": 0, "confidence": 0.75}, ["cup"], note="note")
    plt.close(figure)
    assert ax.get_title() == "taken for empty at exit 1, confidence 0.75\nnote" and not ax.patches


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["$a^{$", "$5 or $6", "日本"])
def test_any_name_can_be_drawn(tmp_path, name):
    figure, ax = plt.subplots()
    box = {"boxes": torch.tensor([[1.0, 5, 30, 60]]), "scores": torch.tensor([0.9]), "labels": torch.tensor([0])}
    draw_detection(ax, torch.zeros(3, 99, 99), {**box, "exit": 1, "confidence": 0.5}, [name])
    try:
        save_figure(figure, tmp_path / "found.png", format="png")
    finally:
        plt.close(figure)
    assert [path.name for path in tmp_path.iterdir()] == ["found.png"]
