"""A margin head less MLP over seeds: paired, corrected for the pairs, and never called equal without a test."""

import pandas as pd
import pytest

from poster_ada.paper.ferplus_summary import verdict
from poster_ada.paper.over_seeds import non_inferior, over_seeds, photographs_over_seeds


@pytest.mark.parametrize(("differences", "margin", "found"), [
    ([-0.2, 0.1, 0.0, 0.1], 1.0, True),
    ([-0.2, 0.1, 0.0, 0.1], 0.1, False),
    ([-3.0, 2.0, -2.0, 3.0], 1.0, False),  # a mean of 0, but anything is possible
    ([5.0], 1.0, False),  # of a single seed nothing is known
])
def test_non_inferiority_asks_for_the_lower_end_of_the_interval(differences, margin, found):
    assert non_inferior(differences, margin) is found


def test_a_line_says_lower_higher_or_nothing():
    line = over_seeds({"accuracy": [-1.0, 0.5, 0.2], "macro_f1": [-3.0, -3.5, -4.0]})
    assert line["seeds"] == 3 and line["macro_f1_difference"] == pytest.approx(-3.5)
    assert line["macro_f1_high"] < 0 < line["accuracy_high"]
    assert verdict(line) == "lower macro F1, non-inferiority not shown"
    assert verdict(over_seeds({"accuracy": [2.0, 2.1, 2.2], "macro_f1": [0.1, -0.1, 0.0]})) == (
        "higher accuracy, non-inferior")


def test_photographs_are_paired_by_seed_and_corrected_for_the_pairs_that_are_there():
    losses = {"mlp": (0, 0, 0), "adaface-m0.4": (1, 2, 2), "adaface-m0.75": (4, 4.5, 5)}
    rows = [{"setting": setting, "seed": seed, "accuracy": 50.0 + 9 * seed - loss, "macro_f1": 40.0 - 2 * loss,
             "label_margin_accuracy": 50.0 + 9 * seed - 10 * loss}
            for setting, own in losses.items() for seed, loss in enumerate(own, 1)]
    table = photographs_over_seeds(pd.DataFrame(rows[::-1])).set_index("comparison")
    assert list(table.index) == ["AdaFace, m = 0.4 less MLP", "AdaFace, m = 0.75 less MLP"]
    first, second = table.iloc[0], table.iloc[1]
    assert second["accuracy_difference"] == -4.5 and second["label_margin_difference"] == -45.0
    assert first["macro_f1_p_seeds_holm"] == first["macro_f1_p_seeds"]  # the largest stays as it is
    assert second["macro_f1_p_seeds_holm"] == pytest.approx(2 * second["macro_f1_p_seeds"])
    assert photographs_over_seeds(pd.DataFrame(rows[:3])).empty
