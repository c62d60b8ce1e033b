"""Dyn-Perceiver: a convolutional feature branch and a latent classification branch that read each other."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass

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
        features: the feature maps that exist by now, "c2" (stride 4) to at most "c5" (stride 32), each (N, C, H, W).
    """

    index: int
    logits: Tensor
    features: dict[str, Tensor]

    def take(self, images: Tensor) -> "Exit":
        """The same exit with some of the images: a boolean mask (N,) or their indices."""
        return Exit(self.index, self.logits[images], {name: f[images] for name, f in self.features.items()})


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
        x = self.stem(images)
        z = self.latents.expand(len(x), -1, -1)
        features: dict[str, Tensor] = {}
        early: list[Tensor] = []  # logits of exits 1 and 2, for the classifiers that come after
        for i, stage in enumerate(self.stages):
            z = self.reads[i](z, x)
            if i >= 2:  # exits 1 and 2 look at the latents of stages 3 and 4
                early.append(self._latent_logits(z, early))
                keep = yield Exit(i - 1, early[-1], dict(features))
                x, z, features, early = _keep(keep, x, z, features, early)
            x = stage(x)
            if i < 3:
                z = self.transitions[i](z)
                x = self.writes[i](x, z)
            features[f"c{i + 2}"] = x

        keep = yield Exit(3, self.classifiers[2](x.mean((2, 3))), dict(features))
        x, z, features, early = _keep(keep, x, z, features, early)
        x = features["c5"] = self.writes[3](x, z)
        everything = torch.cat([x.mean((2, 3)), z.mean(1), self.carries[1](early[1])], dim=1)
        yield Exit(4, self.classifiers[3](everything), dict(features))

    def _latent_logits(self, z: Tensor, early: list[Tensor]) -> Tensor:
        if not early:
            return self.classifiers[0](z.mean(1))
        return self.classifiers[1](torch.cat([z.mean(1), self.carries[0](early[0])], dim=1))

    def forward(self, images: Tensor) -> list[Tensor]:
        """The logits of all four exits, each (N, num_classes)."""
        return [exit.logits for exit in self.exits(images)]


def _keep(
    keep: Tensor | None, x: Tensor, z: Tensor, features: dict[str, Tensor], early: Iterable[Tensor]
) -> tuple[Tensor, Tensor, dict[str, Tensor], list[Tensor]]:
    """Take the images that left out of everything that runs on."""
    if keep is None:
        return x, z, features, list(early)
    # The last feature map is `x` itself: indexing it twice would copy it twice.
    kept = {name: f if f is x else f[keep] for name, f in features.items()}
    x_kept = x[keep]
    return x_kept, z[keep], {n: x_kept if f is x else f for n, f in kept.items()}, [e[keep] for e in early]


def _out_channels(module: nn.Module) -> int:
    """Channels that a RegNet stem or stage puts out: those of its last convolution."""
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)][-1].out_channels
