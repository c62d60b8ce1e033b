"""What happens between the two branches at a stage: read, think, hand on, write."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import AttentionBlock


class Read(nn.Module):
    """X2Z and self-attention: the latents read the feature map, then think (Dyn-Perceiver, section 3.2)."""

    def __init__(self, dim: int, depth: int, heads: int, pool: int = 7):
        super().__init__()
        self.local = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.pool = nn.AdaptiveAvgPool2d(pool)
        self.cross = AttentionBlock(dim, dim, key_tokens=pool * pool)
        self.blocks = nn.ModuleList(AttentionBlock(dim, heads=heads, widening=4) for _ in range(depth))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """Latents (N, L, C) and feature map (N, C, H, W) give latents (N, L, C)."""
        pooled = self.pool(x + self.local(x))
        z = self.cross(z, pooled.flatten(2).transpose(1, 2))
        for block in self.blocks:
            z = block(z)
        return z


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
    -1 and 1 whatever they hold. Train with small batches only with `norm="frozen"`, see `earlyexit.freezing`.
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
