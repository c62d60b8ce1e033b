"""Exercises of chapter 5, thresholds and records."""

import torch

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


def budget(answer, random: torch.Generator) -> None:
    """The threshold of exit 1 that keeps a budget, judged by how many leave."""
    confidence = torch.randperm(40, generator=random) / 40
    for leave in (13, 0):  # of 40
        most = 10 - 4 * (leave - 0.5) / 40  # GMACs, between what `leave` images need and one image less
        threshold = float(called(answer, confidence, 6.0, 10.0, most))
        left = int((confidence >= threshold).sum())
        slips = {
            12: "the mean is more than the budget allows: round the number of images up",
            14: "one image too many leaves: of `count` images, the last has the position count - 1",
            28: "as many leave as should stay: which share leaves, and is your order the surest first?",
            1: "nobody has to leave for this budget: the threshold is infinity",
        }
        if left == leave:
            continue
        raise SlipError(slips.get(left, f"{left} of 40 images leave, {leave} should: mean of 6 and 10, at most {most}"))


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
