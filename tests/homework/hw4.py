"""Wrong answers to homework 4, each with a part of the message that it must get."""


# %% joint_loss: are swapped
def joint_loss(classification, boxes, exits, theta, lambda_):
    return theta * (classification + boxes) + lambda_ * exits


# %% joint_loss: boxes too
def joint_loss(classification, boxes, exits, theta, lambda_):
    return lambda_ * classification + boxes + theta * exits


# %% joint_loss: loss of the boxes is missing
def joint_loss(classification, boxes, exits, theta, lambda_):
    return lambda_ * classification + theta * exits


# %% joint_loss: theta is missing
def joint_loss(classification, boxes, exits, theta, lambda_):
    return lambda_ * (classification + boxes) + exits


# %% joint_loss: lambda is missing
def joint_loss(classification, boxes, exits, theta, lambda_):
    return classification + boxes + theta * exits


# %% focal: quiets what is right
def focal(logits, targets):
    alpha = 0.25 * targets + 0.75 * (1 - targets)
    return (alpha * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")).sum()


# %% focal: alpha is missing
def focal(logits, targets):
    p = logits.sigmoid()
    right = p * targets + (1 - p) * (1 - targets)
    return ((1 - right) ** 2 * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")).sum()


# %% focal: 1 - alpha to background
def focal(logits, targets):
    p = logits.sigmoid()
    right = p * targets + (1 - p) * (1 - targets)
    alpha = 0.75 * targets + 0.25 * (1 - targets)
    return (alpha * (1 - right) ** 2 * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")).sum()


# %% focal: upside down
def focal(logits, targets):
    p = logits.sigmoid()
    right = p * targets + (1 - p) * (1 - targets)
    alpha = 0.25 * targets + 0.75 * (1 - targets)
    return (alpha * right**2 * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")).sum()


# %% focal: this is the mean
def focal(logits, targets):
    p = logits.sigmoid()
    right = p * targets + (1 - p) * (1 - targets)
    alpha = 0.25 * targets + 0.75 * (1 - targets)
    return (alpha * (1 - right) ** 2 * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")).mean()


# %% focal: inf or nan
def focal(logits, targets):
    p = logits.sigmoid()
    right = p * targets + (1 - p) * (1 - targets)
    alpha = 0.25 * targets + 0.75 * (1 - targets)
    return -(alpha * (1 - right) ** 2 * right.log()).sum()


# %% exits_loss: weights are missing
def exits_loss(logits, labels, weights):
    return sum(F.cross_entropy(one, labels) for one in logits)


# %% exits_loss: no weighted mean
def exits_loss(logits, labels, weights):
    return sum(w * F.cross_entropy(one, labels) for w, one in zip(weights, logits)) / weights.sum()


# %% exits_loss: mean over exits
def exits_loss(logits, labels, weights):
    return torch.stack([w * F.cross_entropy(one, labels) for w, one in zip(weights, logits)]).mean()


# %% exits_loss: this is their sum
def exits_loss(logits, labels, weights):
    return sum(w * F.cross_entropy(one, labels, reduction="sum") for w, one in zip(weights, logits))


# %% exits_loss: last exit alone
def exits_loss(logits, labels, weights):
    return weights[-1] * F.cross_entropy(logits[-1], labels)


# %% distillation: wrong way round
def distillation(early, last):
    teacher, student = last.detach().log_softmax(1), early.log_softmax(1)
    return (student.exp() * (student - teacher)).sum(1).mean()


# %% distillation: own entropy
def distillation(early, last):
    return F.cross_entropy(early, last.detach().softmax(1))


# %% distillation: reduction='mean'
def distillation(early, last):
    return F.kl_div(early.log_softmax(1), last.detach().softmax(1), reduction="mean")


# %% distillation: sum over images
def distillation(early, last):
    return F.kl_div(early.log_softmax(1), last.detach().softmax(1), reduction="sum")


# %% distillation: learns from its students
def distillation(early, last):
    return F.kl_div(early.log_softmax(1), last.softmax(1), reduction="batchmean")


# %% distillation: no gradient reaches the early
def distillation(early, last):
    return F.kl_div(early.detach().log_softmax(1), last.detach().softmax(1), reduction="batchmean")


# %% cosine: lengths go over all
def cosine(ours, others):
    pairs = [(a, b) for a, b in zip(ours, others) if a is not None and b is not None]
    a, b = (torch.cat([x.flatten() for x in side]) for side in zip(*pairs))
    return F.cosine_similarity(a, b, dim=0)


# %% cosine: mean of the tensors
def cosine(ours, others):
    pairs = [(a, b) for a, b in zip(ours, others) if a is not None and b is not None]
    return torch.stack([F.cosine_similarity(a.flatten(), b.flatten(), dim=0) for a, b in pairs]).mean()


# %% cosine: divide by both
def cosine(ours, others):
    return sum((a * b).sum() for a, b in zip(ours, others) if a is not None and b is not None)


# %% cosine: not multiplied
def cosine(ours, others):
    product = sum((a * b).sum() for a, b in zip(ours, others) if a is not None and b is not None)
    lengths = [sum((x**2).sum() for x in one if x is not None) ** 0.5 for one in (ours, others)]
    return product / sum(lengths)


# %% cosine: one length alone
def cosine(ours, others):
    product = sum((a * b).sum() for a, b in zip(ours, others) if a is not None and b is not None)
    return product / sum((x**2).sum() for x in ours if x is not None) ** 0.5


# %% cosine: TypeError
def cosine(ours, others):
    return F.cosine_similarity(torch.cat(ours), torch.cat(others), dim=0)
