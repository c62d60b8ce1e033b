"""Dyn-Perceiver: a convolutional feature branch and a latent classification branch that read each other."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torchvision.models import RegNet

from .latents import BatchNorm, Carry, Read, Transition, Write

NUM_EXITS = 4


@dataclass(frozen=True)
class Exit:
    """What is known when the computation reaches an exit.

    Attributes:
        index: 1 to 4, in the order in which the exits are reached.
        logits: (N, num_classes) of this exit's classifier.
        before: (N, num_classes), the logits of the last latent classifier before it: of exit 1 at exit 2, of exit 2 at
            exits 3 and 4, None at exit 1.
        latents: (N, L, D) as they are now; at exits 1 to 3 they know more than they have written into any map.
        features: the feature maps that exist by now, "c2" (stride 4) to at most "c5" (stride 32), each (N, C, H, W).
    """

    index: int
    logits: Tensor
    features: dict[str, Tensor]
    before: Tensor | None = None
    latents: Tensor | None = None

    def take(self, images: Tensor) -> "Exit":
        """The same exit with some of the images: a boolean mask (N,) or their indices."""
        features = {name: f[images] for name, f in self.features.items()}
        before, latents = (None if x is None else x[images] for x in (self.before, self.latents))
        return Exit(self.index, self.logits[images], features, before, latents)

    def said(self) -> tuple[Tensor, ...]:
        """What classifiers say of the images here: `logits`, and `before` unless there is none."""
        return (self.logits,) if self.before is None else (self.logits, self.before)


@dataclass(frozen=True)
class State:
    """What runs on from one exit to the next.

    Attributes:
        x: (N, C, H, W), the map that the next part reads: the stem's, later the last of `features`.
        latents: (N, L, D).
        features: as in `Exit`.
        early: (N, num_classes), the logits of exit 1 or 2, whichever came last, for the next latent classifier.
    """

    x: Tensor
    latents: Tensor
    features: dict[str, Tensor]
    early: Tensor | None

    def take(self, images: Tensor) -> "State":
        """The same state with some of the images: a boolean mask (N,) or their indices."""
        x = self.x[images]  # is the last feature map, too: indexing it twice would copy it twice
        features = {name: x if f is self.x else f[images] for name, f in self.features.items()}
        return State(x, self.latents[images], features, None if self.early is None else self.early[images])


class DynPerceiver(nn.Module):
    """Dyn-Perceiver on any four-stage RegNet trunk, with its four exits (paper, Appendix A).

    Args:
        trunk: a torchvision RegNet, for example `torchvision.models.regnet_y_800mf()`. Its stem and its four
            stages are used, its classifier is not.
        num_classes: classes of each of the four classifiers.
        num_latents: latent vectors at the start; halved after each of the first three stages.
        depths: self-attention blocks of each stage.
        heads: attention heads of each stage's self-attention.
    """

    def __init__(
        self,
        trunk: RegNet,
        num_classes: int,
        *,
        num_latents: int = 128,
        depths: Sequence[int] = (3, 3, 9, 6),
        heads: Sequence[int] = (1, 2, 4, 8),
    ):
        super().__init__()
        stages = list(trunk.trunk_output.children())
        if len(stages) != 4 or len(depths) != 4 or len(heads) != 4:
            raise ValueError(f"four stages are needed, got {len(stages)} in the trunk, depths={depths}, heads={heads}")
        if num_latents < 8 or num_latents % 8:
            raise ValueError(f"num_latents is halved three times, so it must be a multiple of 8, got {num_latents}")
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        self.num_classes = num_classes
        widths = [_out_channels(part) for part in (trunk.stem, *stages)]  # of the stem, then of each stage
        latent, last = widths[:4], widths[4]
        self.out_channels = {f"c{i + 1}": w for i, w in enumerate(widths) if i}

        self.latent_dims = {1: latent[2], 2: latent[3], 3: latent[3], 4: latent[3]}  # of each exit
        self.latents = nn.Parameter(torch.empty(num_latents, latent[0]))
        nn.init.trunc_normal_(self.latents, std=0.02)
        self.stem = trunk.stem
        self.stages = nn.ModuleList(stages)
        self.reads = nn.ModuleList(Read(c, d, h) for c, d, h in zip(latent, depths, heads, strict=True))
        self.transitions = nn.ModuleList(Transition(num_latents >> i, latent[i], latent[i + 1]) for i in range(3))
        self.writes = nn.ModuleList([Write(latent[i + 1], latent[i + 1]) for i in range(3)] + [Write(last, latent[3])])
        self.carries = nn.ModuleList(Carry(num_classes, latent[3]) for _ in range(2))
        self.classifiers = nn.ModuleList(
            [
                nn.Linear(latent[2], num_classes),
                nn.Linear(2 * latent[3], num_classes),
                nn.Linear(last, num_classes),
                nn.Sequential(BatchNorm(last + 2 * latent[3]), nn.Linear(last + 2 * latent[3], num_classes)),
            ]
        )

    def exits(self, images: Tensor) -> Generator[Exit, Tensor | None, None]:
        """The four exits of a batch, one after the other and lazily: what is not asked for is not computed.

        Stop iterating and nothing deeper runs. To let some images go and continue with the others, `send` a
        boolean mask (n,) or the indices of the images to keep; the next exit then holds those alone.

        Args:
            images: (N, 3, H, W), normalised; any H and W of at least 32.
        """
        state = self.begin(images)
        for index in range(1, NUM_EXITS + 1):
            reached, state = self.advance(state, index)
            keep = yield reached
            state = state if keep is None else state.take(keep)

    def begin(self, images: Tensor) -> State:
        """What is there before the first stage; `images` as for `exits`."""
        x = self.stem(images)
        z = self.latents.expand(x.shape[0], -1, -1)
        return State(x, self.reads[0](z, x), {}, None)

    def advance(self, state: State, index: int) -> tuple[Exit, State]:
        """Exit `index` (1-4), and what runs on from there, from the state at the exit before (`begin`'s for exit 1)."""
        if index <= 2:  # exits 1 and 2 look at the latents of stages 3 and 4
            for i in (0, 1) if index == 1 else (2,):
                state = self._stage(i, state)
            told = state.latents.mean(1)
            if index == 2:
                told = torch.cat([told, self.carries[0](state.early)], dim=1)
            before, state = state.early, replace(state, early=self.classifiers[index - 1](told))
            return Exit(index, state.early, dict(state.features), before, state.latents), state
        x = self.stages[3](state.x) if index == 3 else self.writes[3](state.x, state.latents)
        told = x.mean((2, 3))
        if index == 4:
            told = torch.cat([told, state.latents.mean(1), self.carries[1](state.early)], dim=1)
        state = replace(state, x=x, features={**state.features, "c5": x})
        logits = self.classifiers[index - 1](told)
        return Exit(index, logits, dict(state.features), state.early, state.latents), state

    def _stage(self, i: int, state: State) -> State:
        """One of the first three stages, and the reading for the one after it."""
        x = self.stages[i](state.x)
        z = self.transitions[i](state.latents)
        x = self.writes[i](x, z)
        return State(x, self.reads[i + 1](z, x), {**state.features, f"c{i + 2}": x}, state.early)

    def forward(self, images: Tensor) -> list[Tensor]:
        """The logits of all four exits, each (N, num_classes)."""
        return [exit.logits for exit in self.exits(images)]


def _out_channels(module: nn.Module) -> int:
    """Channels that a RegNet stem or stage puts out: those of its last convolution."""
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)][-1].out_channels
