"""The paper from the committed results, with FER+ rows and without, and the appendix of every setting."""

import re
import shutil
import tomllib
from dataclasses import fields

import pandas as pd
import pytest
import yaml

from poster_ada.errors import InputError
from poster_ada.model.config import PRESETS, PosterConfig
from poster_ada.paper.ferplus_grid import grid
from poster_ada.paper.study_grid import CHOSEN
from poster_ada.paper.typesetting import CHECKOUT, LEFT_OUT, PAPER, RESULTS, settings_tables, typeset
from poster_ada.training.recipe import HEAD_RECIPES, TrainConfig, scheduled


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    copy = tmp_path_factory.mktemp("figures")
    for path in (CHECKOUT / "figures").iterdir():
        if path.suffix in (".csv", ".json", ".pdf"):
            shutil.copy(path, copy)
    return copy


def test_the_paper_is_typeset_from_the_committed_results(figures):
    (figures / "report.pdf").unlink(missing_ok=True)
    assert typeset(figures).read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("seeds", [1, 3])
def test_ferplus_rows_may_be_few(figures, tmp_path, seeds):
    """Two heads at one length, with one seed, of which no interval is known, and with three."""
    for path in RESULTS.glob("*.csv"):
        shutil.copy(path, tmp_path)
    for path in RESULTS.glob("study_*.pdf"):
        shutil.copy(path, tmp_path)
    key = {"part": "published", "epochs": 12, "preset": "nano", "seeds": seeds}
    means = ("label_margin_accuracy", "accuracy", "macro_f1")
    known = 1.0 if seeds > 1 else float("nan")
    pd.DataFrame([key | {"setting": name} | {column: 70.0 for column in means}
                  | {f"{column}_interval": known for column in means} for name in ("mlp", "adaface-m0.4")]).to_csv(
        tmp_path / "study_ferplus_heads.csv", index=False)
    ends = {f"{name}_{end}": end_value for name in ("accuracy", "macro_f1")
            for end, end_value in (("difference", -5.0), ("low", -5 - known), ("high", -5 + known),
                                   ("p_seeds_holm", 0.01 * known))}
    pd.DataFrame([key | {"setting": "adaface-m0.4", "baseline": "mlp", "non_inferior": False} | ends]).to_csv(
        tmp_path / "study_ferplus_comparisons.csv", index=False)
    pd.DataFrame([{"id": row.id, "train_faces": 24925, "epochs": row.epochs, "faces_per_second": 300.0, "seconds": 60.0}
                  for row in grid()[:2 * seeds]]).to_csv(
        tmp_path / "study_ferplus.csv", index=False)
    assert typeset(figures, results=tmp_path).is_file()


def test_what_is_missing_is_said(figures, tmp_path):
    with pytest.raises(InputError, match=f"{PAPER.name} could not be typeset: .*01_data_exploration_numbers"):
        typeset(tmp_path)


def test_the_appendix_has_every_field_and_the_codes_values():
    tables = settings_tables()
    for kind, config_class in (("model", PosterConfig), ("training", TrainConfig)):
        names = {row[0] for row in tables[kind]["rows"]}
        assert names >= {field.name for field in fields(config_class)} - set(LEFT_OUT)
        assert all(len(row) == len(tables[kind]["columns"]) + 1 for row in tables[kind]["rows"])
    training, model = ({row[0]: row[1:] for row in tables[kind]["rows"]} for kind in ("training", "model"))
    assert training["epochs"] == ["300", str(scheduled("nano")["epochs"]), str(scheduled("nano", "ablation")["epochs"]),
                                  str(scheduled("nano", "study")["epochs"]), "6, 12, 24"]
    assert model["depth"] == [str(PRESETS[name].depth) for name in ("small", "nano", "mini")]
    named = dict(tables["named"])
    assert f"scale {HEAD_RECIPES[CHOSEN]['scale']:g}," in named[f"photographs, {CHOSEN}"]
    assert {f"FER+, {row.setting}" for row in grid()} <= set(named)


def test_the_citation_is_of_this_version_and_names_no_one():
    citation = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (citation["version"], citation["title"], citation["license"]) == (
        project["version"], project["name"], project["license"])
    assert citation["authors"] == citation["preferred-citation"]["authors"] == [{"name": "The poster-ada contributors"}]


def test_every_figure_and_table_is_cited_and_every_reference_used():
    text = PAPER.read_text(encoding="utf-8")
    labels = set(re.findall(r"\) <([\w-]+)>", text))
    cited = set(re.findall(r"@([\w-]+)", text)) | set(re.findall(r"#ref\(<([\w-]+)>", text))
    references = set(yaml.safe_load((PAPER.parent / "references.yml").read_text(encoding="utf-8")))
    assert labels <= cited and references <= cited
