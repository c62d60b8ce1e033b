"""Wrong answers to homework 5, each with a part of the message that it must get."""


# %% spent: numbered from 1
def spent(exits, costs):
    return costs[exits % len(costs)].mean()


# %% spent: their sum
def spent(exits, costs):
    return costs[exits - 1].sum()


# %% spent: that of exit 1 in it
def spent(exits, costs):
    return costs.cumsum(0)[exits - 1].mean()


# %% spent: whoever leaves
def spent(exits, costs):
    return costs.mean()


# %% spent: as a share
def spent(exits, costs):
    return costs[exits - 1].mean() / costs[-1]


# %% lots: between neighbours
def lots(worth, costs, budget):
    mean, k = worth.mean(dim=1), int((costs <= budget).sum()) - 1
    share = (budget - costs[k]) / (costs[k + 1] - costs[k])
    return mean[k] + share * (mean[k + 1] - mean[k])


# %% lots: the first and the last
def lots(worth, costs, budget):
    mean, share = worth.mean(dim=1), (budget - costs[0]) / (costs[-1] - costs[0])
    return mean[0] + share * (mean[-1] - mean[0])


# %% lots: without a lottery
def lots(worth, costs, budget):
    return worth.mean(dim=1)[int((costs <= budget).sum()) - 1]


# %% lots: other way round
def lots(worth, costs, budget):
    mean, share = worth.mean(dim=1), (budget - costs[0]) / (costs[-1] - costs[0])
    return (1 - share) * mean[-1] + share * mean[0]


# %% lots: mean over images
def lots(worth, costs, budget):
    mean, share = worth.sum(dim=1), (budget - costs[0]) / (costs[-1] - costs[0])
    return mean[0] + share * (mean[-1] - mean[0])


# %% lots: not a share
def lots(worth, costs, budget):
    mean = worth.mean(dim=1)
    return mean[0] + budget * (mean[-1] - mean[0])


# %% fit: leave it out of the penalty
def fit(features, gains, strength):
    x = torch.cat([features, torch.ones(len(features), 1)], dim=1)
    return torch.linalg.solve(x.T @ x + strength * torch.eye(x.shape[1]), x.T @ gains)


# %% fit: penalty is missing
def fit(features, gains, strength):
    x = torch.cat([features, torch.ones(len(features), 1)], dim=1)
    return torch.linalg.solve(x.T @ x, x.T @ gains)


# %% fit: bias comes last
def fit(features, gains, strength):
    x = torch.cat([torch.ones(len(features), 1), features], dim=1)
    penalty = strength * torch.eye(x.shape[1])
    penalty[0, 0] = 0
    return torch.linalg.solve(x.T @ x + penalty, x.T @ gains)


# %% fit: its square
def fit(features, gains, strength):
    x = torch.cat([features, torch.ones(len(features), 1)], dim=1)
    penalty = strength**2 * torch.eye(x.shape[1])
    penalty[-1, -1] = 0
    return torch.linalg.solve(x.T @ x + penalty, x.T @ gains)


# %% fit: bias is missing
def fit(features, gains, strength):
    return torch.linalg.solve(features.T @ features + strength * torch.eye(features.shape[1]), features.T @ gains)


# %% threshold: surest go on
def threshold(scores, cheap, dear, budget):
    going = int((budget - cheap) / (dear - cheap) * len(scores))
    return scores.sort().values[len(scores) - going]


# %% threshold: everybody pays
def threshold(scores, cheap, dear, budget):
    return scores.sort().values[int(budget / dear * len(scores))]


# %% threshold: costs more than the budget
def threshold(scores, cheap, dear, budget):
    return scores.max() + 1


# %% threshold: the budget allows
def threshold(scores, cheap, dear, budget):
    return scores.min()


# %% threshold: one threshold
def threshold(scores, cheap, dear, budget):
    return scores.sort().values[:3]


# %% way: subtract them below
def way(lots, rule, oracle):
    return (rule - lots) / oracle


# %% way: left to go
def way(lots, rule, oracle):
    return (oracle - rule) / (oracle - lots)


# %% way: ratio of values
def way(lots, rule, oracle):
    return rule / oracle


# %% way: divide by the whole way
def way(lots, rule, oracle):
    return rule - lots


# %% way: share of the lots
def way(lots, rule, oracle):
    return (rule - lots) / lots
