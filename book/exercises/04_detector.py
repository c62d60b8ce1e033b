"""Exercises of chapter 4: stubs, solutions, and wrong answers with their messages."""

# %% setup
import torch
import torch.nn.functional as F


# %% 4.leaves_at core: A whole batch leaves
def leaves_at(confidence, thresholds):
    """Confidences (4, N) and three thresholds -> (N,) exits taken, 1 to 4."""
    ...


# %% solution
def leaves_at(confidence, thresholds):
    """Confidences (4, N) and three thresholds -> (N,) exits taken, 1 to 4."""
    limits = torch.tensor([*thresholds, 0.0])
    reaches = confidence >= limits[:, None]
    return reaches.float().argmax(dim=0) + 1  # the first of the largest values


# %% wrong: count from 1
def leaves_at(confidence, thresholds):
    limits = torch.tensor([*thresholds, 0.0])
    return (confidence >= limits[:, None]).float().argmax(dim=0)


# %% wrong: sure enough nowhere
def leaves_at(confidence, thresholds):
    reaches = confidence[:3] >= torch.tensor(thresholds)[:, None]
    return reaches.float().argmax(dim=0) + 1


# %% wrong: equals the threshold
def leaves_at(confidence, thresholds):
    limits = torch.tensor([*thresholds, 0.0])
    return (confidence > limits[:, None]).float().argmax(dim=0) + 1


# %% wrong: the first exit
def leaves_at(confidence, thresholds):
    leaves = torch.full((confidence.shape[1],), 4)
    for k in range(3):
        leaves[confidence[k] >= thresholds[k]] = k + 1
    return leaves


# %% 4.zero_filler warm-up: Zeros for what is missing
def zero_filler(maps, channels):
    """Maps C3, or C3 and C4, each (N, C, H, W) -> a list of three, C3 to C5.

    `channels` are those of C3, C4 and C5.
    """
    ...


# %% solution
def zero_filler(maps, channels):
    """Maps C3, or C3 and C4, each (N, C, H, W) -> a list of three, C3 to C5.

    `channels` are those of C3, C4 and C5.
    """
    maps = list(maps)
    while len(maps) < 3:
        n, _, height, width = maps[-1].shape
        half = (height + 1) // 2, (width + 1) // 2
        maps.append(torch.zeros(n, channels[len(maps)], *half))
    return maps


# %% wrong: rounds up
def zero_filler(maps, channels):
    maps = list(maps)
    while len(maps) < 3:
        n, _, height, width = maps[-1].shape
        maps.append(torch.zeros(n, channels[len(maps)], height // 2, width // 2))
    return maps


# %% wrong: channels of its own
def zero_filler(maps, channels):
    maps = list(maps)
    while len(maps) < 3:
        n, c, height, width = maps[-1].shape
        maps.append(torch.zeros(n, c, (height + 1) // 2, (width + 1) // 2))
    return maps


# %% wrong: changes the list
def zero_filler(maps, channels):
    while len(maps) < 3:
        n, _, height, width = maps[-1].shape
        half = (height + 1) // 2, (width + 1) // 2
        maps.append(torch.zeros(n, channels[len(maps)], *half))
    return maps


# %% wrong: three maps
def zero_filler(maps, channels):
    n, _, height, width = maps[-1].shape
    half = (height + 1) // 2, (width + 1) // 2
    return [*maps, torch.zeros(n, channels[len(maps)], *half)]


# %% 4.downsample_filler core: Every other pixel
def downsample_filler(laterals):
    """One or two lateral maps, each (N, C, H, W) with even sides -> a list of three."""
    ...


# %% solution
def downsample_filler(laterals):
    """One or two lateral maps, each (N, C, H, W) with even sides -> a list of three."""
    laterals = list(laterals)
    while len(laterals) < 3:
        laterals.append(laterals[-1][:, :, ::2, ::2])
    return laterals


# %% wrong: not their mean
def downsample_filler(laterals):
    laterals = list(laterals)
    while len(laterals) < 3:
        laterals.append(F.avg_pool2d(laterals[-1], 2))
    return laterals


# %% wrong: first of each two
def downsample_filler(laterals):
    laterals = list(laterals)
    while len(laterals) < 3:
        laterals.append(laterals[-1][:, :, 1::2, 1::2])
    return laterals


# %% wrong: the last map that exists
def downsample_filler(laterals):
    first = laterals[0]
    halves = [first, first[:, :, ::2, ::2], first[:, :, ::4, ::4]]
    return [*laterals, *halves[len(laterals) :]]


# %% wrong: stay as they are
def downsample_filler(laterals):
    first = laterals[0]
    return [first, first[:, :, ::2, ::2], first[:, :, ::4, ::4]]


# %% 4.joint_loss stretch: The whole of equation 2
def joint_loss(logits, labels, boxes, theta, lambda_, distillation):
    """Logits of four exits, each (N, K), labels (N,), the detection loss -> scalar."""
    ...


# %% solution
def joint_loss(logits, labels, boxes, theta, lambda_, distillation):
    """Logits of four exits, each (N, K), labels (N,), the detection loss -> scalar."""
    exits = 0
    for weight, x in zip((0.25, 0.25, 0.25, 0.5), logits, strict=True):
        exits = exits + weight * F.cross_entropy(x, labels)
    teacher = logits[3].detach().log_softmax(dim=1)
    for x in logits[:3]:
        apart = teacher.exp() * (teacher - x.log_softmax(dim=1))
        exits = exits + distillation * apart.sum(dim=1).mean()
    return lambda_ * boxes + theta * exits


# %% wrong: other way round
def joint_loss(logits, labels, boxes, theta, lambda_, distillation):
    exits = 0
    for weight, x in zip((0.25, 0.25, 0.25, 0.5), logits, strict=True):
        exits = exits + weight * F.cross_entropy(x, labels)
    teacher = logits[3].detach().log_softmax(dim=1)
    for x in logits[:3]:
        student = x.log_softmax(dim=1)
        apart = student.exp() * (student - teacher)
        exits = exits + distillation * apart.sum(dim=1).mean()
    return lambda_ * boxes + theta * exits


# %% wrong: counts double
def joint_loss(logits, labels, boxes, theta, lambda_, distillation):
    exits = sum(0.25 * F.cross_entropy(x, labels) for x in logits)
    teacher = logits[3].detach().softmax(dim=1)
    for x in logits[:3]:
        apart = F.kl_div(x.log_softmax(dim=1), teacher, reduction="batchmean")
        exits = exits + distillation * apart
    return lambda_ * boxes + theta * exits


# %% wrong: mean over the images
def joint_loss(logits, labels, boxes, theta, lambda_, distillation):
    exits = 0
    for weight, x in zip((0.25, 0.25, 0.25, 0.5), logits, strict=True):
        exits = exits + weight * F.cross_entropy(x, labels)
    teacher = logits[3].detach().log_softmax(dim=1)
    for x in logits[:3]:
        apart = teacher.exp() * (teacher - x.log_softmax(dim=1))
        exits = exits + distillation * apart.mean()
    return lambda_ * boxes + theta * exits


# %% wrong: must not learn from its students
def joint_loss(logits, labels, boxes, theta, lambda_, distillation):
    exits = 0
    for weight, x in zip((0.25, 0.25, 0.25, 0.5), logits, strict=True):
        exits = exits + weight * F.cross_entropy(x, labels)
    teacher = logits[3].log_softmax(dim=1)
    for x in logits[:3]:
        apart = teacher.exp() * (teacher - x.log_softmax(dim=1))
        exits = exits + distillation * apart.sum(dim=1).mean()
    return lambda_ * boxes + theta * exits


# %% wrong: theta weighs
def joint_loss(logits, labels, boxes, theta, lambda_, distillation):
    exits = 0
    for weight, x in zip((0.25, 0.25, 0.25, 0.5), logits, strict=True):
        exits = exits + weight * F.cross_entropy(x, labels)
    teacher = logits[3].detach().softmax(dim=1)
    for x in logits[:3]:
        apart = F.kl_div(x.log_softmax(dim=1), teacher, reduction="batchmean")
        exits = exits + distillation * apart
    return theta * (lambda_ * boxes + exits)


# %% 4.gmacs_saved warm-up: What a mix of exits saves
def gmacs_saved(images, gmacs):
    """Images that left at exits 1-4 (4,) and GMACs of one (4,) -> share saved."""
    ...


# %% solution
def gmacs_saved(images, gmacs):
    """Images that left at exits 1-4 (4,) and GMACs of one (4,) -> share saved."""
    spent = (images * gmacs).sum()
    return 1 - spent / (images.sum() * gmacs[3])


# %% wrong: share that is spent
def gmacs_saved(images, gmacs):
    return (images * gmacs).sum() / (images.sum() * gmacs[3])


# %% wrong: differently many images
def gmacs_saved(images, gmacs):
    return 1 - gmacs.mean() / gmacs[3]


# %% wrong: in GMACs
def gmacs_saved(images, gmacs):
    return (images * (gmacs[3] - gmacs)).sum()
