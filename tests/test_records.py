"""Records of every exit hold what running the detector would give, survive a kill and know what they were made of."""

import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import earlyexit
from earlyexit.data import scene_dataset
from earlyexit.data.coco import CocoDataset, coco_split
from earlyexit.evaluation import coco as evaluation
from earlyexit.evaluation import collect
from earlyexit.evaluation.coco import to_coco
from earlyexit.evaluation.collect import collect_records
from earlyexit.evaluation.policies import threshold_exits
from earlyexit.evaluation.records import ExitRecords, hash_data, hash_weights, join_records
from earlyexit.evaluation.scores import evaluate_records

FILLERS = ("downsample", "zero")


# Exit 1 of these weights is rarely sure: with a low limit for scores it has detections to compare, too.
DETECTOR = {"score_thresh": 0.001, "topk_candidates": 50, "detections_per_img": 20}


@pytest.fixture(scope="module")
def model():
    """The detector that comes with the package."""
    return earlyexit.load_detector("scenes", **DETECTOR)[0].eval()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """60 scenes with zero to four objects; every third is squeezed, so that two sizes meet in each batch."""
    scenes = scene_dataset("test", 60, single=False, cache=tmp_path_factory.mktemp("cache"))
    content = scenes.coco.dataset
    for info in content["images"][::3]:
        path = f"{scenes.root}/{info['file_name']}"
        Image.open(path).resize((128, 96)).save(path)
        info["height"] = 96
        for found in scenes.coco.imgToAnns[info["id"]]:
            found["bbox"] = [found["bbox"][0], found["bbox"][1] * 0.75, found["bbox"][2], found["bbox"][3] * 0.75]
            found["area"] *= 0.75
    annotations = tmp_path_factory.mktemp("mixed") / "mixed.json"
    annotations.write_text(json.dumps(content))
    return CocoDataset(scenes.root, annotations)


@pytest.fixture(scope="module", autouse=True)
def counted():
    """Counting multiply-adds takes seconds; numbers that tell filler, size and exit apart do as well here."""

    def count(model, size):
        return {k: {"total": k + size[0] / 1e3 + size[1] / 1e6 + (k < 3) * len(model.neck.filler)} for k in range(1, 5)}

    with pytest.MonkeyPatch.context() as patch:
        for module in (collect, evaluation):
            patch.setattr(module, "count_macs", count)
        yield


@pytest.fixture(scope="module")
def records(model, dataset, counted):
    """Both fillers in one pass."""
    return collect_records(model, dataset, fillers=FILLERS)


def thresholds_between(confidence: torch.Tensor, shares=(0.3, 0.5, 0.5)) -> tuple[float, ...]:
    """Thresholds in the middle between two images, so that rounding moves no image across."""
    thresholds, waiting = [], torch.ones(confidence.shape[1], dtype=torch.bool)
    for at_exit, share in zip(confidence[:3], shares, strict=True):
        ranked = at_exit[waiting].sort(descending=True).values.double()
        count = int(share * len(ranked))
        thresholds.append(float(ranked[count - 1 : count + 1].mean()))
        waiting &= at_exit < thresholds[-1]
    return tuple(thresholds)


@pytest.mark.parametrize("filler", FILLERS)
def test_records_equal_running_each_image_with_the_thresholds(model, dataset, records, filler, monkeypatch):
    monkeypatch.setattr(model.neck, "_filler", filler)
    ours = records[filler]
    thresholds = thresholds_between(ours.confidence)
    chosen = threshold_exits(ours.confidence, thresholds).tolist()
    assert min(chosen.count(k) for k in (1, 2, 3, 4)) >= 5
    runs = []
    monkeypatch.setattr(evaluation, "to_coco", lambda found, *rest: runs.append(found) or to_coco(found, *rest))
    result = earlyexit.evaluate(model, dataset, thresholds=thresholds)  # one image at a time
    for i, run in enumerate(runs):
        recorded = ours.detection(i, chosen[i])
        assert run["exit"] == recorded["exit"]
        assert torch.equal(run["labels"], recorded["labels"])
        torch.testing.assert_close(run["boxes"], recorded["boxes"], rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(run["scores"], recorded["scores"], rtol=1e-5, atol=1e-5)
        assert run["confidence"] == pytest.approx(recorded["confidence"], abs=1e-5)
    found = [sum(len(run["boxes"]) for run in runs if run["exit"] == k) for k in (1, 2, 3, 4)]
    assert len(runs) == 60 and min(found) > 50
    recorded = evaluate_records(ours, thresholds)
    assert result["exits"] == recorded["exits"] and result["images"] == recorded["images"]
    for name in (*evaluation.METRICS, "gmacs", "gmacs_full"):
        assert result[name] == pytest.approx(recorded[name], abs=1e-5), name
    assert len({result[name] for name in ("gmacs", "gmacs_full", "mAP", "AP50")}) == 4


def test_one_filler_at_a_time_gives_the_same(model, dataset, records, monkeypatch):
    monkeypatch.setattr(model.neck, "_filler", "zero")
    alone = collect_records(model, Watched(dataset, 10), batch_size=4)
    assert model.neck.filler == "zero" and alone.about["filler"] == "zero" and len(alone) == 10
    torch.testing.assert_close(alone.logits, records["zero"].logits[:, :10], rtol=1e-5, atol=1e-5)
    assert torch.equal(alone.gmacs, records["zero"].gmacs[:, :10])
    for i in range(10):
        for k in (1, 2, 3, 4):
            one, both = alone.detection(i, k), records["zero"].detection(i, k)
            torch.testing.assert_close(one["boxes"], both["boxes"], rtol=1e-5, atol=1e-4)
            assert torch.equal(one["labels"], both["labels"])


def test_fillers_differ_only_where_maps_are_missing(records):
    down, zero = (records[name] for name in FILLERS)
    for k, same in ((1, False), (2, False), (3, True), (4, True)):
        scores = [torch.cat([r.detection(i, k)["scores"] for i in range(60)]) for r in (down, zero)]
        assert torch.equal(*scores) == same
        assert torch.equal(down.gmacs[k - 1], zero.gmacs[k - 1]) == same
    assert torch.equal(down.logits, zero.logits)


def test_labels_are_those_of_single_objects(dataset, records):
    for i, label in enumerate(records["zero"].labels.tolist()):
        objects = dataset.objects(dataset.ids[i])
        expected = dataset.category_ids.index(objects[0]["category_id"]) if len(objects) == 1 else -1
        assert label == expected
    assert 10 < int((records["zero"].labels >= 0).sum()) < 60


def test_confidence_is_the_largest_softmax_value(records):
    logits = records["zero"].logits.double()
    expected = (logits.exp() / logits.exp().sum(2, keepdim=True)).amax(2)
    torch.testing.assert_close(records["zero"].confidence.double(), expected, rtol=1e-5, atol=1e-6)


def test_a_file_gives_back_what_it_was_given(records, tmp_path):
    ours = records["zero"]
    ours.save(tmp_path / "a.safetensors")
    again = ExitRecords.load(tmp_path / "a.safetensors")
    assert again.about == ours.about and again.classes == ours.classes
    for part in (lambda r: vars(r.found), lambda r: vars(r.truth)):
        assert all(torch.equal(value, part(again)[name]) for name, value in part(ours).items())
    for name in ("image_ids", "logits", "gmacs"):
        assert torch.equal(getattr(ours, name), getattr(again, name))
    again.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


class KilledError(Exception):
    """Stands for a kill."""


class Watched:
    """A data set that notes which images are read, and dies at one of them; the first `count` images of another."""

    def __init__(self, dataset: CocoDataset, count: int, dies_at: int | None = None):
        self.dataset, self.count, self.dies_at, self.read = dataset, count, dies_at, []
        self.ids = dataset.ids[:count]

    def __getattr__(self, name):
        return getattr(self.dataset, name)

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        if i == self.dies_at:
            raise KilledError
        self.read.append(i)
        return self.dataset[i]


def test_a_killed_collection_goes_on_and_ends_as_the_same_file(model, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "CHUNK", 4)
    collect_records(model, Watched(dataset, 10), path=tmp_path / "whole.safetensors")
    path = tmp_path / "killed.safetensors"
    with pytest.raises(KilledError):
        collect_records(model, Watched(dataset, 10, dies_at=9), path=path)
    assert not path.exists()
    rest = Watched(dataset, 10)
    collect_records(model, rest, path=path)
    assert rest.read == [8, 9]
    assert path.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed.safetensors", "whole.safetensors"]
    finished = Watched(dataset, 10)
    assert len(collect_records(model, finished, path=path)) == 10 and finished.read == []


def test_two_processes_make_the_same_records(model, dataset, records, monkeypatch):
    monkeypatch.setattr(collect, "CHUNK", 32)
    ours = collect_records(model, dataset, workers=2)
    alone = records[model.neck.filler]
    assert torch.equal(ours.image_ids, alone.image_ids) and torch.equal(ours.found.labels, alone.found.labels)
    torch.testing.assert_close(ours.found.boxes, alone.found.boxes, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(ours.logits, alone.logits, rtol=1e-5, atol=1e-5)
    assert torch.equal(ours.gmacs, alone.gmacs)
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        collect_records(model, dataset, workers=0)


def test_two_fillers_are_kept_in_two_files(model, dataset, tmp_path):
    few = Watched(dataset, 3)
    made = collect_records(model, few, path=tmp_path / "r.safetensors", fillers=FILLERS)
    for name in FILLERS:
        kept = ExitRecords.load(tmp_path / f"r-{name}.safetensors")
        assert kept.about["filler"] == name and torch.equal(kept.found.scores, made[name].found.scores)
    assert few.read == [0, 1, 2]  # one pass for both


def test_records_of_something_else_are_not_taken_for_these(model, dataset, tmp_path, monkeypatch):
    path = tmp_path / "r.safetensors"
    collect_records(model, Watched(dataset, 2), path=path)
    with pytest.raises(ValueError, match="holds records of other data: "):
        collect_records(model, Watched(dataset, 3), path=path)
    monkeypatch.setattr(model, "score_thresh", 0.2)
    with pytest.raises(ValueError, match="other settings: .*0.001.*0.2"):
        collect_records(model, Watched(dataset, 2), path=path)
    monkeypatch.undo()
    other = earlyexit.load_detector("scenes-baseline", **DETECTOR)[0]
    with pytest.raises(
        ValueError, match=f"other weights: weights '{hash_weights(model)}', not '{hash_weights(other)}'"
    ):
        collect_records(other, Watched(dataset, 2), path=path)
    with pytest.raises(ValueError, match="other filler: filler 'downsample', not 'zero'"):
        collect_records(earlyexit.load_detector("scenes", filler="zero", **DETECTOR)[0], Watched(dataset, 2), path=path)
    assert len(ExitRecords.load(path)) == 2


def test_the_hash_of_data_sees_boxes_and_files(dataset, tmp_path):
    before = hash_data(dataset)
    box = dataset.coco.imgToAnns[dataset.ids[1]][0]["bbox"]
    box[0] += 0.5
    changed = hash_data(dataset)
    box[0] -= 0.5
    assert changed != before == hash_data(dataset)
    dataset.coco.imgs[dataset.ids[1]]["file_name"] = dataset.coco.imgs[dataset.ids[2]]["file_name"]
    assert hash_data(dataset) != before
    dataset.coco.imgs[dataset.ids[1]]["file_name"] = f"{dataset.ids[1]:012d}.jpg"
    assert hash_data(dataset) == before


def test_the_hash_of_data_finds_photos_as_training_does(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "data")
    path = tmp_path / "data" / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    exact = hash_data(coco_split(tmp_path / "data", "train"))
    for image in content["images"]:
        image["file_name"] = "C:\\photos\\" + image["file_name"].upper()
    path.write_text(json.dumps(content))
    assert hash_data(coco_split(tmp_path / "data", "train")) == exact
    photo = coco_split(tmp_path / "data", "train").photo(content["images"][0]["id"])
    photo.write_bytes(photo.read_bytes() + b"\0")
    assert hash_data(coco_split(tmp_path / "data", "train")) != exact  # the file is another one
    photo.unlink()
    assert hash_data(coco_split(tmp_path / "data", "train")) != exact  # and is missed when it is read


def test_joined_records_are_in_order(records):
    ours = records["zero"]
    both = join_records([ours, ours])
    assert len(both) == 120
    for k in (1, 4):
        for i in (0, 59):
            assert torch.equal(both.detection(60 + i, k)["boxes"], ours.detection(i, k)["boxes"])
    assert torch.equal(both.labels, torch.cat([ours.labels] * 2))
    with pytest.raises(ValueError, match="made of the same, got 2"):
        join_records([ours, records["downsample"]])


def test_unreadable_records_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"none.safetensors' cannot be read"):
        ExitRecords.load(tmp_path / "none.safetensors")
    (tmp_path / "text").write_text("text")
    with pytest.raises(ValueError, match="text' cannot be read as records"):
        ExitRecords.load(tmp_path / "text")
    with pytest.raises(ValueError, match="no exit records of format 1"):
        ExitRecords.load(earlyexit.weights.weights_path("scenes"))
    for text, said in (("[1]", "holds no exit records of format 1"), ("{", "cannot be read as records: Expecting")):
        save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors", {"about": text})
        with pytest.raises(ValueError, match=f"x.safetensors' {said}"):
            ExitRecords.load(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="the data set is empty"):
        collect_records(None, [])
    with pytest.raises(ValueError, match="a CocoDataset is needed.*got list"):
        collect_records(None, [0])
