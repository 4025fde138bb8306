"""Answers of the FER+ study: from whatever rows there are, paired, corrected, and chosen by a rule on validation."""

import json
import shutil
from itertools import combinations as combinations_of
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student_t

from poster_ada import study
from poster_ada.errors import InputError
from poster_ada.evaluation.hierarchical import Spread, accuracy
from poster_ada.paper import ferplus_choice
from poster_ada.paper.ferplus_choice import MARGINS, choose, is_candidate, power_of, search_table, write_choice
from poster_ada.paper.ferplus_classes import COSINES
from poster_ada.paper.ferplus_figures import FIGURES, TABLES, figures_of, models_and_ceiling, write_summary
from poster_ada.paper.ferplus_grid import (
    CONFIRMING,
    FACTORS,
    FRESH,
    PREDICTIONS,
    SEARCHED,
    SEEDS,
    TABLE,
    FerplusRow,
    design,
    grid,
    read_choice,
)
from poster_ada.paper.ferplus_quality import quality_table
from poster_ada.paper.ferplus_results import CLASS_NAMES, FerplusResults, write_faces
from poster_ada.paper.ferplus_summary import (
    comparisons,
    coverage,
    design_table,
    findings,
    heads_table,
    recalls_table,
    trend_table,
    verdict,
)

FACES = 420
LABELS = np.arange(FACES) % 7


def write_rows(folder, rows, right):
    """A table and predictions as of these rows; `right(row)`: the share of faces that each classifies rightly."""
    lines, near = [], np.eye(7, dtype=np.float32)
    near[4, 5] = near[5, 4] = 0.95  # Fear and Disgust
    write_faces(folder, LABELS, LABELS, LABELS == 9, 4 + LABELS, "f")
    for row in rows:
        random = np.random.default_rng(row.seed)  # as of paired runs: the same faces are hard
        said = np.where(random.permutation(FACES) < right(row) * FACES, LABELS, (LABELS + 1) % 7)
        np.savez(folder / PREDICTIONS / f"{row.id}.npz", prediction=said, validation_prediction=said,
                 gap=np.where(said == LABELS, 0.5, -0.2), norm=10.0 + (LABELS == 3), **{COSINES: near})
        hit = 100 * (said == LABELS).mean()
        margin_head = row.choices["head"] != "mlp"
        lines.append({"id": row.id, "part": row.part, "setting": row.setting, "set": "FER+", "preset": row.preset,
                      "head": row.choices["head"], "margin": row.choices.get("margin"), "scale": 64.0,
                      "epochs": row.epochs, "seed": row.seed, "commit": "c", "fingerprint": "f", "accuracy": hit,
                      "macro_f1": hit, "validation_accuracy": hit, "validation_macro_f1": hit, "ece": 3.0,
                      "label_margin_accuracy": hit - margin_head * 48 / row.epochs, "accuracy_blur_1": hit - 5.0,
                      "r_norm_agreement_within": 0.1, "r_embedding_all": 0.2,
                      **{f"{prefix}recall_{name.lower()}": hit for name in CLASS_NAMES
                         for prefix in ("", "validation_")}})
    pd.DataFrame(lines).to_csv(folder / TABLE, index=False)
    return FerplusResults(folder)


def share(row: FerplusRow) -> float:
    """AdaFace at m 0.4 loses 12 points over its epochs, m 0.75 twice as many; `margin-0.1` wins 2."""
    base = 0.8 + 0.01 * (row.seed % 3) + 0.004 * (hash_of(row) % 3)
    return base - {"adaface-m0.4": 0.6, "adaface-m0.75": 1.2}.get(row.setting, 0.0) / row.epochs + 0.02 * (
        row.setting == "margin-0.1")


def hash_of(row):
    return sum(map(ord, row.id))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("whole"), grid(), share)


def test_a_table_line_is_the_mean_over_its_seeds(whole):
    heads = heads_table(whole).reset_index().set_index(["part", "setting", "epochs"])
    line, own = heads.loc["published", "mlp", 12], whole.table.query("setting == 'mlp' and epochs == 12")
    own = own[own["part"] == "published"]
    assert line["seeds"] == 3 and line["accuracy"] == pytest.approx(own["accuracy"].mean())
    assert {"recall_fear", "ece", "label_margin_accuracy", "degraded_accuracy"} <= set(heads.columns)
    assert line["degraded_accuracy"] == pytest.approx(line["accuracy"] - 5)


def test_differences_are_paired_and_their_p_values_corrected(whole):
    pairs = comparisons(whole).reset_index().set_index(["part", "setting", "epochs", "baseline"])
    line = pairs.loc["published", "adaface-m0.4", 6, "mlp"]
    found = whole.table.query("part == 'published' and epochs == 6").set_index(["setting", "seed"])["accuracy"]
    each = found.loc["adaface-m0.4"] - found.loc["mlp"]
    assert line["accuracy_difference"] == pytest.approx(each.mean()) and line["seeds"] == 5
    assert line["accuracy_low"] < line["accuracy_one_sided_low"] < each.mean() < line["accuracy_high"] < 0
    assert not line["non_inferior"] and line["faces"] == "test"
    assert line["accuracy_p_seeds"] < line["accuracy_p_seeds_holm"] <= 1
    family = pairs.loc["published"]
    smallest = family["accuracy_p_seeds"].min()
    assert family["accuracy_p_seeds_holm"].min() == pytest.approx(smallest * family["accuracy_p_seeds"].notna().sum())
    assert pairs.loc["ingredients", "margin-0.1", 6, "mlp"]["faces"] == "validation"
    assert ("quality", "camera-norm", 6, "camera-mlp") in pairs.index
    assert ("rivals", "ldam", 6, "published mlp") in pairs.index
    with pytest.raises(KeyError):
        pairs.loc["published", "mlp", 6, "mlp"]


def test_non_inferior_needs_both_measures_and_nothing_else_is_called_equal():
    base = {"accuracy_low": -0.5, "accuracy_high": 0.5, "accuracy_p_seeds_holm": 0.6, "accuracy_p_seeds": 0.3,
            "macro_f1_low": -2.0, "macro_f1_high": -0.1, "macro_f1_p_seeds_holm": 0.049, "macro_f1_p_seeds": 0.02}
    assert verdict(base | {"non_inferior": False}) == "lower macro F1, non-inferiority not shown"
    assert verdict(base | {"macro_f1_high": 1.0, "non_inferior": True}) == "non-inferior"
    assert verdict(base | {"macro_f1_p_seeds_holm": 0.05, "non_inferior": True}) == "non-inferior"
    assert MARGINS == {"accuracy": 1.0, "macro_f1": 1.5}


def test_a_setting_like_mlp_is_non_inferior_and_one_below_the_margin_is_not(tmp_path):
    rows = [row for row in grid() if row.part == "published" and row.epochs == 6
            and row.setting in ("mlp", "adaface-m0.4", "adaface-m0.75")]
    lost = {"mlp": 0.0, "adaface-m0.4": 0.0, "adaface-m0.75": 0.03}
    results = write_rows(tmp_path, rows, lambda row: 0.8 - lost[row.setting])
    pairs = comparisons(results).set_index("setting")
    assert pairs.loc["adaface-m0.4", "non_inferior"] and not pairs.loc["adaface-m0.75", "non_inferior"]
    assert pairs.loc["adaface-m0.4", "accuracy_difference"] == 0


def test_recalls_are_compared_class_by_class(whole):
    table = recalls_table(whole).reset_index()
    own = table.query("part == 'published' and setting == 'adaface-m0.75' and epochs == 6")
    assert list(own["class"]) == list(CLASS_NAMES) and set(own["class_faces"]) == {60}
    pair = comparisons(whole).reset_index().query("setting == 'adaface-m0.75' and epochs == 6").iloc[0]
    assert own["difference"].mean() == pytest.approx(pair["accuracy_difference"])
    q = own.set_index("class")["q"]
    assert q["Surprise"] == pytest.approx(0.333 * (6 / 7) / np.sqrt(6 / 49)) and (q.drop("Surprise") < 0).all()
    assert table.query("setting == 'cosface'")["q"].isna().all()


def test_the_trend_is_told_per_doubling(whole):
    table = trend_table(whole).reset_index().set_index(["setting", "measure"])
    line = table.loc["adaface-m0.4", "accuracy less label-margin accuracy"]
    assert [line[f"at_{epochs}"] for epochs in (6, 12, 24)] == pytest.approx([8, 4, 2])
    assert line["slope"] == pytest.approx((-3 - 3 - 4) / 3)  # least squares through 8, 4, 2; a seed has 8, 4 alone
    deficit = table.loc["adaface-m0.75", "accuracy less MLP's"]
    assert deficit["at_6"] < deficit["at_24"] and deficit["slope"] > 0 and deficit["seeds"] == 2
    assert "at_12" not in deficit.dropna()
    longest = table.loc["adaface-m0.4", "accuracy less MLP's"]
    assert longest["p_seeds_holm"] >= longest["p_seeds"] and longest["seeds"] == 3 and "mlp" not in table.index


def test_the_trend_takes_each_seeds_own_lengths(tmp_path):
    """As while the study runs: seed 1 has a third length, and MLP alone one more; seed 4 has one length."""
    rows = [row for row in grid() if row.part == "published" and row.setting in ("mlp", "adaface-m0.4") and (
        row.epochs == 6 and row.seed <= 4 or row.epochs == 12 and row.seed <= 3 or row.epochs == 24 and (
            row.seed == 1 or row.setting == "mlp" and row.seed == 2))]
    results = write_rows(tmp_path, rows, share)
    line = trend_table(results).set_index("measure").loc["accuracy less MLP's"]
    wide = results.table.pivot(index="seed", columns=["setting", "epochs"], values="accuracy")
    deficit = wide["adaface-m0.4"] - wide["mlp"]
    slopes = [np.polyfit(np.log2(own.index), own, 1)[0] for own in (deficit.loc[seed].dropna() for seed in (1, 2, 3))]
    assert line["seeds"] == 3 and line["slope"] == pytest.approx(np.mean(slopes))
    assert line["low"] < line["slope"] < line["high"] and line["at_24"] == pytest.approx(deficit.loc[1, 24])
    without = write_rows(tmp_path, [row for row in rows if row.epochs < 24 or row.setting == "mlp"], share)
    line = trend_table(without).set_index("measure").loc["accuracy less MLP's"]
    assert line["seeds"] == 3 and line["at_12"] < 0 and np.isfinite(line["slope"]) and "at_24" not in line.dropna()


def test_partial_grids_say_so_and_give_what_they_can(tmp_path):
    rows = [row for row in grid() if row.part == "published" and row.seed == 1 and row.epochs <= 12]
    results = write_rows(tmp_path, rows, share)
    assert coverage(results).loc["published"].tolist() == [33, len(rows)]
    assert findings(results)[0] == f"published: {len(rows)} of 33 runs."
    write_summary(results)
    names = {path.name for path in tmp_path.iterdir()}
    assert "study_ferplus_heads.csv" in names and "study_ferplus_search.png" not in names
    assert np.isnan(comparisons(results)["accuracy_low"]).all() and not comparisons(results)["non_inferior"].any()


def test_without_any_run_the_ceiling_is_drawn_alone(tmp_path, capsys):
    here = ["--set", "ferplus", "--summary", "--results", str(tmp_path)]
    study.main.__wrapped__(here)
    assert "no rows" in capsys.readouterr().out and not list(tmp_path.iterdir())
    shutil.copy(Path(__file__).parents[2] / "results" / "ferplus_ceiling.csv", tmp_path)
    study.main.__wrapped__(here)
    models = pd.read_csv(tmp_path / "study_ferplus_ceiling.csv").set_index("model")
    assert list(models.index) == ["POSTER, published"] and models["to_second_round"].item() < 0
    assert (tmp_path / "study_ferplus_ceiling.png").is_file()


@pytest.mark.slow
def test_every_table_and_figure_comes_from_one_command(whole, capsys):
    ceiling = [{"classes": classes, "label": "all", "quantity": quantity, "percent": 90.0, "low": 89.0, "high": 91.0}
               for classes in (7, 8) for quantity in (
                   "second round's leading class, test split's classes", "second round, test split's classes",
                   "best guess, pictures certain or coin tosses", "best guess, uncertainty even, any rivals")]
    pd.DataFrame(ceiling).to_csv(whole.folder / "ferplus_ceiling.csv", index=False)
    study.main.__wrapped__(["--set", "ferplus", "--summary", "--results", str(whole.folder)])
    names = {path.name for path in whole.folder.iterdir()}
    assert set(figures_of(whole)) == set(FIGURES)
    assert {f"{name}.png" for name in FIGURES} | {f"{name}.csv" for name in TABLES} <= names
    out = capsys.readouterr().out
    assert "published: 33 of 33 runs." in out and "over seeds, Holm" in out
    assert {entry["file"] for entry in json.loads((whole.folder / "manifest.json").read_text())} <= names
    models = models_and_ceiling(whole)
    assert models.loc["POSTER, published", "to_second_round"] == pytest.approx(90 - 91.62)


def test_the_choice_is_the_rules_and_made_once(whole, tmp_path):
    found = search_table(whole)
    best = found.iloc[0]
    assert best["setting"] == "margin-0.1" and best["score"] == pytest.approx(
        min(best["accuracy"] / 1.0, best["macro_f1"] / 1.5))
    assert not {"votes", "q-shuffled", "mlp", "q-constant-0", "camera-degradation"} & set(found["setting"])
    results = write_rows(tmp_path, [row for row in grid() if row.part in SEARCHED], share)
    choice = write_choice(tmp_path)
    assert choice["setting"] == "margin-0.1" and 5 <= choice["seeds"] <= 12 and read_choice(tmp_path) == choice
    with pytest.raises(InputError, match="made once"):
        write_choice(tmp_path)
    confirm = [row for row in grid(choice) if row.part == "confirm"]
    assert len(confirm) == 2 * choice["seeds"] and {row.setting for row in confirm} == {"margin-0.1", "mlp"}
    assert not {row.seed for row in confirm} & {*SEEDS, *FRESH} and {row.seed for row in confirm} <= set(CONFIRMING)
    camera = grid({"setting": "x", "choices": {"head": "adaface", "margin": 0.4, "augmentation": "camera"}, "seeds": 5})
    (same,) = {json.dumps(row.choices) for row in camera if row.setting == "mlp-same-recipe"}
    assert json.loads(same) == {"head": "mlp", "augmentation": "camera"}
    assert coverage(results).loc["confirm", "runs"] == 2 * choice["seeds"]


def test_the_choice_waits_for_the_whole_search(tmp_path):
    rows = [row for row in grid() if row.part in SEARCHED]
    with pytest.raises(InputError, match="waits for 1 runs"):
        choose(write_rows(tmp_path, rows[:-1], share))


def test_more_spread_takes_more_seeds():
    assert power_of(5, 0.5, 0.3, 1.0) > power_of(5, 1.0, 0.3, 1.0)
    assert power_of(10, 1.0, 0.3, 1.0) > power_of(5, 1.0, 0.3, 1.0) > 0.05
    assert all(is_candidate(row) for row in grid() if row.setting == "camera-norm-taught")
    assert ferplus_choice.FEWEST <= len(CONFIRMING) and ferplus_choice.MOST <= len(CONFIRMING)


def test_rows_of_other_faces_are_refused(tmp_path):
    rows = grid()[:1]
    results = write_rows(tmp_path, rows, share)
    assert accuracy(results.confusions(results.table))[0, 0] == pytest.approx(results.table["accuracy"][0])
    results.table.assign(fingerprint="g").to_csv(tmp_path / TABLE, index=False)
    with pytest.raises(InputError, match="other faces"):
        findings(FerplusResults(tmp_path))
    (tmp_path / PREDICTIONS / "faces.npz").unlink()
    with pytest.raises(InputError, match="give FER"):
        findings(FerplusResults(tmp_path))


def test_the_search_takes_what_seeds_change_from_all_runs_of_its_length(whole):
    table = whole.table[whole.table["epochs"] == 6]
    wide = table.assign(name=table["part"] + " " + table["setting"]).pivot(
        index="name", columns="seed", values="validation_accuracy").loc[lambda wide: wide[[11, 12]].notna().all(axis=1)]
    block = wide[[11, 12]].stack()
    residual = wide[[11, 12]].sub(wide[[11, 12]].mean(axis=1), axis=0)
    residual -= residual.mean()
    spread = Spread.of(block)
    assert spread.freedom == len(wide) - 1
    assert spread.deviation == pytest.approx(np.sqrt((residual**2).to_numpy().sum() / (len(wide) - 1)))
    line = comparisons(whole).loc["ingredients"].query("setting == 'margin-0.1' and baseline == 'mlp'").iloc[0]
    of_all = Spread.of(table.assign(name=table["part"] + table["setting"]).set_index(["name", "seed"])[
        "validation_accuracy"])
    assert of_all.freedom > spread.freedom
    over_seeds = student_t.ppf(0.975, of_all.freedom) * of_all.deviation  # sqrt(2 / 2 seeds)
    half = line["accuracy_high"] - line["accuracy_difference"]
    assert over_seeds < half < over_seeds + 5 and line["accuracy_difference"] - half == pytest.approx(
        line["accuracy_low"])
    assert line["accuracy_p_seeds"] == pytest.approx(
        2 * student_t.sf(abs(line["accuracy_difference"]) / of_all.deviation, of_all.freedom))


def test_one_seed_of_the_search_has_an_interval_where_others_tell_the_spread(tmp_path):
    rows = [row for row in grid() if row.part == "published" and row.epochs == 6 and row.seed <= 3
            or row.part == "ingredients" and row.seed == 11]
    line = comparisons(write_rows(tmp_path, rows, share)).loc["ingredients"].iloc[0]
    assert line["seeds"] == 1 and line["accuracy_low"] < line["accuracy_difference"] < line["accuracy_high"]


def test_quality_is_compared_with_the_norms_own_and_the_same_faults(whole):
    table = quality_table(whole).reset_index().set_index("setting")
    assert set(table.loc[["votes", "votes-h1", "norm-h1"], "q"]) == {"votes", "votes, h 1", "norm, h 1"}
    assert table.loc["camera-norm-taught", "q"] == "norm, taught" and table.loc["mlp", "q"] == ""
    of_validation = whole.table.set_index(["setting", "seed"])["validation_accuracy"]
    wanted = of_validation["camera-degradation"] - of_validation["camera-norm"]
    assert table.loc["camera-degradation", "accuracy_difference"] == pytest.approx(wanted.mean())
    own = whole.table.query("part == 'ingredients' and setting == 'scale-8'").set_index("seed")
    assert table.loc["votes", "rare_difference"] == pytest.approx(
        (of_validation["votes"] - own["validation_accuracy"]).mean())
    assert np.isnan(table.loc[["published", "scale-8", "camera-norm"], "accuracy_difference"]).all()
    doubtful = LABELS <= 2  # of 4 + label votes, at most six
    both = [100 * (whole.predictions(f"quality-votes-e6-seed{seed}")["validation_prediction"][doubtful]
                   == LABELS[doubtful]).mean() for seed in (11, 12)]
    assert table.loc["votes", "unsure"] == pytest.approx(np.mean(both))
    assert (table["unsure_p_seeds_holm"].dropna() <= 1).all()


def test_quality_without_what_it_is_compared_with_has_no_differences(tmp_path):
    rows = [row for row in grid() if row.part == "quality" and row.setting == "votes"]
    line = quality_table(write_rows(tmp_path, rows, share)).iloc[0]
    assert line["accuracy"] > 0 and np.isnan(line["accuracy_difference"])


def test_the_designs_effects_are_over_all_its_combinations(tmp_path):
    rows = [row for row in grid() if row.part in ("design", "ingredients")]

    def right(row):
        return 0.7 + 0.05 * (row.choices.get("scale") == 4) - 0.02 * (row.choices.get("label_smoothing") == 0)

    results = write_rows(tmp_path, rows, right)
    table = design_table(results)
    assert table["accuracy_difference"].tolist() == pytest.approx([5, 0, -2], abs=0.25) and set(table["seeds"]) == {2}
    own = results.of(("design", "scale-4-margin-0.1-smoothing-0", 6, "nano"))
    assert own["margin"].eq(0.1).all() and len(own) == 2
    missing = [row for row in rows if (row.setting, row.seed) != ("scale-8-margin-0.1-smoothing-0", 12)]
    assert set(design_table(write_rows(tmp_path, missing, right))["seeds"]) == {1}
    assert design_table(write_rows(tmp_path, rows[:3], right)).empty


def test_the_design_is_balanced():
    combinations = list(design().values())
    assert len(combinations) == 8 and all(
        sum(one[a] == x and one[b] == y for one in combinations) == 2
        for a, b in combinations_of(FACTORS, 2) for x in FACTORS[a] for y in FACTORS[b])
    known = {(row.part, row.setting) for row in grid()}
    assert set(design()) <= known
