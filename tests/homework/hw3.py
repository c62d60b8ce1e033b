"""Wrong answers to homework 3, each with a part of the message that it must get."""


# %% sizes: rounds up
def sizes(height, width):
    return torch.tensor([[height // s, width // s] for s in (8, 16, 32, 64, 128)])


# %% sizes: swapped
def sizes(height, width):
    return torch.tensor([[-(-width // s), -(-height // s)] for s in (8, 16, 32, 64, 128)])


# %% sizes: not 4
def sizes(height, width):
    return torch.tensor([[-(-height // s), -(-width // s)] for s in (4, 8, 16, 32, 64)])


# %% sizes: fine to coarse
def sizes(height, width):
    return torch.tensor([[-(-height // s), -(-width // s)] for s in (128, 64, 32, 16, 8)])


# %% sizes: these are shares
def sizes(height, width):
    return torch.tensor([[height / s, width / s] for s in (8, 16, 32, 64, 128)])


# %% zeros: two tensors
def zeros(c3, channels4, channels5):
    return c3.new_zeros(c3.shape)


# %% zeros: C4 is rounded down
def zeros(c3, channels4, channels5):
    n, _, h, w = c3.shape
    return c3.new_zeros(n, channels4, h // 2, w // 2), c3.new_zeros(n, channels5, h // 4, w // 4)


# %% zeros: C4 has the size of C3
def zeros(c3, channels4, channels5):
    n, _, h, w = c3.shape
    return c3.new_zeros(n, channels4, h, w), c3.new_zeros(n, channels5, h, w)


# %% zeros: C4 has the channels
def zeros(c3, channels4, channels5):
    n, c, h, w = c3.shape
    return c3.new_zeros(n, c, -(-h // 2), -(-w // 2)), c3.new_zeros(n, c, -(-h // 4), -(-w // 4))


# %% zeros: C4 is one image
def zeros(c3, channels4, channels5):
    n, c, h, w = c3.shape
    return c3.new_zeros(channels4, -(-h // 2), -(-w // 2)), c3.new_zeros(channels5, -(-h // 4), -(-w // 4))


# %% zeros: full of ones
def zeros(c3, channels4, channels5):
    n, c, h, w = c3.shape
    return c3.new_ones(n, channels4, -(-h // 2), -(-w // 2)), c3.new_ones(n, channels5, -(-h // 4), -(-w // 4))


# %% downsample: mean of four
def downsample(level):
    return F.avg_pool2d(level, 2)


# %% downsample: largest of four
def downsample(level):
    return F.max_pool2d(level, 2)


# %% downsample: first cell is kept
def downsample(level):
    return level[..., 1::2, 1::2]


# %% downsample: height alone
def downsample(level):
    return level[..., ::2, :]


# %% downsample: width alone
def downsample(level):
    return level[..., ::2]


# %% downsample: 5 x 7 cells
def downsample(level):
    return level[..., : level.shape[2] // 2 * 2 : 2, : level.shape[3] // 2 * 2 : 2]


# %% top_down: three levels
def top_down(laterals):
    return laterals[0]


# %% top_down: nothing lies above
def top_down(laterals):
    return [2 * x for x in laterals]


# %% top_down: the level above is missing
def top_down(laterals):
    return laterals


# %% top_down: add both
def top_down(laterals):
    sums = [laterals[-1]]
    for _ in laterals[:-1]:
        sums.insert(0, F.interpolate(sums[0], scale_factor=2, mode="nearest"))
    return sums


# %% top_down: sum by sum
def top_down(laterals):
    sums = [laterals[-1]]
    for fine, above in zip(reversed(laterals[:-1]), reversed(laterals[1:])):
        sums.insert(0, fine + F.interpolate(above, scale_factor=2, mode="nearest"))
    return sums


# %% top_down: from coarse to fine
def top_down(laterals):
    sums = list(laterals)
    sums[1] = laterals[1] + F.avg_pool2d(laterals[0], 2)
    return sums


# %% own: zeros, which know nothing
def own(c3):
    return torch.zeros(len(c3), 64, 8, 8)


# %% own: same everywhere
def own(c3):
    return torch.ones(len(c3), 64, 8, 8)


# %% own: should have shape
def own(c3):
    return c3


# %% own: of downsampling's on new scenes
def own(c3):
    return c3[..., ::2, ::2]


# %% own: size of tensor
def own(c3):
    return trained["bias"] + c3[..., :7]
