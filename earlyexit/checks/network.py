"""Exercises on the network, chapters 3, 4 and 10: `check("3.attention", ...)` tries an answer with `ch3_attention`."""

import functools
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.scenes import make_scene
from ..losses import exit_loss
from ..model.factories import load_detector
from .verdicts import SlipError, called, gradient, same

# Chapter 3, a network of two branches


def ch3_attention(answer, random: torch.Generator) -> None:
    """One head of attention, with keys and values of different widths."""
    q, k, v = (3 * torch.randn(2, *shape, generator=random) for shape in ((3, 4), (5, 4), (5, 6)))
    raw = q @ k.transpose(1, 2)
    slips = {
        "the scores are not divided by the square root of the width": raw.softmax(2) @ v,
        "divide by the square root of the width, not by the width": (raw / 4).softmax(2) @ v,
        "the softmax runs over the queries: the weights of each query must sum to 1": (raw / 2).softmax(1) @ v,
        "the softmax is missing: these weights can be negative": raw / 2 @ v,
    }
    same(called(answer, q, k, v), (raw / 2).softmax(2) @ v, "what the queries read", slips)


def ch3_pooled_tokens(answer, random: torch.Generator) -> None:
    """What the latents read of a map: 49 tokens."""
    x, local = torch.randn(2, 6, 14, 21, generator=random), nn.Conv2d(6, 6, 7, padding=3, groups=6)
    mixed, coarse, alone = (F.adaptive_avg_pool2d(each, 7) for each in (x + local(x), x, local(x)))

    def tokens(pooled):
        return pooled.flatten(2).transpose(1, 2)

    slips = {
        "a reshape does not turn axes round, it mixes channels and places: flatten, transpose": mixed.view(2, 49, 6),
        "what the convolution gives is added to the map, it does not replace it": tokens(alone),
        "the convolution looks at the whole map, before it is pooled": tokens(coarse + local(coarse)),
        "pool by the mean, not by the largest": tokens(F.adaptive_max_pool2d(x + local(x), 7)),
    }
    same(called(answer, x, local), tokens(mixed), "the tokens", slips)


def ch3_token_mixer(answer, random: torch.Generator) -> None:
    """A linear layer over the token axis; as many latents as channels, so that the wrong axis runs through as well."""
    z, norm, linear = torch.randn(3, 8, 8, generator=random), nn.LayerNorm(8), nn.Linear(8, 4)
    turned = z.transpose(1, 2)
    slips = {
        "this mixes channels: the layer must run over the tokens, so turn the axes first": linear(norm(z)),
        "turn the axes back: tokens are axis 1, channels axis 2": linear(norm(turned)),
        "the norm runs over the channels: it belongs behind the turn of axes": linear(norm(z).mT).mT,
        "the norm is missing": linear(turned).mT,
    }
    same(called(answer, z, norm, linear), linear(norm(turned)).mT, "the mixed latents", slips)


def ch3_second_exit(answer, random: torch.Generator) -> None:
    """Exit 2's logits from the mean latent and from what exit 1 said."""
    z, first = torch.randn(4, 6, 8, generator=random), 2 * torch.randn(4, 5, generator=random)
    first.requires_grad_()
    carry, classifier = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU()).eval(), nn.Linear(16, 5)

    def exit(latent, told):
        return classifier(torch.cat([latent, told], 1))

    slips = {
        "the latents come first, then what exit 1 said": exit(carry(first), z.mean(1)),
        "take the mean of all latents, not one of them": exit(z[:, 0], carry(first)),
        "take the mean of the latents, not the largest": exit(z.amax(1), carry(first)),
        "logits are carried, the scores before the softmax": exit(z.mean(1), carry(first.softmax(1))),
    }
    got = called(answer, z, first, carry, classifier)
    same(got, exit(z.mean(1), carry(first)), "the logits of exit 2", slips)
    gradient(got, first, "the logits of exit 1")


# Chapter 4, leaving early and still detecting


def ch4_leaves_at(answer, random: torch.Generator) -> None:
    """The first exit that is confident enough, for a batch."""
    confidence = torch.rand(4, 20, generator=random)
    confidence[:, :3] = torch.tensor([[0.1, 0.9, 0.2], [0.2, 0.9, 0.75], [0.3, 0.9, 0.1], [0.1, 0.9, 0.1]])
    thresholds = (0.8, 0.75, 0.7)  # no exit is sure of image 1, all are of image 2, and image 3 equals a threshold
    limits = torch.tensor([*thresholds, 0.0])[:, None]
    reaches = confidence >= limits
    first, last = reaches.float().argmax(0) + 1, 3 - reaches[:3].flip(0).float().argmax(0)
    slips = {
        "exits count from 1": first - 1,
        "an image that is sure enough nowhere goes on to exit 4; argmax gives 0": reaches[:3].float().argmax(0) + 1,
        "an image whose confidence equals the threshold leaves, too": (confidence > limits).float().argmax(0) + 1,
        "take the first exit that is sure enough, not the last": torch.where(reaches[:3].any(0), last, 4),
    }
    same(called(answer, confidence, thresholds), first, "the exits taken", slips)


def ch4_zero_filler(answer, random: torch.Generator) -> None:
    """Zeros for C4 and C5; odd sides, so that rounding shows."""
    channels, sizes = (4, 6, 8), ((13, 9), (7, 5), (4, 3))
    c3, c4 = (torch.randn(2, c, *size, generator=random) for c, size in zip(channels[:2], sizes[:2], strict=True))
    for maps in ([c3], [c3, c4]):
        narrow = channels[len(maps) - 1]
        slips = {
            "half of an odd side rounds up, as a stride of 2 does": _and_zeros(maps, channels, (6, 4), (3, 2)),
            "each map has channels of its own, the one before has others": _and_zeros(maps, (narrow,) * 3, *sizes[1:]),
        }
        wanted = _and_zeros(maps, channels, *sizes[1:])
        _maps(answer, maps, channels, wanted=wanted, slips=slips)


def ch4_downsample_filler(answer, random: torch.Generator) -> None:
    """Every other pixel of the last lateral map."""
    first, second = (torch.randn(2, 4, *size, generator=random) for size in ((8, 12), (4, 6)))
    for maps in ([first], [first, second]):
        wanted, means, odd = list(maps), list(maps), list(maps)
        while len(wanted) < 3:
            wanted.append(wanted[-1][:, :, ::2, ::2])
            means.append(F.avg_pool2d(means[-1], 2))
            odd.append(odd[-1][:, :, 1::2, 1::2])
        slips = {
            "keep pixels, not their mean": means,
            "keep the first of each two pixels, not the second": odd,
            "halve the last map that exists, not C3's": [None, None, first[:, :, ::4, ::4]],
            "maps that exist stay as they are": [None, first[:, :, ::2, ::2], None],
        }
        _maps(answer, maps, wanted=wanted, slips=slips)


def ch4_joint_loss(answer, random: torch.Generator) -> None:
    """Equation 2 with the distillation of the published code."""
    logits = [(2 * torch.randn(5, 6, generator=random)).requires_grad_() for _ in range(4)]
    labels, boxes = torch.randint(6, (5,), generator=random), torch.rand((), generator=random)
    theta, lambda_, distillation = (0.1 + torch.rand(3, generator=random)).tolist()
    logs = [x.log_softmax(1) for x in logits]
    one_way = sum(F.kl_div(x, logs[3], reduction="batchmean", log_target=True) for x in logs[:3])
    other_way = sum(F.kl_div(logs[3], x, reduction="batchmean", log_target=True) for x in logs[:3])
    plain = exit_loss(logits, labels, distillation=0.0)
    alike = exit_loss(logits, labels, distillation=distillation, weights=(0.25,) * 4)
    wanted = lambda_ * boxes + theta * (plain + distillation * one_way)
    swapped, over_classes = plain + distillation * other_way, plain + distillation * one_way / 6
    slips = {
        "the distillation is the other way round: the teacher's softmax weighs the differences": swapped,
        "the cross-entropy of exit 4 counts double": alike,
        "sum the distillation over classes, then take the mean over the images": over_classes,
        "the distillation is missing": plain,
    }
    slips = {message: lambda_ * boxes + theta * value for message, value in slips.items()}
    slips["theta weighs the exits' loss alone"] = theta * (lambda_ * boxes + plain + distillation * one_way)
    got = called(answer, logits, labels, boxes, theta, lambda_, distillation)
    same(got, wanted, "the joint loss", slips)
    right = theta * exit_loss(logits, labels, distillation=distillation)
    moved, aim = (torch.autograd.grad(loss, logits[3], retain_graph=True)[0] for loss in (got, right))
    slip = {"exit 4 must not learn from its students: detach it": torch.autograd.grad(wanted, logits[3])[0]}
    same(moved, aim, "the gradient at exit 4", slip)


def ch4_gmacs_saved(answer, random: torch.Generator) -> None:
    """The share of full depth's compute that is saved."""
    images, gmacs = torch.randint(1, 90, (4,), generator=random), 0.2 + torch.rand(4, generator=random).cumsum(0)
    share = (images * gmacs).sum() / (images.sum() * gmacs[3])
    slips = {
        "this is the share that is spent, not the one that is saved": share,
        "differently many images leave at each exit: weigh the exits by them": 1 - gmacs.mean() / gmacs[3],
        "this is in GMACs: divide by those of all images at exit 4": (1 - share) * images.sum() * gmacs[3],
    }
    same(called(answer, images, gmacs), 1 - share, "the share saved", slips)


def _and_zeros(maps: list[Tensor], channels: Sequence[int], *sides: tuple[int, int]) -> list[Tensor]:
    """The maps, and zeros for those of C4 and C5 that are not there."""
    all_sides = (None, *sides)
    return maps + [torch.zeros(2, channels[i], *all_sides[i]) for i in range(len(maps), 3)]


def _maps(answer, maps: list[Tensor], *more, wanted: Sequence[Tensor], slips: Mapping[str, Sequence]) -> None:
    """Try an answer on a list of maps; it must not change the list."""
    given = list(maps)
    got = called(answer, given, *more)
    if len(given) != len(maps):
        raise SlipError("your function changes the list that it is given, which others still use: work on a copy")
    if not isinstance(got, (list, tuple)) or len(got) != 3:
        size = f"{len(got)} of them" if isinstance(got, (list, tuple)) else type(got).__name__
        raise SlipError(f"give a list of three maps, yours is {size}")
    for i, aim in enumerate(wanted):
        told = {message: maps[i] for message, maps in slips.items() if maps[i] is not None}
        same(got[i], aim, f"map {i + 1} of 3", told)


# Chapter 10, early exits that cost little


def ch10_tower_macs(answer, random: torch.Generator) -> None:
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


def ch10_opinion(answer, random: torch.Generator) -> None:
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


def ch10_only_early(answer, random: torch.Generator) -> None:
    """Some children learn; nothing else changes, statistics of batch normalisation included."""
    model, kept = nn.Sequential(), ("neck", "head")
    for name in ("backbone", "neck", "head", "last"):
        model.add_module(name, nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
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
            still = f"{name} stands still: what learns is in train mode, not in eval mode"
            moved = f"the statistics of batch normalisation move in train mode: {name} has changed"
            raise SlipError(still if name.split(".")[0] in kept else moved)


# What an early exit has and what it lacks: C3, and the P4 that full depth would have made of it


def level_pairs(split: str, indices: range | list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """C3 of some scenes of a split with their P4, by the trained detector "scenes".

    C3 (N, 64, 16, 16) exists at exit 1; P4 (N, 64, 8, 8) is that of full depth, the last is as downsampling makes it.
    """
    model = _detector()
    images = [torch.from_numpy(make_scene(split, i).image.copy()).permute(2, 0, 1) / 255 for i in indices]
    with torch.inference_mode():
        batch = model.transform(images)[0].tensors
        reached = list(model.backbone.exits(batch))
        early = {"c3": reached[0].features["c3"]}
        # Clones are ordinary tensors again, which a reader may train on.
        found = [reached[0].features["c3"], model.neck(reached[-1].features)["p4"], model.neck(early)["p4"]]
    return tuple(x.clone() for x in found)


@functools.cache
def _detector():
    return load_detector("scenes")[0].eval()
