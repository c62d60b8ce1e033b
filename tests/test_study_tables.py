"""Tables from made-up results, compared with numbers found by hand."""

import json
import math

import pytest
from made_study import FULL_GMACS, made_early, made_models

from earlyexit.files import write_table
from earlyexit.study import open_study, tables
from earlyexit.study.measure import load_models
from earlyexit.study.plan import ABLATIONS, plan
from earlyexit.study.tables import (
    BEYOND_TABLES,
    TABLES,
    Models,
    accuracy_table,
    budgets_table,
    compute_table,
    difficulty_table,
    exits_table,
    fillers_table,
    forced_table,
    random_table,
    rules_table,
    shares_table,
    sweep_table,
    theta_table,
    times_tables,
)

NOISE = 1.96 * math.sqrt(2)  # 1.96 standard deviations of the samples -1 and 1


@pytest.fixture(scope="module")
def models():
    return Models(made_models())


def test_sweep_table(models):
    rows = sweep_table(models)
    assert len(rows) == 2 * 2 * 34
    last = next(r for r in rows if (r["model"], r["filler"], r["index"]) == ("proposed", "zero", 34))
    assert last == {
        **{"model": "proposed", "filler": "zero", "index": 34, "gmacs": 2.0, "saved": 0.0, "mAP": 26.0},
        **{"low": round(26 - NOISE, 2), "high": round(26 + NOISE, 2), "seeds": 3},
    }
    assert [r["saved"] for r in rows[:34]] == sorted((r["saved"] for r in rows[:34]), reverse=True)


def test_spread_of_seeds_widens_the_interval():
    (row,) = (r for r in sweep_table(Models(made_models(per_seed=3.0)))[68:102] if r["index"] == 34)
    assert row["model"] == "proposed" and row["mAP"] == 33
    assert row["high"] - 33 == pytest.approx(math.hypot(NOISE, 4.303 * 3 / math.sqrt(3)), abs=0.006)


def test_other_tables(models):
    (row,) = (r for r in random_table(models) if (r["model"], r["index"]) == ("proposed", 30))
    assert (row["mAP"], row["spread"]) == (20 + 10 - 2 - 6, 2)
    forced = {(r["model"], r["filler"], r["exit"]): r for r in forced_table(models)}
    assert forced["baseline", "downsample", 1]["mAP"] == 17
    assert forced["baseline", "downsample", 1]["gmacs"] == FULL_GMACS[0]
    assert forced["fair-zero", "zero", 4]["AP50"] == 21
    accuracy = {(r["model"], r["exit"]): r for r in accuracy_table(models)}
    assert accuracy["proposed", 3]["accuracy"] == 63
    assert accuracy["grid-theta1-lambda1", 4]["seeds"] == 1
    shares = [r for r in shares_table(models) if (r["model"], r["index"]) == ("baseline", 20)]
    assert sum(r["realised"] for r in shares) == pytest.approx(100, abs=0.02)
    assert all(r["wanted"] == r["realised"] for r in shares)


def test_theta_table_is_ordered_and_says_the_epochs():
    rows = theta_table(Models(made_models(grid={(0.011, 1.0): 12.5})))
    assert len(rows) == 10 * 34
    assert [(r["theta"], r["lambda"]) for r in rows[::34]][:3] == [(1, 1), (0.5, 1), (0.5, 0.5)]
    assert {r["epochs"] for r in rows} == {2}
    (row,) = (r for r in rows if (r["theta"], r["index"]) == (0.011, 34))
    assert row["mAP"] == 12.5


def test_fillers_table_has_both_ways(models):
    rows = {(r["way"], r["index"]): r for r in fillers_table(models)}
    assert len(rows) == 68
    published, fair = rows["published", 34], rows["fair", 34]
    assert (published["downsample"], published["zero"], published["difference"]) == (30, 26, 4)
    # The fair way compares each model under its own filler.
    assert (fair["downsample"], fair["zero"], fair["low"]) == (25, 21, 4)


def test_difficulty_table(models):
    rows = {(r["model"], r["measure"], r["of"], r["with"]): r for r in difficulty_table(models)}
    assert rows["proposed", "rank correlation", "exit taken", "size"]["high"] == -0.4
    assert rows["proposed", "mAP", "exit 2", "hard (difficulty)"]["value"] == 41
    assert rows["proposed", "share", "exit 3", "easy (difficulty)"]["value"] == 30
    changes = rows["proposed", "exit changes", "exit taken", "another seed"]
    assert (changes["value"], changes["low"], changes["high"]) == (33.33, 25, 50)


def test_compute_table_has_every_part_under_both_fillers(nano, monkeypatch):
    def count(model, size):
        base = size[0] + (1000 if model.neck.filler == "zero" else 0)
        return {exit: {"neck": exit, "total": base + exit} for exit in (1, 2, 3, 4)}

    monkeypatch.setattr(tables, "count_macs", count)
    rows = compute_table({"nano": (nano, (128, 128)), "regnet_y_800mf": (nano, (800, 1216))})
    total = {(r["model"], r["filler"], r["exit"]): r["gmacs"] for r in rows if r["part"] == "total"}
    assert len(rows) == 2 * 2 * 4 * 2
    assert (total["nano", "zero", 3], total["regnet_y_800mf", "downsample", 1]) == (1131, 801)
    assert nano.neck.filler == "downsample"


def test_tables_of_exits_and_budgets():
    rows = exits_table([made_early()])
    assert [row["share"] for row in rows] == [0.3, 0.4, 0.95, 1.0] and rows[0]["kept"] == 0.8
    one = budgets_table([made_early(budgets_unscaled=made_early()["budgets"][:1])])
    assert [row["scores"] for row in one] == ["as they are"] + ["comparable"] * 3 and one[0]["exit 1"] == 5


def test_rules_are_compared_with_the_papers_on_the_same_images():
    def rule(score, noise):
        points = [
            {"mAP": 50.0 + 10 * score, "random": 50.0, "oracle": 60.0},
            {"mAP": 52.0, "random": 50.0, "oracle": 62.0},
        ]
        return {"score": score, "samples": [score + n for n in noise], "points": points}

    shared = (-0.1, 0.0, 0.1)
    models = [
        made_early(rules={"max softmax": rule(0.2 + s, shared), "router": rule(0.3 + s, shared)})
        for s in (0.0, 0.05, -0.05)
    ]
    softmax, router = rules_table(models)
    assert softmax["difference"] == 0 and router["difference"] == pytest.approx(0.1)
    assert (router["mAP"], router["lots"], router["oracle"]) == (52.5, 50.0, 61.0)  # the mean of 53 and 52
    assert router["difference low"] == pytest.approx(0.1, abs=1e-3) and router["low"] < 0.2


def test_tables_of_the_package_follow_from_its_models(tmp_path):
    """To the byte: what was committed is what this code makes of the models' results."""
    folder = open_study().folder
    models, of_beyond = Models(load_models(folder)), load_models(folder / "beyond")
    trained = plan("scenes", "single", "runs", many="many")
    names = [name for t in trained for name in ((t.first.name, t.name) if t.first else (t.name,))]
    names += sorted(of_beyond.keys() - names)
    beyond = [of_beyond[name] for name in names if name in of_beyond]
    times = json.loads((folder / "beyond" / "times.json").read_text())
    made = {name: table(models) for name, table in TABLES.items()}
    made |= {name: table(beyond) for name, table in BEYOND_TABLES.items()}
    made |= times_tables(times)
    for name, rows in made.items():
        write_table(tmp_path / "made.csv", rows)
        lines = [(path / f"{n}.csv").read_bytes().splitlines() for path, n in ((tmp_path, "made"), (folder, name))]
        assert sorted(lines[0]) == sorted(lines[1]), name


def test_rows_of_experiments_that_lost_stay():
    study = open_study()
    models, rows = load_models(study.folder / "beyond"), study.table("beyond_exits")
    lost = ("neck-topdown", "head-distillation", "gradient-stopped", "gradient-half", "sandwich")
    for name in (f"ablation-{name}" for name in lost):
        assert name.removeprefix("ablation-") not in ABLATIONS
        assert exits_table([models[name]]) == [row for row in rows if row["model"] == name]
    # With those of the plan they are all that the table has.
    planned = {f"ablation-{name}" for name in (*ABLATIONS, *lost)}
    assert {row["model"] for row in rows if row["group"] == "ablation"} == planned
