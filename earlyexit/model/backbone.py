"""Dyn-Perceiver: a convolutional feature branch and a latent classification branch that read each other."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import RegNet

from .trunks import Trunk, as_trunk

EXITS = (1, 2, 3, 4)
NUM_EXITS = len(EXITS)
FIRST_READS = ("published", "merged")


class Attention(nn.Module):
    """Multi-head attention of `queries` over `context`, with its own width for queries, keys and values.

    Args:
        dim: channels of the queries and of the result.
        context_dim: channels of the context.
        qkv_dim: channels of queries, keys and values together (all heads).
        heads: number of heads; must divide `qkv_dim`.
        key_tokens: with a number, a learned position bias for that many context tokens is added to the keys.
    """

    def __init__(self, dim: int, context_dim: int, qkv_dim: int, heads: int = 1, key_tokens: int | None = None):
        super().__init__()
        if qkv_dim % heads:
            raise ValueError(f"heads must divide qkv_dim, got heads={heads} and qkv_dim={qkv_dim}")
        self.heads = heads
        self.query = nn.Linear(dim, qkv_dim, bias=False)
        self.key = nn.Linear(context_dim, qkv_dim, bias=False)
        self.value = nn.Linear(context_dim, qkv_dim, bias=False)
        self.out = nn.Linear(qkv_dim, dim)
        self.key_bias = nn.Parameter(torch.zeros(1, key_tokens, qkv_dim)) if key_tokens else None
        if self.key_bias is not None:
            nn.init.trunc_normal_(self.key_bias, std=0.02)

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        """(N, Lq, dim) attends to (N, Lk, context_dim) and gives (N, Lq, dim)."""
        key = self.key(context)
        if self.key_bias is not None:
            key = key + self.key_bias
        q, k, v = (self._split(t) for t in (self.query(queries), key, self.value(context)))
        mixed = F.scaled_dot_product_attention(q, k, v)  # (N, heads, Lq, qkv_dim / heads)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _split(self, tokens: Tensor) -> Tensor:
        """(N, L, qkv_dim) to (N, heads, L, qkv_dim / heads)."""
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


class AttentionBlock(nn.Module):
    """Attention and an MLP, both residual and both behind a LayerNorm (paper, Figure 2; Dyn-Perceiver, section 3).

    With `context_dim` the block is cross-attention: queries and context each have a LayerNorm of their own.
    Without it the block is self-attention and one LayerNorm serves both.

    Args:
        dim: channels of the tokens that are updated.
        context_dim: channels of the tokens that are read; None for self-attention.
        qkv_dim, heads, key_tokens: see `Attention`; the width is `dim` unless told.
        widening: width of the MLP's hidden layer, in multiples of `dim`.
    """

    def __init__(
        self,
        dim: int,
        context_dim: int | None = None,
        *,
        qkv_dim: int | None = None,
        heads: int = 1,
        widening: int = 1,
        key_tokens: int | None = None,
    ):
        super().__init__()
        self.query_norm = nn.LayerNorm(dim)
        self.context_norm = nn.LayerNorm(context_dim) if context_dim else None
        self.attention = Attention(dim, context_dim or dim, qkv_dim or dim, heads, key_tokens)
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, widening * dim), nn.GELU(), nn.Linear(widening * dim, dim)
        )

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """Update `tokens` (N, L, dim) from `context` (N, Lk, context_dim), or from themselves without one."""
        if (context is None) != (self.context_norm is None):
            kind = "self-attention takes no context" if self.context_norm is None else "cross-attention needs a context"
            raise ValueError(f"{kind}, got context={None if context is None else tuple(context.shape)}")
        queries = self.query_norm(tokens)
        read = queries if context is None else self.context_norm(context)
        tokens = tokens + self.attention(queries, read)
        return tokens + self.mlp(tokens)


class Read(nn.Module):
    """X2Z and self-attention: the latents read the feature map, then think (Dyn-Perceiver, section 3.2).

    Of the convolved map the latents see 7 x 7 means alone. Convolution and mean are linear, so "merged" makes both one
    convolution that looks where the means are: the same up to rounding, at a 13th of the compute on a map of 64 x 64.
    It takes a map whose windows are alike, which are those with a side of 7 n or 7 n + 1.

    Args:
        dim: channels of map and latents.
        depth, heads: self-attention blocks, and their heads.
        first_read: "published", or "merged" on maps of at least 32 x 32 that it takes.
    """

    def __init__(self, dim: int, depth: int, heads: int, first_read: str = "published"):
        super().__init__()
        self.first_read = first_read
        self.local = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.pool = nn.AdaptiveAvgPool2d(7)
        self.cross = AttentionBlock(dim, dim, key_tokens=7 * 7)
        self.blocks = nn.ModuleList(AttentionBlock(dim, heads=heads, widening=4) for _ in range(depth))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """Latents (N, L, C) and feature map (N, C, H, W) give latents (N, L, C)."""
        merged = self.first_read == "merged" and all(side >= 32 and side % 7 <= 1 for side in map(int, x.shape[-2:]))
        pooled = self._merged(x) if merged else self.pool(x + self.local(x))
        z = self.cross(z, pooled.flatten(2).transpose(1, 2))
        for block in self.blocks:
            z = block(z)
        return z

    def _merged(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 7, 7), what `pool(x + local(x))` gives."""
        weight = self.local.weight + F.pad(self.local.weight.new_ones(1, 1), (3, 3, 3, 3))  # the map itself, too
        (rows, down), (columns, across) = (_window_means(int(side), weight) for side in x.shape[-2:])
        return F.conv2d(x, (weight.mT @ rows).mT @ columns, self.local.bias, (down, across), 3, groups=x.shape[1])


def _window_means(side: int, like: Tensor) -> tuple[Tensor, int]:
    """(7, 6 + n): row d has 1 / n at the n places d, d + 1, ... of a window; and the step from window to window."""
    step, length = side // 7, side // 7 + side % 7
    return like.new_full((7, 6 + length), 1 / length).triu().tril(length - 1), step


class Write(nn.Module):
    """Z2X: every pixel queries the latents; the result is the feature map that the detector sees."""

    def __init__(self, dim: int, latent_dim: int):
        super().__init__()
        self.cross = AttentionBlock(dim, latent_dim, qkv_dim=dim // 8)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Feature map (N, C, H, W) and latents (N, L, D) give a feature map (N, C, H, W)."""
        n, c, h, w = x.shape
        tokens = self.cross(x.flatten(2).transpose(1, 2), z)  # (N, HW, C)
        # As a view, (N, HW, C) is already a channels-last map; only a channels-first network needs the copy.
        x_new = tokens.transpose(1, 2).unflatten(2, (h, w))
        return x_new if x.is_contiguous(memory_format=torch.channels_last) else x_new.contiguous()


class Transition(nn.Module):
    """Between two stages: half the latents (token mixer), at the next stage's width (expander)."""

    def __init__(self, tokens: int, dim: int, next_dim: int):
        super().__init__()
        self.mixer = nn.Sequential(nn.LayerNorm(tokens), nn.Linear(tokens, tokens // 2))
        self.expander = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, next_dim))

    def forward(self, z: Tensor) -> Tensor:
        """(N, L, C) to (N, L / 2, next C)."""
        z = self.mixer(z.transpose(1, 2)).transpose(1, 2)
        return self.expander(z)


class BatchNorm(nn.BatchNorm1d):
    """BatchNorm1d that also trains on a batch of one image, with its running statistics.

    One row has no variance, so PyTorch's own stops with an error. Two rows are hardly better: they are normalised to
    -1 and 1 whatever they hold. Train with small batches only with frozen normalisations, see
    `earlyexit.training.set_norms`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) to (N, C)."""
        if not self.training or len(x) > 1:
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class Carry(nn.Sequential):
    """T, the information flow between classifiers: one exit's logits as an input of the next."""

    def __init__(self, num_classes: int, dim: int):
        super().__init__(nn.Linear(num_classes, dim), BatchNorm(dim), nn.ReLU())


@dataclass(frozen=True)
class Exit:
    """What is known when the computation reaches an exit: all that a rule of leaving may look at, or that runs on."""

    index: int  #: 1 to 4, in the order in which the exits are reached; 0 is before the first
    so_far: tuple[Tensor | None, ...]  #: logits of exits 1 to `index`, (N, classes); None if nobody computed them
    #: the feature maps that exist by now, "c2" (stride 4) to at most "c5" (stride 32), each (N, C, H, W); before the
    #: first exit the stem's alone
    features: dict[str, Tensor] = field(default_factory=dict)
    #: (N, L, D) as they are now; at exits 1 to 3 they know more than they have written into any map
    latents: Tensor | None = None
    found: list[dict] | None = None  #: the N images' detections here, for rules that need them

    @property
    def logits(self) -> Tensor:
        """(N, classes) of this exit's classifier."""
        return self.so_far[-1]

    @property
    def deepest(self) -> Tensor:
        """The last of the feature maps, which the next part of the network reads."""
        return list(self.features.values())[-1]

    def said(self) -> tuple[Tensor, ...]:
        """What classifiers say of the images here: this exit's logits and, after exit 1, those of the last latent
        classifier before it: of exit 1 at exit 2, of exit 2 at exits 3 and 4."""
        return (self.logits,) if self.index == 1 else (self.logits, self.so_far[min(self.index, 3) - 2])

    def take(self, images: Tensor) -> "Exit":
        """The same exit with some of the images, by their indices (n,); a boolean mask (N,) will do without `found`."""
        so_far = tuple(None if logits is None else logits[images] for logits in self.so_far)
        features = {name: f[images] for name, f in self.features.items()}
        latents = None if self.latents is None else self.latents[images]
        found = None if self.found is None else [self.found[i] for i in images.tolist()]
        return Exit(self.index, so_far, features, latents, found)


class DynPerceiver(nn.Module):
    """Dyn-Perceiver on a trunk of four stages, with its four exits (paper, Appendix A).

    Args:
        trunk: a `Trunk`, or what `as_trunk` makes one of, for example `torchvision.models.regnet_y_800mf()`.
        num_classes: classes of each of the four classifiers.
        num_latents: latent vectors at the start; halved after each of the first three stages.
        depths: self-attention blocks of each stage.
        heads: attention heads of each stage's self-attention; by default as many as its width allows, see `heads_of`.
        first_read: "published", or "merged": the same on large maps for less compute, see `Read`.
    """

    def __init__(
        self,
        trunk: Trunk | RegNet | nn.Module,
        num_classes: int,
        *,
        num_latents: int = 128,
        depths: Sequence[int] = (3, 3, 9, 6),
        heads: Sequence[int] | None = None,
        first_read: str = "published",
    ):
        super().__init__()
        if first_read not in FIRST_READS:
            raise ValueError(f"first_read must be one of {FIRST_READS}, got {first_read!r}")
        trunk = as_trunk(trunk)
        latent, last = trunk.widths[:4], trunk.widths[-1]  # the latents' widths are those of the maps that they read
        heads = [heads_of(width) for width in latent] if heads is None else heads
        if len(trunk.stages) != 4 or len(depths) != 4 or len(heads) != 4:
            got = f"{len(trunk.stages)} in the trunk, depths={depths}, heads={heads}"
            raise ValueError(f"four stages are needed, got {got}")
        if num_latents < 8 or num_latents % 8:
            raise ValueError(f"num_latents is halved three times, so it must be a multiple of 8, got {num_latents}")
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        if min(trunk.widths) < 8:
            raise ValueError(f"Z2X has an eighth of a map's channels, so all must be 8 at least, got {trunk.widths}")
        self.num_classes, self.first_read = num_classes, first_read
        self.out_channels = {f"c{i + 1}": w for i, w in enumerate(trunk.widths) if i}
        self.image_mean, self.image_std = trunk.mean, trunk.std

        self.latent_dims = {1: latent[2], 2: latent[3], 3: latent[3], 4: latent[3]}  # of each exit
        self.latents = nn.Parameter(torch.empty(num_latents, latent[0]))
        nn.init.trunc_normal_(self.latents, std=0.02)
        self.stem = trunk.stem
        self.stages = nn.ModuleList(trunk.stages)
        self.reads = nn.ModuleList(Read(c, d, h, first_read) for c, d, h in zip(latent, depths, heads, strict=True))
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
        reached = self.begin(images)
        for _ in EXITS:
            reached = self.advance(reached)
            keep = yield reached
            reached = reached if keep is None else reached.take(keep)

    def begin(self, images: Tensor) -> Exit:
        """What is known before the first stage; `images` as for `exits`."""
        x = self.stem(images)
        z = self.latents.expand(x.shape[0], -1, -1)
        return Exit(0, (), {"c1": x}, self.reads[0](z, x))

    def advance(self, reached: Exit) -> Exit:
        """The next exit, from what is known at the one before it; the first from what `begin` gives."""
        index = reached.index + 1
        if index <= 2:  # exits 1 and 2 look at the latents of stages 3 and 4
            for i in (0, 1) if index == 1 else (2,):
                reached = self._stage(i, reached)
            told = reached.latents.mean(1)
            if index == 2:
                told = torch.cat([told, self.carries[0](reached.so_far[0])], dim=1)
        else:
            x = reached.deepest
            x = self.stages[3](x) if index == 3 else self.writes[3](x, reached.latents)
            reached = replace(reached, features={**reached.features, "c5": x})
            told = x.mean((2, 3))
            if index == 4:
                told = torch.cat([told, reached.latents.mean(1), self.carries[1](reached.so_far[1])], dim=1)
        return replace(reached, index=index, so_far=(*reached.so_far, self.classifiers[index - 1](told)))

    def _stage(self, i: int, reached: Exit) -> Exit:
        """One of the first three stages, and the reading for the one after it."""
        x = self.stages[i](reached.deepest)
        z = self.transitions[i](reached.latents)
        x = self.writes[i](x, z)
        features = {name: f for name, f in reached.features.items() if name != "c1"}  # large, and of no more use
        return replace(reached, features={**features, f"c{i + 2}": x}, latents=self.reads[i + 1](z, x))

    def forward(self, images: Tensor) -> list[Tensor]:
        """The logits of all four exits, each (N, num_classes)."""
        return [exit.logits for exit in self.exits(images)]


def heads_of(width: int) -> int:
    """Attention heads for latents of `width` channels: up to 8, each with at least 24 channels, if they divide it.

    For the paper's widths 32, 64, 144 and 320 that gives the paper's heads: 1, 2, 4 and 8.
    """
    return next(h for h in (8, 4, 2, 1) if h == 1 or (width % h == 0 and width // h >= 24))
