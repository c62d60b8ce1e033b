"""Exercises of chapter 10, early exits that cost little."""

import torch
from torch import Tensor, nn

from .verdicts import SlipError, called, gradient, same


def tower_macs(answer, random: torch.Generator) -> None:
    """Multiply-adds of a head's tower on all levels."""
    height, width, channels, convs = torch.randint(2, 9, (4,), generator=random).tolist()
    levels = [(4 * height, 4 * width), (2 * height, 2 * width), (height, width)]
    wanted = 21 * height * width * convs * 9 * channels**2
    slips = {
        "a 3 x 3 convolution looks at nine neighbours of each cell": wanted / 9,
        "every channel that comes out looks at every channel in: their number counts twice": wanted / channels,
        "this is one convolution of the tower": wanted / convs,
        "this is the finest level alone: the head runs on all of them": wanted * 16 / 21,
    }
    same(float(called(answer, levels, channels, convs)), float(wanted), "the number of multiply-adds", slips)


def opinion(answer, random: torch.Generator) -> None:
    """The classifier's opinion moves the logits of all anchors."""
    logits, heard = torch.randn(4, 3, 5, generator=random), 6 * torch.randn(4, 5, generator=random)
    heard.requires_grad_()
    gain, bias = (0.2 + torch.rand(2, generator=random)).tolist()
    p = heard.softmax(1)

    def moved(by: Tensor) -> Tensor:
        return logits + gain * by[:, None] + bias

    wanted = moved(p.clamp(min=0.001).log())
    slips = {
        "the floor of 0.001 is missing: a class could be ruled out": moved(p.log()),
        "the logarithm of the softmax is added, not the softmax": moved(p.clamp(min=0.001)),
        "the softmax is over the classes, yours is over the images": moved(heard.softmax(0).clamp(min=0.001).log()),
        "the gain weighs the opinion, not the bias": logits + gain * (p.clamp(min=0.001).log()[:, None] + bias),
        "these are raw class logits: the logarithm of the softmax was asked for": moved(heard),
    }
    got = called(answer, logits, heard, gain, bias)
    same(got, wanted, "the moved logits", slips)
    gradient(got, heard, "the class logits")


def only_early(answer, random: torch.Generator) -> None:
    """Some children learn; nothing else changes, statistics of batch normalisation included."""
    parts = {
        name: nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)) for name in ("backbone", "neck", "head", "last")
    }
    model, kept = nn.Sequential(), ("neck", "head")
    for name, part in parts.items():
        model.add_module(name, part)
    names = called(answer, model, kept)
    learn = {name for name, p in model.named_parameters() if p.requires_grad}
    wanted = {name for name, _ in model.named_parameters() if name.split(".")[0] in kept}
    if learn and not learn & wanted:
        raise SlipError("the other way round: the parts that are named learn, all others stand still")
    if learn != wanted:
        wrong = sorted(learn ^ wanted)[0]
        raise SlipError(f"{wrong} {'still learns' if wrong in learn else 'does not learn'}: look at requires_grad")
    if set(names) != wanted:
        raise SlipError("return the names of the parameters that learn")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.randn(4, 3, 5, 5, generator=random))
    for name, value in model.state_dict().items():
        if "running_mean" in name and (name.split(".")[0] in kept) == torch.equal(value, before[name]):
            if name.split(".")[0] in kept:
                raise SlipError(f"{name} stands still: what learns is in train mode, not in eval mode")
            raise SlipError(f"the statistics of batch normalisation move in train mode: {name} has changed")
