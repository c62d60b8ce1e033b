"""Wrong answers to homework 2, each with a part of the message that it must get."""


# %% confidence: largest logit
def confidence(logits):
    return logits.amax(dim=1)


# %% confidence: most likely class
def confidence(logits):
    return logits.argmax(dim=1)


# %% confidence: a sigmoid looks
def confidence(logits):
    return logits.sigmoid().amax(dim=1)


# %% confidence: runs over the images
def confidence(logits):
    return logits.softmax(dim=0).amax(dim=1)


# %% confidence: one number for the whole batch
def confidence(logits):
    return logits.softmax(dim=1).max()


# %% confidence: should have shape (6,), yours has (6, 1)
def confidence(logits):
    return logits.softmax(dim=1).amax(dim=1, keepdim=True)


# %% certainty: this is the entropy
def certainty(logits):
    p = logits.softmax(dim=1)
    return -(p * p.log()).sum(dim=1)


# %% certainty: grows with doubt
def certainty(logits):
    p = logits.softmax(dim=1)
    return -(p * p.log()).sum(dim=1) / math.log(logits.shape[1])


# %% certainty: not divided by its largest
def certainty(logits):
    p = logits.softmax(dim=1)
    return 1 + (p * p.log()).sum(dim=1)


# %% certainty: divide by its logarithm
def certainty(logits):
    p = logits.softmax(dim=1)
    return 1 + (p * p.log()).sum(dim=1) / logits.shape[1]


# %% certainty: a sign is wrong
def certainty(logits):
    p = logits.softmax(dim=1)
    return 1 - (p * p.log()).sum(dim=1) / math.log(logits.shape[1])


# %% certainty: give nan
def certainty(logits):
    p = logits.softmax(dim=1)
    return 1 + (p * p.log()).sum(dim=1) / math.log(logits.shape[1])


# %% patience: numbered from 1
def patience(said):
    agree = said[1:] == said[:-1]
    return torch.where(agree.any(dim=0), agree.long().argmax(dim=0) + 1, len(said) - 1)


# %% patience: first of the two exits
def patience(said):
    agree = said[1:] == said[:-1]
    return torch.where(agree.any(dim=0), agree.long().argmax(dim=0) + 1, len(said))


# %% patience: leaves at the last exit
def patience(said):
    agree = said[1:] == said[:-1]
    return torch.where(agree.any(dim=0), agree.long().argmax(dim=0) + 2, 0)


# %% patience: must follow each other
def patience(said):
    seen = torch.stack([(said[k] == said[:k]).any(dim=0) for k in range(1, len(said))])
    return torch.where(seen.any(dim=0), seen.long().argmax(dim=0) + 2, len(said))


# %% patience: this is the last agreement
def patience(said):
    agree = (said[1:] == said[:-1]).flip(0)
    return torch.where(agree.any(dim=0), len(said) - agree.long().argmax(dim=0), len(said))


# %% leaves_at: numbered from 1
def leaves_at(scores, thresholds):
    passed = scores >= thresholds[:, None]
    return torch.where(passed.any(dim=0), passed.long().argmax(dim=0), 3)


# %% leaves_at: equals its threshold
def leaves_at(scores, thresholds):
    passed = scores > thresholds[:, None]
    return torch.where(passed.any(dim=0), passed.long().argmax(dim=0) + 1, 4)


# %% leaves_at: last exit that is sure enough
def leaves_at(scores, thresholds):
    passed = (scores >= thresholds[:, None]).flip(0)
    return torch.where(passed.any(dim=0), 3 - passed.long().argmax(dim=0), 4)


# %% leaves_at: passes no threshold
def leaves_at(scores, thresholds):
    return (scores >= thresholds[:, None]).long().argmax(dim=0) + 1


# %% leaves_at: exit with the highest score
def leaves_at(scores, thresholds):
    return scores.argmax(dim=0) + 1


# %% keep: three tensors were asked for
def keep(features, latents, scores, threshold):
    return features[scores < threshold]


# %% keep: ones that leave: go on
def keep(features, latents, scores, threshold):
    leaving = (scores >= threshold).nonzero()[:, 0]
    return leaving, features[leaving], latents[leaving]


# %% keep: you give a mask
def keep(features, latents, scores, threshold):
    staying = scores < threshold
    return staying, features[staying], latents[staying]


# %% keep: all features go on
def keep(features, latents, scores, threshold):
    staying = (scores < threshold).nonzero()[:, 0]
    return staying, features, latents[staying]


# %% keep: no longer fit
def keep(features, latents, scores, threshold):
    staying = (scores < threshold).nonzero()[:, 0]
    return staying, features[staying], latents


# %% put_back: one after the other
def put_back(values, places):
    return torch.cat(values)


# %% put_back: inverse order
def put_back(values, places):
    return torch.cat(values)[torch.cat(places)]


# %% put_back: should have shape (9, 2)
def put_back(values, places):
    return values[0]


# %% put_back: differs from what was expected
def put_back(values, places):
    result = torch.zeros(sum(map(len, values)), values[0].shape[1])
    for value, place in zip(values, places):
        result[place] += 2 * value
    return result


# %% put_back: should be a tensor or a number
def put_back(values, places):
    return [value[place.argsort()] for value, place in zip(values, places)]
