"""Exercises of chapter 3: stubs, solutions, and wrong answers with their messages."""

# %% setup
import torch
import torch.nn.functional as F


# %% 3.attention warm-up: One head of attention
def attention(queries, keys, values):
    """Queries (N, Lq, d), keys (N, Lk, d), values (N, Lk, e) -> (N, Lq, e)."""
    ...


# %% solution
def attention(queries, keys, values):
    """Queries (N, Lq, d), keys (N, Lk, d), values (N, Lk, e) -> (N, Lq, e)."""
    scores = queries @ keys.transpose(1, 2) / queries.shape[-1] ** 0.5
    return scores.softmax(dim=2) @ values


# %% wrong: not divided
def attention(queries, keys, values):
    return (queries @ keys.transpose(1, 2)).softmax(dim=2) @ values


# %% wrong: over the queries
def attention(queries, keys, values):
    scores = queries @ keys.transpose(1, 2) / queries.shape[-1] ** 0.5
    return scores.softmax(dim=1) @ values


# %% wrong: softmax is missing
def attention(queries, keys, values):
    return queries @ keys.transpose(1, 2) / queries.shape[-1] ** 0.5 @ values


# %% wrong: square root
def attention(queries, keys, values):
    return (queries @ keys.transpose(1, 2) / queries.shape[-1]).softmax(dim=2) @ values


# %% 3.pooled_tokens core: From a map to 49 tokens
def pooled_tokens(x, local):
    """Map (N, C, H, W) and a convolution that keeps its shape -> (N, 49, C)."""
    ...


# %% solution
def pooled_tokens(x, local):
    """Map (N, C, H, W) and a convolution that keeps its shape -> (N, 49, C)."""
    pooled = F.adaptive_avg_pool2d(x + local(x), 7)
    return pooled.flatten(2).transpose(1, 2)


# %% wrong: does not turn axes round
def pooled_tokens(x, local):
    pooled = F.adaptive_avg_pool2d(x + local(x), 7)
    return pooled.reshape(len(x), 49, -1)


# %% wrong: added to the map
def pooled_tokens(x, local):
    return F.adaptive_avg_pool2d(local(x), 7).flatten(2).transpose(1, 2)


# %% wrong: before it is pooled
def pooled_tokens(x, local):
    pooled = F.adaptive_avg_pool2d(x, 7)
    return (pooled + local(pooled)).flatten(2).transpose(1, 2)


# %% wrong: should have shape
def pooled_tokens(x, local):
    return F.adaptive_avg_pool2d(x + local(x), 7).flatten(2)


# %% 3.token_mixer core: Half as many latents
def token_mixer(z, norm, linear):
    """Latents (N, L, C), a LayerNorm(L) and a Linear(L, L / 2) -> (N, L / 2, C)."""
    ...


# %% solution
def token_mixer(z, norm, linear):
    """Latents (N, L, C), a LayerNorm(L) and a Linear(L, L / 2) -> (N, L / 2, C)."""
    return linear(norm(z.transpose(1, 2))).transpose(1, 2)


# %% wrong: mixes channels
def token_mixer(z, norm, linear):
    return linear(norm(z))


# %% wrong: turn the axes back
def token_mixer(z, norm, linear):
    return linear(norm(z.transpose(1, 2)))


# %% wrong: norm runs over the channels
def token_mixer(z, norm, linear):
    return linear(norm(z).transpose(1, 2)).transpose(1, 2)


# %% wrong: norm is missing
def token_mixer(z, norm, linear):
    return linear(z.transpose(1, 2)).transpose(1, 2)


# %% 3.second_exit stretch: What exit 2 says
def second_exit(z, first, carry, classifier):
    """Latents (N, L, D) and logits of exit 1 (N, K) -> logits of exit 2 (N, K).

    `carry` turns logits (N, K) into (N, D); `classifier` is a Linear(2 D, K).
    """
    ...


# %% solution
def second_exit(z, first, carry, classifier):
    """Latents (N, L, D) and logits of exit 1 (N, K) -> logits of exit 2 (N, K).

    `carry` turns logits (N, K) into (N, D); `classifier` is a Linear(2 D, K).
    """
    return classifier(torch.cat([z.mean(dim=1), carry(first)], dim=1))


# %% wrong: latents come first
def second_exit(z, first, carry, classifier):
    return classifier(torch.cat([carry(first), z.mean(dim=1)], dim=1))


# %% wrong: mean of all latents
def second_exit(z, first, carry, classifier):
    return classifier(torch.cat([z[:, 0], carry(first)], dim=1))


# %% wrong: scores before the softmax
def second_exit(z, first, carry, classifier):
    return classifier(torch.cat([z.mean(dim=1), carry(first.softmax(dim=1))], dim=1))


# %% wrong: should get a gradient
def second_exit(z, first, carry, classifier):
    return classifier(torch.cat([z.mean(dim=1), carry(first.detach())], dim=1))
