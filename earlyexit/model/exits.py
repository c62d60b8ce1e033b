"""Who leaves where: rules that score the images at an exit, thresholds for the scores, and a batch that thins out."""

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from .backbone import EXITS, NUM_EXITS, Exit

EMPTY_EXIT = 0  # where an image leaves whose neck and head are skipped
ROUTER_UNITS = 16  # units of a router
SCORE_LEVELS, TOP = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7), 5  # of the scores that `Worth` looks at
SIDES = (16.0, 24.0, 32.0, 48.0, 64.0, 96.0, math.inf)  # of boxes, in pixels
ROUNDING = 1e-4  # of a score beyond [0, 1]: rounding
MOST_THRESHOLD = 2.0  # 1.1 or 2 is somebody's "never", 90 is a percentage
ONE_CLASS = "one class: the exits say by a sigmoid how surely it is there, for a softmax over one class is always 1"


class Rule(nn.Module):
    """How sure the images at an exit are that they may leave: an image leaves where its score reaches a threshold.

    `forward(reached: Exit)` gives (N,) scores in [0, 1] of the images at one of the four exits and, if the rule likes,
    an (N,) mask of those that leave for good without neck, head and detections. The same object decides in
    `model(images, rule=rule)`, in ONNX graphs and on records (`rule_scores`), whose exits have logits, mean latents and
    detections, but no maps. Any function from an `Exit` to scores will do in its place; what is set as `model.rule` and
    stored with the weights is a `Rule`.
    """

    needs: tuple[str, ...] = ()  #: ("detections",) if it looks at `Exit.found`; neck and head then run at each exit
    fitted = False  #: whether it says something only once it was fitted to images, see `fit_rule`
    only_logits = False  #: whether the exits' logits are all that it looks at: to calibrate it takes the backbone alone
    skips: tuple[int, ...] = ()  #: exits at which it gives a mask, too; the last of them is what skipped images cost


class MaxSoftmax(Rule):
    """The paper's rule: the largest softmax value, see `exit_confidence`."""

    only_logits = True

    def __init__(self, exit_target: str = "single"):
        super().__init__()
        self.exit_target = exit_target

    def forward(self, reached: Exit) -> Tensor:
        """(N,) confidences of this exit's classifier."""
        return exit_confidence(reached.logits, self.exit_target)


class Certainty(Rule):
    """One minus the entropy of the softmax, as a share of the largest possible."""

    only_logits = True

    def forward(self, reached: Exit) -> Tensor:
        """(N,) certainties of this exit's classifier."""
        logs = told_apart(reached.logits).log_softmax(1)
        entropy = -(logs.exp() * logs).sum(1)
        return (1 - entropy / math.log(logs.shape[1])).clamp(0, 1)  # rounding may leave it a hair outside


class Agreement(Rule):
    """The overlap of an exit's softmax with that of the exit before: the sum of the smaller of each two values.

    The first exit has none before it and is measured by itself: the overlap with its own most likely class.
    """

    only_logits = True

    def forward(self, reached: Exit) -> Tensor:
        """(N,) overlaps."""
        p = told_apart(reached.logits).softmax(1)
        return p.amax(1) if reached.index == 1 else torch.minimum(p, told_apart(reached.so_far[-2]).softmax(1)).sum(1)


class DetectionScore(Rule):
    """The highest score of the detections at an exit, 0 without any.

    It asks neck and head, not the classifier: an image that goes on has paid for them at the exit that it passed.
    """

    needs = ("detections",)

    def forward(self, reached: Exit) -> Tensor:
        """(N,) scores."""
        scores = (found["scores"] for found in reached.found)
        return torch.stack([s.amax() if len(s) else s.new_zeros(()) for s in scores])


class SkipEmpty(Rule):
    """Another rule, and no neck and no head for images that exit 1 takes for empty.

    Args:
        rule: decides about all other images.
        probability: from which on an image is taken for empty, of a detector whose exits say which classes are present.
    """

    skips = (1,)

    def __init__(self, rule: Rule, probability: float):
        super().__init__()
        if not 0 < probability <= 1:
            raise ValueError(f"empty must be a probability above 0, got {probability}")
        self.rule, self.probability, self.needs = rule, probability, getattr(rule, "needs", ())

    def forward(self, reached: Exit) -> Tensor | tuple[Tensor, Tensor]:
        """The other rule's scores; at exit 1 the mask of the images that are taken for empty, too."""
        scores = self.rule(reached)
        return (scores, emptiness(reached.logits) >= self.probability) if reached.index == 1 else scores


class Router(Rule):
    """A few hundred weights that predict, from `rule_features`, what an image gains by going on; see `fit_router`.

    The features are normalised by their mean and std, (3, 6), on the images that it was fitted to.
    """

    fitted = True

    def __init__(self, features: int = 6):
        super().__init__()
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(features, ROUTER_UNITS), nn.Tanh(), nn.Linear(ROUTER_UNITS, 1))
            for _ in range(NUM_EXITS - 1)
        )
        self.register_buffer("mean", torch.zeros(NUM_EXITS - 1, features))
        self.register_buffer("std", torch.ones(NUM_EXITS - 1, features))

    def gain(self, features: Tensor, exit: int) -> Tensor:
        """(N,) predicted gain, in units of its spread where it was fitted."""
        return self.nets[exit - 1]((features - self.mean[exit - 1]) / self.std[exit - 1])[:, 0]

    @torch.no_grad()
    def forward(self, reached: Exit) -> Tensor:
        """(N,) scores in [0, 1]: the lower the predicted gain, the higher; 1 at exit 4."""
        if reached.index == NUM_EXITS:
            return reached.logits.new_ones(len(reached.logits))
        return (-self.gain(rule_features(reached).to(self.mean), reached.index)).sigmoid()


def rule_features(reached: Exit) -> Tensor:
    """(N, 6) what a router sees of each image at an exit: nothing that only later exits know.

    The largest softmax value, its distance from the second, the certainty, the agreement with the exit before, the
    logarithm of the sum of the exponential logits, and the largest softmax value of the exit before.
    """
    logits = told_apart(reached.logits)
    first, second = logits.softmax(1).topk(2, dim=1).values.unbind(1)
    before = exit_confidence(reached.so_far[max(reached.index - 2, 0)])
    columns = [first, first - second, Certainty()(reached), Agreement()(reached), logits.logsumexp(1), before]
    return torch.stack(columns, dim=1)


class Worth(Rule):
    """Predicts at each exit what every later exit would add to the mAP, and lets an image go where that pays.

    An image leaves where no later exit promises more than its price; `fit_worth` fits the promises and sets the price
    by a budget of compute, so that the threshold is 0.5 at every exit. They are linear in `worth_features`.

    Args:
        looks: look at the detections of an exit, too. Neck and head then run at each exit that an image passes, which
            the rule counts among what going on costs.

    Attributes:
        weight_1, bias_1, ...: (F, 4 - k) and (4 - k,), what exits k + 1 to 4 add, from the features at exit k.
        costs: (4, 4), what going on from exit k to exit j takes, as a share of full depth.
        price: what a worth has to be for each of these shares.
    """

    fitted = True

    def __init__(self, looks: bool = False):
        super().__init__()
        self.looks, self.needs = looks, ("detections",) if looks else ()
        for exit in range(1, NUM_EXITS):
            self.register_buffer(f"weight_{exit}", torch.zeros(0, NUM_EXITS - exit))
            self.register_buffer(f"bias_{exit}", torch.zeros(NUM_EXITS - exit))
        self.register_buffer("costs", torch.zeros(NUM_EXITS, NUM_EXITS))
        self.register_buffer("price", torch.zeros(()))

    def gains(self, reached: Exit) -> Tensor:
        """(N, 4 - k) what each exit after exit k is predicted to add to the mAP."""
        features = worth_features(reached, self.looks)
        weight, bias = (getattr(self, f"{name}_{reached.index}") for name in ("weight", "bias"))
        if not len(weight):
            raise ValueError("this rule was not fitted yet: fit_worth(records, budget=...) makes one that is")
        return features.to(weight) @ weight + bias

    def scores(self, gains: Tensor, exit: int) -> Tensor:
        """(N,) scores in [0, 1], 0.5 where the best of the later exits adds as much as its price, from `gains`."""
        return (-(gains - self.price * self.costs[exit - 1, exit:]).amax(1)).sigmoid()

    @torch.no_grad()
    def forward(self, reached: Exit) -> Tensor:
        """(N,) scores; 1 at exit 4."""
        if reached.index == NUM_EXITS:
            return reached.logits.new_ones(len(reached.logits)).float()
        return self.scores(self.gains(reached), reached.index)

    def _load_from_state_dict(self, state: dict, prefix: str, *more) -> None:
        for name in [name for name, _ in self.named_buffers() if prefix + name in state]:
            # How many features there are depends on the model: the file knows.
            setattr(self, name, getattr(self, name).new_empty(state[prefix + name].shape))
        super()._load_from_state_dict(state, prefix, *more)


def worth_features(reached: Exit, looks: bool = False) -> Tensor:
    """(N, F) what `Worth` sees of each image at an exit.

    The logits of all exits so far, each exit's from the largest to the smallest, their sigmoids, and the mean latent:
    all that is there anyway. With `looks`, of the detections there: how many there are above some scores, the five
    highest scores, and how many there are of which size, by the sum of their scores.
    """
    if reached.latents is None:
        raise ValueError("this rule looks at latents, which these records do not hold: collect them again")
    logits = torch.cat([told_apart(logits).sort(1, descending=True).values for logits in reached.so_far], 1)
    columns = [logits, logits.sigmoid(), reached.latents.float().mean(1)]
    if looks:
        scores, boxes = ([found[name].float() for found in reached.found] for name in ("scores", "boxes"))
        scores = F.pad(pad_sequence(scores, batch_first=True), (0, TOP))
        boxes = F.pad(pad_sequence(boxes, batch_first=True), (0, 0, 0, TOP))
        sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1).sqrt()
        columns += [torch.stack([(scores > level).sum(1) for level in SCORE_LEVELS], 1).float().log1p()]
        columns += [scores.topk(TOP, 1).values]
        columns += [torch.stack([(scores * (sides < side)).sum(1) for side in SIDES], 1).log1p()]
    return torch.cat(columns, 1)


RULES: dict[str, Callable[[], Rule]] = {
    "max softmax": MaxSoftmax,
    "entropy": Certainty,
    "agreement": Agreement,
    "detection score": DetectionScore,
    "router": Router,
    "worth": Worth,
    "worth of detections": partial(Worth, looks=True),
}


def make_rule(name: str, exit_target: str = "single") -> Rule:
    """The rule called `name`, a router with fresh weights; `ValueError` if there is none of that name."""
    if name not in RULES:
        raise ValueError(f"the rule must be one of {list(RULES)}, got {name!r}")
    return MaxSoftmax(exit_target) if name == "max softmax" else RULES[name]()


def told_apart(logits: Tensor) -> Tensor:
    """Logits (..., classes) as floats of at least two answers, of which an exit gives the one with the largest.

    Of one class the second answer is that it is not there, with the logit 0: the softmax of both is the sigmoid and its
    complement.
    """
    return logits.float() if logits.shape[-1] > 1 else F.pad(logits.float(), (0, 1))


def exit_confidence(logits: Tensor, exit_target: str = "single") -> Tensor:
    """(..., classes) logits of an exit's classifier give (...) confidences in [0, 1].

    With one class per image it is the largest softmax value, as in the paper; if there is but one class to tell, its
    sigmoid: how surely it is there. If the exits say which classes are present (`exit_target`, see
    `EarlyExitRetinaNet`), it is the probability that all of the classes are told rightly, were they independent: with
    one class that is there and all others surely absent, the probability of that one, as before.
    """
    if exit_target != "present" and logits.shape[-1] > 1:
        return logits.float().softmax(-1).amax(-1)
    p = logits.float().sigmoid()
    if exit_target != "present":
        return p[..., 0]
    return torch.maximum(p, 1 - p).prod(-1)


def emptiness(logits: Tensor) -> Tensor:
    """The probability that no class is present, of logits (..., classes) trained to say which classes are."""
    return (1 - logits.float().sigmoid()).prod(-1)


def check_thresholds(thresholds) -> tuple[float, float, float]:
    """`thresholds` as three floats; `ValueError` unless there are three, none NaN, negative or in percent."""
    given = tuple(thresholds) if isinstance(thresholds, Iterable) else (thresholds,)
    try:
        values = tuple(map(float, given))
    except (TypeError, ValueError):
        hint = "numbers, and infinity for 'never' (of a card: ModelConfig.limits)"
        raise ValueError(f"thresholds must be three {hint}, got {thresholds!r}") from None
    if len(values) != 3:
        raise ValueError(f"thresholds must be three, for exits 1-3 (exit 4 takes what is left), got {values}")
    if any(math.isnan(t) or t < 0 for t in values):
        raise ValueError(f"thresholds must be confidences of at least 0 (infinity for 'never'), got {values}")
    if any(MOST_THRESHOLD < t < math.inf for t in values):  # in silence, nobody would ever leave
        raise ValueError(
            f"thresholds must be confidences from 0 to 1 (infinity for 'never'), got {values}: percent? divide by 100"
        )
    return values


def exit_limits(thresholds: Sequence[float] | None, exit: int | None) -> tuple[float, float, float, float]:
    """The confidence from which on an image leaves at each of the four exits; infinity is "never"."""
    if thresholds is not None and exit is not None:
        raise ValueError(f"give thresholds or one exit, not both: got thresholds={thresholds} and exit={exit}")
    if exit is not None:
        if exit not in EXITS:
            raise ValueError(f"exit must be 1, 2, 3 or 4, got {exit!r}")
        return tuple(0.0 if k == exit else math.inf for k in EXITS)
    early = (math.inf,) * 3 if thresholds is None else check_thresholds(thresholds)
    return (*early, 0.0)


def asked_at(rule: Rule | None, limits: Sequence[float]) -> list[bool]:
    """At which of the exits 1-4 a rule is asked: where images may leave by their score, or be skipped."""
    return [limit < math.inf or exit in getattr(rule, "skips", ()) for exit, limit in zip(EXITS, limits, strict=True)]


def leave_early(
    stream: Generator[Exit, Tensor | None, None],
    count: int,
    limits: Sequence[float],
    detect: Callable[[Exit, list[int]], list[dict]],
    rule: Rule,
) -> list[dict]:
    """Run a batch of `count` images through its exits; what nobody waits for is not computed.

    Args:
        stream: `DynPerceiver.exits` of the batch, or anything like it: it yields exits and is sent the images to keep.
        limits: scores, by the `rule`, from which on an image leaves at exits 1-4, see `exit_limits`.
        detect: neck, head and post-processing of the images that leave at an exit, by their positions in the batch.

    Returns:
        For each image what `detect` gave, "exit" and "confidence", its score there.
    """
    results: list[dict] = [{}] * count
    waiting = list(range(count))  # positions in the batch of the images that still run
    reached, asked = next(stream), asked_at(rule, limits)
    while True:
        limit, last = limits[reached.index - 1], all(later == math.inf for later in limits[reached.index :])
        if not asked[reached.index - 1]:
            reached = next(stream)
            continue
        if getattr(rule, "needs", ()):
            reached = replace(reached, found=detect(reached, waiting))
        scores, skipped = _judge(rule, reached)
        empty = [i for i, skip in enumerate(skipped) if skip]
        go = [i for i, score in enumerate(scores) if not skipped[i] and (last or score >= limit)]
        stay = sorted({*range(len(scores))} - {*empty, *go})
        for i in empty:
            results[waiting[i]] = {**_no_detections(reached.logits), "exit": EMPTY_EXIT, "confidence": scores[i]}
        for i, found in zip(go, _found_for(go, reached, waiting, detect), strict=True):
            results[waiting[i]] = {**found, "exit": reached.index, "confidence": scores[i]}
        if not stay:
            return results
        all_stay = len(stay) == len(waiting)
        waiting = [waiting[i] for i in stay]
        reached = next(stream) if all_stay else stream.send(_indices(stay, reached.logits))


def _found_for(go: list[int], reached: Exit, waiting: list[int], detect: Callable) -> list[dict]:
    """Detections of the images that leave, by their positions among those that waited."""
    if not go:
        return []
    leaving = reached if len(go) == len(waiting) else reached.take(_indices(go, reached.logits))
    return leaving.found or detect(leaving, [waiting[i] for i in go])


def _indices(positions: list[int], like: Tensor) -> Tensor:
    """Positions as a tensor on the device, which is not waited for."""
    return torch.tensor(positions).to(like.device, non_blocking=True)


def judge(rule: Rule, reached: Exit) -> tuple[Tensor, Tensor]:
    """Of each image its score and whether neck and head are skipped, (N,) and (N,).

    `ValueError` unless the rule can be asked and speaks of each image.
    """
    if not callable(rule):
        raise ValueError(f"a rule must be a Rule or a function of an Exit, got {rule!r}: make_rule(NAME) makes one")
    judged, images = rule(reached), len(reached.logits)
    parts = (judged, torch.zeros_like(judged, dtype=torch.bool)) if isinstance(judged, Tensor) else tuple(judged)
    if len(parts) == 2 and not isinstance(judged, Tensor) and reached.index not in getattr(rule, "skips", ()):
        raise ValueError(f"a rule that gives a mask says so: {type(rule).__name__}.skips lacks exit {reached.index}")
    for part in parts:
        if part.shape != (images,):
            raise ValueError(f"a rule must give one score an image, ({images},), got {tuple(part.shape)}")
    return parts


def kind_of_rule(rule: Rule) -> str:
    """What has to be the same in two rules whose weights are to mean the same."""
    return " ".join([type(rule).__name__, *rule.needs])


def check_scores(scores: Sequence[float], rule: Rule) -> None:
    """`ValueError` unless all lie in [0, 1], where thresholds are."""
    bad = [score for score in scores if not -ROUNDING <= score <= 1 + ROUNDING]  # NaN, too
    if bad:
        raise ValueError(
            f"scores of a rule must be from 0 to 1, as thresholds are (a sigmoid sees to it), got {bad[0]:g} of "
            f"{type(rule).__name__}"
        )


def _judge(rule: Rule, reached: Exit) -> tuple[list[float], list[bool]]:
    """The same as lists: the one transfer of an exit from the device."""
    judged = torch.stack([part.double() for part in judge(rule, reached)], 1).tolist()
    scores = [score for score, _ in judged]
    check_scores(scores, rule)
    return scores, [bool(skip) for _, skip in judged]


def _no_detections(like: Tensor) -> dict[str, Tensor]:
    labels = torch.empty(0, dtype=torch.int64, device=like.device)
    return {"boxes": like.new_empty((0, 4)).float(), "scores": like.new_empty(0).float(), "labels": labels}
