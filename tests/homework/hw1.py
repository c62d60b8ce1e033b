"""Wrong answers to homework 1, each with a part of the message that it must get."""


# %% attention: not divided by the root
def attention(queries, keys, values):
    return (queries @ keys.T).softmax(dim=1) @ values


# %% attention: instead of its root
def attention(queries, keys, values):
    return (queries @ keys.T / queries.shape[1]).softmax(dim=1) @ values


# %% attention: runs over the queries
def attention(queries, keys, values):
    return (queries @ keys.T / queries.shape[1] ** 0.5).softmax(dim=0) @ values


# %% attention: no softmax
def attention(queries, keys, values):
    return queries @ keys.T @ values / queries.shape[1] ** 0.5


# %% attention: should have shape (3, 4), yours has (3, 5)
def attention(queries, keys, values):
    return (queries @ keys.T / queries.shape[1] ** 0.5).softmax(dim=1)


# %% tokens: features themselves are missing
def tokens(features, weight):
    around = F.conv2d(features[None], weight, padding=3, groups=len(features))[0]
    return F.adaptive_avg_pool2d(around, 7).flatten(1).T


# %% tokens: convolution is missing
def tokens(features, weight):
    return F.adaptive_avg_pool2d(features, 7).flatten(1).T


# %% tokens: reshape mixes places and channels
def tokens(features, weight):
    around = F.conv2d(features[None], weight, padding=3, groups=len(features))[0]
    return F.adaptive_avg_pool2d(features + around, 7).reshape(49, -1)


# %% tokens: one token is one place
def tokens(features, weight):
    around = F.conv2d(features[None], weight, padding=3, groups=len(features))[0]
    return F.adaptive_avg_pool2d(features + around, 7).flatten(1)


# %% tokens: RuntimeError
def tokens(features, weight):
    return F.adaptive_avg_pool2d(features + F.conv2d(features[None], weight, padding=3)[0], 7).flatten(1).T


# %% x2z: latents themselves are missing
def x2z(latents, read, wq, wk, wv, wo):
    return attention(latents @ wq, read @ wk, read @ wv) @ wo


# %% x2z: output projection is missing
def x2z(latents, read, wq, wk, wv, wo):
    return latents + attention(latents @ wq, read @ wk, read @ wv)


# %% x2z: it is the latents that read
def x2z(latents, read, wq, wk, wv, wo):
    return attention(read @ wk, latents @ wq, latents @ wq)


# %% x2z: projection of the keys
def x2z(latents, read, wq, wk, wv, wo):
    return latents + attention(latents @ wq, read @ wk, read @ wk) @ wo


# %% x2z: no gradient reaches the tokens
def x2z(latents, read, wq, wk, wv, wo):
    read = read.detach()
    return latents + attention(latents @ wq, read @ wk, read @ wv) @ wo


# %% token_mixer: runs over the axis of the latents
def token_mixer(latents, weight, bias):
    return F.linear(latents, weight, bias).T


# %% token_mixer: channels are mixed, and the result
def token_mixer(latents, weight, bias):
    return F.linear(latents, weight, bias)


# %% token_mixer: latents come first
def token_mixer(latents, weight, bias):
    return F.linear(latents.T, weight, bias)


# %% token_mixer: bias is missing
def token_mixer(latents, weight, bias):
    return weight @ latents


# %% token_mixer: mixture of all
def token_mixer(latents, weight, bias):
    return latents[::2]


# %% z2x: features themselves are missing
def z2x(features, latents, wq, wk, wv):
    found = attention(features.flatten(1).T @ wq, latents @ wk, latents @ wv)
    return found.T.reshape(features.shape)


# %% z2x: swap the axes before you reshape
def z2x(features, latents, wq, wk, wv):
    found = attention(features.flatten(1).T @ wq, latents @ wk, latents @ wv)
    return features + found.reshape(features.shape)


# %% z2x: height and width are swapped
def z2x(features, latents, wq, wk, wv):
    found = attention(features.flatten(1).T @ wq, latents @ wk, latents @ wv)
    channels, height, width = features.shape
    return features + found.T.reshape(channels, width, height).transpose(1, 2)


# %% z2x: each asks with its own query
def z2x(features, latents, wq, wk, wv):
    found = attention(features.flatten(1).T @ wq, latents @ wk, latents @ wv)
    return features + found.mean(dim=0)[:, None, None]


# %% z2x: no gradient reaches the latents
def z2x(features, latents, wq, wk, wv):
    latents = latents.detach()
    found = attention(features.flatten(1).T @ wq, latents @ wk, latents @ wv)
    return features + found.T.reshape(features.shape)
