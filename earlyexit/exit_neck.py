"""A neck that knows at which exit it is: a small pyramid of learned levels for each early exit.

The paper fills the levels that never came to be with zeros or copies (`EarlyExitFPN`). Here each early exit has
convolutions of its own that make its levels from the maps that are there, with fewer channels, for a cheaper head.
"""

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .neck import EarlyExitFPN

GROUPS = 8  # of the normalisation
LEVELS = ("p4", "p5", "p6", "p7")


class Refine(nn.Module):
    """A residual block with group normalisation: the depth that the backbone had no time for, on the coarsest map."""

    def __init__(self, channels: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, channels) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) gives the same shape."""
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(F.relu(norm(y)))
        return x + y


class EarlyPyramid(nn.Module):
    """P4-P7 from C3 alone, or from C3 and C4.

    P4 is the sum of a stride-2 convolution of C3 and, if there is one, a 1 x 1 convolution of C4, and then refined;
    each further level is a stride-2 convolution of the one below. There is no P3: at 3/4 of the head's compute it finds
    the smallest objects, and those are what later exits are for.

    Args:
        in_channels: channels of the maps that are there, C3 first.
        channels: channels of every level, a multiple of 8.
    """

    def __init__(self, in_channels: Sequence[int], channels: int):
        super().__init__()
        self.from_c3 = nn.Conv2d(in_channels[0], channels, 3, stride=2, padding=1)
        self.from_c4 = nn.Conv2d(in_channels[1], channels, 1) if len(in_channels) > 1 else None
        self.refine = Refine(channels)
        self.down = nn.ModuleList(nn.Conv2d(channels, channels, 3, stride=2, padding=1) for _ in LEVELS[1:])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """(N, C, H, W) maps give {"p4": (N, channels, H/2, W/2), ...}, sizes rounded up."""
        p4 = self.from_c3(maps[0])
        if self.from_c4 is not None:
            p4 = p4 + self.from_c4(maps[1])
        levels = [self.refine(p4)]
        for conv in self.down:
            levels.append(conv(F.relu(levels[-1])))
        return dict(zip(LEVELS, levels, strict=True))


class ExitNeck(EarlyExitFPN):
    """The ordinary FPN where C3-C5 exist, and an `EarlyPyramid` for each exit where they do not.

    Its FPN has the names of `EarlyExitFPN`'s, so that a detector trained the paper's way can be gone on from.

    Args:
        in_channels: channels of C3, C4 and C5.
        out_channels: channels of the levels at full depth.
        early_channels: channels of the levels at exits 1 and 2; fewer make a cheaper head.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int = 256, *, early_channels: Sequence[int]):
        super().__init__(in_channels, out_channels)
        if len(early_channels) != 2 or min(early_channels) < 1 or any(c % GROUPS for c in early_channels):
            raise ValueError(
                f"early_channels must be two multiples of {GROUPS}, for exits 1 and 2, got {list(early_channels)}"
            )
        self.early_channels = tuple(early_channels)
        self.early = nn.ModuleList(
            EarlyPyramid(in_channels[:exit], channels) for exit, channels in enumerate(early_channels, start=1)
        )

    @property
    def filler(self) -> str:
        """Always "learned": what is missing at an exit is made by weights of that exit."""
        return "learned"

    @filler.setter
    def filler(self, filler: str) -> None:
        # "downsample" is what the constructor of `EarlyExitFPN` sets.
        if filler not in ("learned", "downsample"):
            raise ValueError(f"this neck's early levels are learned, it cannot take the filler {filler!r}")

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Feature maps "c3" to "c5" give "p3" to "p7"; without "c5", "p4" to "p7" with that exit's channels."""
        maps = [features[name] for name in self.names if name in features]
        if not 0 < len(maps) < 3:
            return super().forward(features)
        if list(self.names[: len(maps)]) != [name for name in self.names if name in features]:
            raise ValueError(f"the pyramid needs C3, then C4, then C5; got {sorted(features)}")
        return self.early[len(maps) - 1](maps)
