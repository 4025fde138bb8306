"""What results/README.md says of the model in the package is what its tables have."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.design import DESIGNS, compared, markdown

RESULTS = Path(__file__).resolve().parents[1] / "results"
TEXT = " ".join((RESULTS / "README.md").read_text().split())


def listed(values):
    return ", ".join(f"{value:.1f}" for value in values)


def test_every_seed_of_the_final_recipe_is_told():
    seeds = pd.read_csv(RESULTS / "ferplus_seeds.csv")
    for values, digits in ((seeds["accuracy"], 1), (seeds["macro_f1"], 0), (seeds["mirror_accuracy"], 1)):
        *first, last = (f"{value:.{digits}f}" for value in values)
        assert f"{', '.join(first)} and {last}" in TEXT


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
    assert ("validation faces, one seed, so a difference may be chance" in TEXT) == (runs["seed"].nunique() == 1)
