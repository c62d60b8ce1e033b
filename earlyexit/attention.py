"""Attention between latents and pixels: the one building block of Dyn-Perceiver's latent branch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
        qkv_dim: width of queries, keys and values, `dim` unless told.
        heads: number of attention heads.
        widening: width of the MLP's hidden layer, in multiples of `dim`.
        key_tokens: number of context tokens that get a learned position bias; None for no bias.
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
