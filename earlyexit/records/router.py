"""A router: a few hundred weights that predict what an image gains by going on."""

import torch
from torch import Tensor, nn

from ..backbone import NUM_EXITS
from .best_case import marginal_precision
from .matching import match_records
from .record import ExitRecords
from .rules import rule_features

HIDDEN = 16


class Router(nn.Module):
    """A small network for each of exits 1-3, from `rule_features` to the gain of going on.

    Attributes:
        mean, std: (3, 6), of the features on the images that it was fitted to.
    """

    def __init__(self, features: int = 6):
        super().__init__()
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(features, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1)) for _ in range(NUM_EXITS - 1)
        )
        self.register_buffer("mean", torch.zeros(NUM_EXITS - 1, features))
        self.register_buffer("std", torch.ones(NUM_EXITS - 1, features))

    def gain(self, features: Tensor, exit: int) -> Tensor:
        """(N,) predicted gain, in units of its spread where it was fitted."""
        return self.nets[exit - 1]((features - self.mean[exit - 1]) / self.std[exit - 1])[:, 0]

    @torch.no_grad()
    def forward(self, records: ExitRecords) -> Tensor:
        """(4, N) scores in [0, 1] as a rule gives them: the lower the predicted gain, the higher; 1 at exit 4."""
        scores = [(-self.gain(rule_features(records, exit), exit)).sigmoid() for exit in range(1, NUM_EXITS)]
        return torch.stack([*scores, torch.ones(len(records))])


def fit_router(records: ExitRecords, *, steps: int = 300, seed: int = 0, weight_decay: float = 0.05) -> Router:
    """Fit a router to recorded images; it takes seconds.

    What an image gains by going on from an exit is what its detections at full depth add to the mAP more than those
    of the exit, to first order (`marginal_precision`). These gains have outliers, hence the Huber loss.

    Args:
        records: of images that the detector was not trained on, the calibration split.
        steps: of Adam, each on all images.
        seed: of the first weights.
        weight_decay: keeps it simple, since images are few.
    """
    worth = marginal_precision(match_records(records), torch.full((len(records),), NUM_EXITS)).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        router = Router()
    for exit in range(1, NUM_EXITS):
        features = rule_features(records, exit)
        router.mean[exit - 1], router.std[exit - 1] = features.mean(0), features.std(0).clamp(min=1e-6)
        gain = worth[-1] - worth[exit - 1]
        aim = gain / gain.std().clamp(min=1e-12)
        optimizer = torch.optim.AdamW(router.nets[exit - 1].parameters(), lr=0.01, weight_decay=weight_decay)
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.huber_loss(router.gain(features, exit), aim).backward()
            optimizer.step()
    return router.eval()
