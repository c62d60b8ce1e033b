"""Who goes on from exit 1 to exit 4, learnt in other ways than `Worth`, which is fitted to the calibration split.

    python benchmarks/choice_training.py RUN --csv earlyexit/study/results/scenes/choosing_training.csv

RUN is a trained detector that chooses. All see what `Worth` sees at exit 1. Three small nets learn on training images,
of which the detector's losses at exits 1 and 4 are taken, in eval mode and without augmentation:

- "gain head": what the loss at exit 1 is above that at exit 4, with the Huber loss;
- "number and sizes": how many objects there are of which size; the calibration split says what these are worth;
- "DynamicDet's loss": s in (0, 1), by the mean of (1 - s) L_1 + s (L_4 + d), d being the median of L_1 - L_4.

"worth and gain head" is `Worth` with the gain head's prediction among its features, "boosted trees" have the aims and
the images of `Worth`. Each is trained with several seeds and compared by its way from lots to the oracle.
"""

import argparse
from pathlib import Path

import torch
from sklearn.ensemble import GradientBoostingRegressor
from torch import Tensor, nn
from torch.utils.data import Subset

from earlyexit.data import coco_split
from earlyexit.evaluation.fitting import CLIPPED, ridge
from earlyexit.evaluation.matching import marginal_precision, match_records
from earlyexit.files import write_table
from earlyexit.model import load_detector
from earlyexit.model.exits import worth_features
from earlyexit.study.choosing import way_to_oracle
from earlyexit.study.findings import estimate_of
from earlyexit.study.opponents import Choosing, open_run

SIDES = (0, 16, 24, 32, 48, 1e9)  # of objects, in pixels: how many there are between each two
BATCH, HIDDEN, STEPS, HELD_BACK = 32, 32, 400, 0.2


@torch.no_grad()
def training_images(run: str, data: str, images: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of training images what exit 1 knows (N, F), the losses at exits 1 and 4 (N, 2), and objects by size (N, 5)."""
    model = load_detector(run)[0].eval()
    dataset = coco_split(data, "train")
    dataset = Subset(dataset, range(min(images, len(dataset))))
    features, losses, sizes = [], [], []
    for start in range(0, len(dataset), BATCH):
        pictures, targets = zip(*(dataset[i] for i in range(start, min(start + BATCH, len(dataset)))), strict=True)
        sizes += [sizes_of(target["boxes"]) for target in targets]
        batch, inside = model.transform(list(pictures), [dict(target) for target in targets])
        of_exits = []
        for reached in model.backbone.exits(batch.tensors):
            if reached.index == 1:
                features.append(worth_features(reached))
            if reached.index in (1, 4):
                of_exits.append(losses_at(model, reached, batch, inside))
        losses.append(torch.stack(of_exits, 1))
    return torch.cat(features), torch.cat(losses), torch.stack(sizes)


def losses_at(model, reached, batch, targets) -> Tensor:
    """(N,) detection loss of each image at an exit."""
    outputs, anchors, _ = model.outputs_at(reached, batch)
    found = []
    for i, target in enumerate(targets):
        terms = model.compute_loss([target], {name: x[i : i + 1] for name, x in outputs.items()}, [anchors])
        found.append(sum(terms.values()))
    return torch.stack(found)


def sizes_of(boxes: Tensor) -> Tensor:
    """(5,) how many boxes there are with sides between two of `SIDES`."""
    return torch.histogram((boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt(), torch.tensor(SIDES).float()).hist


def train_net(x: Tensor, loss, outputs: int, seed: int) -> nn.Module:
    """A net on features (N, F), by the mean of loss(outputs, indices), as it was where images held back lost least."""
    torch.manual_seed(seed)
    order = torch.randperm(len(x))
    held, used = order[: round(HELD_BACK * len(x))], order[round(HELD_BACK * len(x)) :]
    net = nn.Sequential(nn.Linear(x.shape[1], HIDDEN), nn.ReLU(), nn.Dropout(0.2), nn.Linear(HIDDEN, outputs))
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.1)
    best, state = float("inf"), None
    for _ in range(STEPS):
        net.train()
        some = used[torch.randint(len(used), (min(512, len(used)),))]
        optimizer.zero_grad()
        loss(net(x[some]), some).backward()
        optimizer.step()
        with torch.no_grad():
            value = float(loss(net.eval()(x[held]), held))
        if value < best:
            best, state = value, {name: v.clone() for name, v in net.state_dict().items()}
    net.load_state_dict(state)
    return net.eval()


@torch.no_grad()
def scores_of_seed(run: Choosing, learnt: tuple[Tensor, Tensor, Tensor], seed: int) -> dict[str, Tensor]:
    """By name the scores (N,) of the test images; the lowest go on."""
    features, losses, sizes = learnt
    fitted, judged = (worth_features(records.exit(1)) for records in (run.calibration, run.test))
    mean, std = features.mean(0), features.std(0).clamp(min=1e-6)
    x, fitted_x, judged_x = ((values - mean) / std for values in (features, fitted, judged))
    aim = aims_of(run)
    gain = losses[:, 0] - losses[:, 1]
    scaled, counts = (gain - gain.median()) / gain.std(), sizes.log1p()
    with torch.enable_grad():
        head = train_net(x, lambda out, i: nn.functional.huber_loss(out[:, 0], scaled[i]), 1, seed)
        number = train_net(x, lambda out, i: nn.functional.mse_loss(out, counts[i]), counts.shape[1], seed)
        chosen = train_net(x, lambda out, i: -(out[:, 0].sigmoid() * scaled[i]).mean(), 1, seed)

    def linear(of_fitted: Tensor, of_judged: Tensor) -> Tensor:
        weight, bias = ridge(of_fitted, aim[:, None])
        return (of_judged.double() @ weight + bias)[:, 0]

    both = [torch.cat([values, head(values)], 1) for values in (fitted_x, judged_x)]
    gains = {
        "gain head": head(judged_x)[:, 0],
        "number and sizes": linear(number(fitted_x), number(judged_x)),
        "DynamicDet's loss": chosen(judged_x)[:, 0],
        "worth and gain head": linear(*both),
        "boosted trees": trees(fitted, aim, judged, seed),
    }
    return {name: -values.float() for name, values in gains.items()}


def aims_of(run: Choosing) -> Tensor:
    """(N,) what each calibration image adds to the mAP at exit 4 more than at exit 1."""
    worth = len(run.calibration) * marginal_precision(match_records(run.calibration), run.calibration.all_at(4))
    gains = worth[3] - worth[0]
    return gains.clamp(*torch.quantile(gains, torch.tensor(CLIPPED, dtype=gains.dtype)))


def trees(fitted: Tensor, aim: Tensor, judged: Tensor, seed: int) -> Tensor:
    """What boosted trees, fitted to features (N, F) and an aim (N,), say of other features."""
    options = {"n_estimators": 150, "max_depth": 3, "learning_rate": 0.05, "subsample": 0.5}
    made = GradientBoostingRegressor(**options, random_state=seed).fit(fitted.numpy(), aim.numpy())
    return torch.from_numpy(made.predict(judged.numpy()))


def truth_of(run: Choosing) -> Tensor:
    """(N,) scores of one who knows how many objects of which size there are: the calibration split says their worth."""
    known = []
    for records in (run.calibration, run.test):
        boxes = torch.cat([torch.zeros(len(records.truth.boxes), 2), records.truth.boxes[:, 2:].float()], 1)
        parts = boxes.split(records.truth.offsets.diff().tolist())
        known.append(torch.stack([sizes_of(part) for part in parts]).log1p())
    return -trees(known[0], aims_of(run), known[1], seed=0).float()


def compare(run: Choosing, learnt: tuple[Tensor, Tensor, Tensor], seeds: int, repeats: int) -> list[dict]:
    """Rows of "rule", "seeds" and the "way" from lots to the oracle with its interval, over images and seeds."""
    drawn = [scores_of_seed(run, learnt, seed) for seed in range(seeds)]
    others = {(name, seed): scores for seed, found in enumerate(drawn) for name, scores in found.items()}
    ways = way_to_oracle(run, repeats, {**others, "true number and sizes": truth_of(run)})
    rows = []
    for name in ("max softmax", "worth", "worth of detections", *drawn[0], "true number and sizes"):
        found = [way for key, way in ways.items() if key == name or (isinstance(key, tuple) and key[0] == name)]
        value = estimate_of(found).rounded(3)
        rows.append({"rule": name, "seeds": len(found), "way": value["mean"], **{k: value[k] for k in ("low", "high")}})
    return rows


def main() -> None:
    """The command; what it was, and the commit, stand in each row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a trained detector")
    parser.add_argument("--data", default="data/scenes")
    parser.add_argument("--images", type=int, default=3000, help="of the training split")
    parser.add_argument("--records", default="results/choosing/records", help="folder of records, kept there")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=100, help="bootstrap samples")
    parser.add_argument("--csv", type=Path, required=True)
    options = parser.parse_args()
    kept = Path(options.records) / f"{Path(options.run).name}-train-{options.images}.pt"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        torch.save(training_images(options.run, options.data, options.images), kept)
    run = open_run(options.run, options.data, options.records)
    write_table(options.csv, compare(run, torch.load(kept), options.seeds, options.repeats))


if __name__ == "__main__":
    main()
