"""What results/README.md says of the model in the package is what its tables have."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.design import DESIGNS, compared, markdown
from poster_ada.checkpoints.names import SHIPPED

RESULTS = Path(__file__).resolve().parents[1] / "results"
TEXT = " ".join((RESULTS / "README.md").read_text().split())


def listed(values):
    return ", ".join(f"{value:.1f}" for value in values)


def one_after_another(values):
    *first, last = (f"{value:.1f}" for value in values)
    return f"{', '.join(first)} and {last}"


def test_every_seed_of_the_final_recipe_is_told():
    seeds = pd.read_csv(RESULTS / "ferplus_seeds.csv")
    assert f"{['', 'one seed', 'two seeds', 'three seeds'][len(seeds)]} of 50 epochs" in TEXT
    for score, before, after in (("accuracy", ": ", " %, mean "), ("macro_f1", "macro F1 ", ", mean "),
                                 ("mirror_accuracy", "averaged ", " %, mean ")):
        assert f"{before}{one_after_another(seeds[score])}{after}{seeds[score].mean():.1f}" in TEXT
    assert f"calibration error {one_after_another(seeds['ece'])}; " in TEXT
    assert f"without a twin in training {one_after_another(seeds['without_twins_accuracy'])} %" in TEXT
    assert f"validation faces ({one_after_another(seeds['validation_accuracy'])} %)" in TEXT


def test_the_model_in_the_package_is_the_best_of_the_seeds_on_validation_faces():
    seeds = pd.read_csv(RESULTS / "ferplus_seeds.csv")
    assert seeds["validation_accuracy"].idxmax() == 1 and "In the package is the second, the best on validation" in TEXT
    card = SHIPPED["mini-ferplus"].with_suffix(".md").read_text(encoding="utf-8")
    assert f"the one of {len(seeds)} seeds with the best validation accuracy" in card
    best = seeds.loc[seeds["validation_accuracy"].idxmax()]
    assert f"| all | {best['faces']} | {best['accuracy']:.1f} (" in card


def test_fine_tuning_is_told_beside_the_model_untouched():
    rows = pd.read_csv(RESULTS / "ferplus_tuned.csv").set_index("way")
    untouched, tuned = rows.loc["untouched"], rows.loc[["tuned"]]
    assert f"untouched, {untouched['accuracy']:.1f} %, macro F1 {untouched['macro_f1']:.1f}" in TEXT
    assert f"{listed(tuned['accuracy'])} %, mean {tuned['accuracy'].mean():.1f}" in TEXT
    assert f"macro F1 {listed(tuned['macro_f1'])}, mean {tuned['macro_f1'].mean():.1f}" in TEXT
    assert f"mirrored {tuned['mirror_accuracy'].mean():.1f} and {tuned['mirror_macro_f1'].mean():.1f}" in TEXT


def test_every_pair_of_sets_is_told_with_its_intervals():
    rows = pd.read_csv(RESULTS / "ferplus_cross.csv").set_index(["trained_on", "tested_on"])
    names = {"FER+": "FER+ (`mini-ferplus`)", "faces": "the photographs", "demo": "demo faces"}
    for trained_on, name in names.items():
        cells = [f"{row['accuracy']:.1f} ({row['accuracy_low']:.1f} to {row['accuracy_high']:.1f}), "
                 f"{row['macro_f1']:.1f} ({row['macro_f1_low']:.1f} to {row['macro_f1_high']:.1f})"
                 for row in (rows.loc[(trained_on, tested_on)] for tested_on in ("FER+", "faces", "demo"))]
        assert f"| {name} | {' | '.join(cells)} |" in TEXT


def test_the_table_of_designs_is_that_of_their_runs():
    summary = pd.read_csv(RESULTS / "ferplus_design_summary.csv", index_col="design")
    runs = pd.read_csv(RESULTS / "ferplus_design.csv")
    found = compared(runs)
    assert list(found.index) == list(summary.index) and set(found.index) == set(DESIGNS)
    for column in found:
        assert summary[column].to_numpy() == pytest.approx(found[column].to_numpy(), nan_ok=True)
    assert " ".join(markdown(summary).split()) in TEXT
    assert (summary["seeds"] == 2).all() and "two seeds of each design" in TEXT
    lost, low, high = (summary.loc["without landmark stream", f"validation_accuracy_{name}"]
                       for name in ("difference", "low", "high"))
    assert f"fused with themselves are {-lost:.1f} points behind in accuracy ({low:+.1f} to {high:+.1f})" in TEXT
    assert low < 0 < high and summary.loc["without landmark stream", "validation_macro_f1_difference"] > 0
    shown = summary[["validation_accuracy_p", "validation_macro_f1_p"]] < 0.05
    assert shown.loc["without pyramid"].tolist() == [True, False]
    in_both = ["image stream alone", "landmark stream trained on points", "ResNet-18", "MobileNetV3-small"]
    assert shown.loc[in_both].all(axis=None)
    for design in ("without pyramid", *in_both):
        assert all(("below 0.001" if p < 0.001 else f"{p:.3f}") in TEXT for p in summary.loc[design, shown.columns])
    assert summary.loc["ResNet-18", ["validation_accuracy_low", "validation_macro_f1_low"]].gt(0).all()
    points = f"{summary.loc['ResNet-18', 'validation_accuracy_difference']:.1f} points ahead"
    assert f"of six times its parameters is {points}" in (RESULTS.parent / "README.md").read_text(encoding="utf-8")
    behind = ["image stream alone", "landmark stream trained on points", "MobileNetV3-small"]
    assert summary.loc[behind, ["validation_accuracy_high", "validation_macro_f1_high"]].lt(0).all(axis=None)
    assert summary.loc["without pyramid", "validation_accuracy_high"] < 0
