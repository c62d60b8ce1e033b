"""Exercises of chapter 5, thresholds and records."""

import torch

from ..evaluation import calibrate_thresholds, threshold_exits
from .verdicts import SlipError, called, same


def reached(answer, random: torch.Generator) -> None:
    """Share of right answers and mean GMACs of a choice of exits."""
    right, gmacs = torch.rand(4, 50, generator=random) < 0.6, torch.rand(4, 50, generator=random).sort(0).values
    chosen, image = torch.randint(1, 5, (50,), generator=random), torch.arange(50)

    def means(hits, costs):
        return torch.stack([hits.double().mean(), costs.double().mean()])

    wanted = means(right[chosen - 1, image], gmacs[chosen - 1, image])
    slips = {
        "you took whole rows: `right[chosen - 1]` has all images of an exit, an image needs its own exit": means(
            right[chosen - 1], gmacs[chosen - 1]
        ),
        "exits count from 1, rows from 0": means(right[chosen % 4, image], gmacs[chosen % 4, image]),
        "an exit's GMACs are those of all exits up to it already: do not add them up": means(
            right[chosen - 1, image], gmacs.cumsum(0)[chosen - 1, image]
        ),
    }
    same(called(answer, right, gmacs, chosen), wanted, "share right and mean GMACs", slips)


def calibrate(answer, random: torch.Generator) -> None:
    """Thresholds of exits 1-3, judged by who leaves where."""
    confidence = torch.randperm(4 * 40, generator=random).reshape(4, 40) / 160
    shares = torch.tensor([0.3, 0.2, 0.25, 0.25])
    thresholds = called(answer, confidence, shares)
    same(torch.as_tensor(thresholds).isnan().sum(), 0, "the number of thresholds that are NaN")
    wanted = calibrate_thresholds(confidence, shares)
    count = torch.tensor([12, 8, 10])
    ranked, exit = confidence.sort(dim=1, descending=True).values, torch.arange(3)
    slips = {"some of the surest are those who have left: count those who are still there": ranked[exit, count - 1]}
    if torch.as_tensor(thresholds).shape == (3,):
        first = int((confidence[0] >= thresholds[0]).sum())
        if first == 13:
            raise SlipError("one image too many leaves: of `count` images, the last has the position count - 1")
        if first == 29:
            raise SlipError("the least sure leave: sort with the largest first")
        second = threshold_exits(confidence, [float(t) for t in thresholds]).bincount(minlength=5)[2]
        if first == 12 and second == 5:
            raise SlipError("shares are of all images, not of those who are still there")
    same(thresholds, torch.tensor(wanted), "the thresholds", slips)


def go_on(answer, random: torch.Generator) -> None:
    """Who goes on, if at most some may, so that most is gained."""
    early, late = torch.rand(2, 30, generator=random)
    for count in (5, 25):
        gain = late - early
        order = {"gain": gain.argsort(descending=True), "late": late.argsort(descending=True), "early": early.argsort()}
        best = {name: torch.zeros(30, dtype=torch.bool).index_fill(0, o[:count], True) for name, o in order.items()}
        slips = {
            "you send on those who are worth most late, not what they gain by going": best["late"] & (gain > 0),
            "you send on those who are worst early, and some of them stay as bad": best["early"] & (gain > 0),
            "everyone who gains goes on, with no heed of the budget": gain > 0,
            "some go on who lose by it": best["gain"],
        }
        same(called(answer, early, late, count), best["gain"] & (gain > 0), "who goes on", slips)
