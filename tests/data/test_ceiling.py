"""The noise ceiling: twins are two rounds of votes, weighted as the test split is, with a band for the best guess."""

import numpy as np
import pandas as pd
import pytest
from face_sets import picture

from poster_ada.data import ceiling
from poster_ada.data.__main__ import main
from poster_ada.data.ceiling import BEST_HIGH, BEST_HIGHEST, BEST_LOW, ONCE, SECOND_ROUND, best_guess, ceiling_of
from poster_ada.errors import InputError

NAMES = ("Neutral", "Happiness", "Sadness", "Surprise", "Fear", "Disgust", "Anger", "Contempt")


def ballot(**votes):
    """Ten votes in FER+'s order."""
    order = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
    return [votes.get(name, 0) for name in order]


def found(votes, groups, counts):
    table = ceiling_of(np.array(votes), groups, np.array(counts), NAMES, 200)
    return table.set_index(["label", "quantity"])["percent"], table.set_index(["label", "quantity"])


HAPPY, SAD, SPLIT = ballot(happiness=9, neutral=1), ballot(sadness=8, neutral=2), ballot(happiness=5, sadness=5)


def test_agreement_is_told_as_it_is_and_in_the_test_splits_classes():
    votes = [HAPPY, HAPPY, HAPPY, SAD, SAD, SAD, HAPPY, SPLIT]  # three pairs, one disagrees, and one without a majority
    percent, table = found(votes, [[0, 1], [2, 3], [4, 5], [6, 7]], [0, 30, 10, 0, 0, 0, 0, 0])
    assert percent["all", "second round, as twins are"] == pytest.approx(100 * 2 / 3)
    assert percent["Happiness", "second round"] == percent["Sadness", "second round"] == pytest.approx(100 * 2 / 3)
    assert table.loc[("Happiness", "second round"), "pairs"] == 2 and table.loc[("all", SECOND_ROUND), "pairs"] == 3
    votes[3] = HAPPY  # now two of two happy pairs agree, one of one sad pair
    assert found(votes, [[0, 1], [2, 3], [4, 5]], [0, 30, 10, 0, 0, 0, 0, 0])[0]["all", SECOND_ROUND] == 100
    votes[5] = ballot(neutral=10)
    percent, _ = found(votes, [[0, 1], [2, 3], [4, 5]], [0, 30, 10, 0, 0, 0, 0, 0])
    assert percent["all", SECOND_ROUND] == pytest.approx(75) == percent["all", BEST_LOW]


def test_a_large_group_counts_once_where_it_is_to():
    votes = [HAPPY] * 6 + [HAPPY, SAD]
    percent, _ = found(votes, [list(range(6)), [6, 7]], [0, 1, 1, 0, 0, 0, 0, 0])
    assert percent["all", "second round, as twins are"] == pytest.approx(100 * 15 / 16)
    assert percent["all", ONCE] == pytest.approx(50)


def test_the_best_guess_is_the_root_of_what_agreement_it_gives():
    for right in (0.6, 0.9, 0.97):
        for rivals in (1, 6):
            agreement = right**2 + (1 - right) ** 2 / rivals
            assert best_guess(np.array([agreement]), rivals)[0] == pytest.approx(right)
    assert best_guess(np.array([0.907]), 1)[0] == pytest.approx(0.951, abs=5e-4)


def test_the_band_holds_what_was_put_into_it():
    """Pictures with a known chance of each label: agreement and the best guess as they must be."""
    random = np.random.default_rng(2)
    chance = random.choice([1.0, 0.9, 0.6], 3000)
    rounds = np.where(random.random((3000, 2)) < chance[:, None], 0, 1)
    votes = np.array([HAPPY, SAD])[rounds.ravel()]
    percent, table = found(votes, [[2 * n, 2 * n + 1] for n in range(3000)], [0, 5, 1, 0, 0, 0, 0, 0])
    raw = percent["all", "second round, as twins are"]
    assert raw == pytest.approx(100 * (chance**2 + (1 - chance) ** 2).mean(), abs=2)
    assert raw <= 100 * chance.mean() <= 100 * best_guess(np.array([raw / 100]), 1)[0] + 1
    assert percent["all", BEST_LOW] < percent["all", BEST_HIGH] < percent["all", BEST_HIGHEST] < 100
    row = table.loc[("all", "second round, as twins are")]
    assert row["low"] < raw < row["high"] and row["high"] - row["low"] < 4


def test_copied_rounds_and_rounds_of_one_mind_are_told_from_chance():
    random = np.random.default_rng(3)
    first = random.multinomial(10, [0.5, 0.5] + [0] * 8, 400)
    for second, more_alike in ((first, True), (10 * (random.random((400, 1)) < 0.5) * np.eye(10, dtype=int)[0], False)):
        votes = np.stack([first, second], 1).reshape(-1, 10)
        votes[:, 1] = 10 - votes[:, 0]
        percent, _ = found(votes, [[2 * n, 2 * n + 1] for n in range(400)], [1, 1, 0, 0, 0, 0, 0, 0])
        shared, anew = (percent["all", f"votes shared by two rounds{end}"] for end in ("", ", dealt anew"))
        assert (shared > anew + 2) == more_alike and (shared < anew - 2) != more_alike
    dealt = ceiling._dealt(2 * first, first.sum(1), random)
    assert (dealt.sum(1) == 10).all() and (dealt <= 2 * first).all() and (dealt >= 0).all()


def test_the_command_prints_and_writes_and_refuses_what_it_cannot_judge(tmp_path, capsys):
    root = tmp_path / "faces"
    for number, name in enumerate(("FER2013Train", "FER2013Valid", "FER2013Test")):
        (root / name).mkdir(parents=True)
        picture(1, (48, 48)).convert("L").save(root / name / f"{number}.png")
        votes = (HAPPY, SAD, HAPPY)[number]
        (root / name / "label.csv").write_text(f'{number}.png,"(0, 0, 48, 48)",{",".join(map(str, votes))}\n')
    main.__wrapped__(["ceiling", str(root), "--classes", "7", "--out", str(tmp_path / "table.csv")])
    table = pd.read_csv(tmp_path / "table.csv").set_index(["label", "quantity"])
    assert table.loc[("all", "second round, as twins are"), "percent"] == pytest.approx(100 / 3, abs=1e-3)
    assert set(table["classes"]) == {7} and SECOND_ROUND in capsys.readouterr().out
    for number, name in enumerate(("FER2013Valid", "FER2013Test")):
        picture(5 + number, (48, 48)).convert("L").save(root / name / f"{number + 1}.png")
    with pytest.raises(InputError, match="holds no picture twice"):
        main.__wrapped__(["ceiling", str(root)])
