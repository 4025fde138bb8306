"""What the README promises exists: links, files, make targets, commands and their flags, runnable examples, results."""

import importlib
import re
import shlex
from importlib.metadata import distributions
from pathlib import Path

import pandas as pd
import pytest
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from photographs import Scripted
from PIL import Image
from scipy import stats

from poster_ada.paper.ferplus_grid import read_choice
from poster_ada.paper.ferplus_summary import direction
from poster_ada.paper.figures import interval_text

CHECKOUT = Path(__file__).resolve().parents[1]
README = (CHECKOUT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
SHELL_LINES = [line.strip() for kind, block in BLOCKS if kind in ("", "sh", "bash", "console")
               for line in block.replace("\\\n", " ").splitlines()]
INLINE = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", README, flags=re.DOTALL))
COMMANDS = [line.split("#")[0].removeprefix("$ ").strip() for line in [*SHELL_LINES, *INLINE]]


def test_relative_links_lead_to_files():
    links = re.findall(r"\]\(([^)\s]+)\)", README) + re.findall(r"(?:src|href)=\"([^\"]+)\"", README)
    missing = [link for link in links if "://" not in link and not link.startswith("#")
               and not (CHECKOUT / link.split("#")[0]).exists()]
    assert not missing


def test_every_pinned_package_installs_on_the_oldest_python_that_is_named():
    """Debian 12 has 3.11.2: a package that needs 3.11.5 stops the first command of the page there."""
    oldest = re.search(r"Needs Python (\d+\.\d+) or later", README)[1]
    assert f'requires-python = ">={oldest}"' in (CHECKOUT / "pyproject.toml").read_text()
    pinned = {canonicalize_name(line.split("==")[0]): line.split("==")[1].split(";")[0].strip()
              for line in (CHECKOUT / "requirements.txt").read_text().splitlines() if re.match(r"[\w.-]+==", line)}
    here = [package for package in distributions()
            if pinned.get(canonicalize_name(package.name)) == package.version]
    asked = {package.name: package.metadata["Requires-Python"] for package in here}
    assert len(here) > 50
    assert not {name for name, needs in asked.items() if needs and not SpecifierSet(needs).contains(f"{oldest}.0")}


def test_make_targets_exist():
    makefile = (CHECKOUT / "Makefile").read_text()
    targets = {word for command in COMMANDS if command.startswith("make ") for word in command.split()[1:]
               if "=" not in word}
    assert targets and all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def python_commands():
    """(module, words after it) of every `python -m poster_ada...` in the README."""
    found = [re.search(r"python3? -m (poster_ada[\w.]*)(.*)", command) for command in COMMANDS]
    return sorted({(match[1], match[2].strip()) for match in found if match})


@pytest.mark.parametrize(("module", "words"), python_commands())
def test_commands_know_their_flags(module, words, capsys):
    package = importlib.util.find_spec(module).submodule_search_locations
    main = importlib.import_module(f"{module}.__main__" if package else module).main
    given = [word for word in shlex.split(words) if not word.startswith("-")]
    with pytest.raises(SystemExit) as stop:
        main([*given[:1], "--help"] if package else ["--help"])
    assert not stop.value.code
    text = capsys.readouterr().out
    flags = {word.split("=")[0] for word in shlex.split(words) if word.startswith("-")}
    assert all(re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text) for flag in flags)


@pytest.mark.parametrize("block", [block for kind, block in BLOCKS if kind == "python"])
def test_python_examples_run(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.open(CHECKOUT / "figures" / "demo_contact_sheet.png").convert("RGB").save("photo.jpg")
    monkeypatch.setattr("poster_ada.recognition.recognizer.FaceDetector", lambda *_: Scripted((300, 20, 120, 120)))
    exec(compile(block, "README.md", "exec"), {})  # noqa: S102


def test_result_table_is_what_the_committed_files_say():
    reported = pd.read_csv(CHECKOUT / "figures" / "05_ablation_table.csv").set_index("model")["reported on RAF-DB"]
    found = pd.read_csv(CHECKOUT / "results" / "study_summary.csv").set_index("setting")
    heads = (("MLP", "POSTER-s", "mlp"), ("AdaFace, m = 0.4", "POSTER-Ada-s, m = 0.4", "adaface-m0.4"),
             ("AdaFace, m = 0.75", "POSTER-Ada-s, m = 0.75", "adaface-m0.75"), ("adaface-fer", "", "adaface-fer"))
    for head, row, setting in heads:
        cells = [head, f"{reported[row]:.2f}" if row else "",
                 *(interval_text(found.loc[setting, column], found.loc[setting, f"{column}_interval"])
                   for column in ("label_margin_accuracy", "accuracy", "macro_f1"))]
        line = f"| {' | '.join(cells)} |".replace("|  |", "| |")
        assert line in README, line


def test_findings_are_the_studys():
    pair = pd.read_csv(CHECKOUT / "results" / "study_comparisons.csv").set_index(["setting", "baseline"])
    published, chosen = pair.loc["adaface-m0.4", "mlp"], pair.loc["adaface-fer", "mlp-same-recipe"]
    text = " ".join(README.split())
    assert f"{-published['label_margin_difference']:.1f} points" in text
    for row in (published, chosen):
        assert (f"{row['difference']:+.1f} points (95 % interval {row['difference_low']:+.1f} to "
                f"{row['difference_high']:+.1f})") in text
    norms = pd.read_csv(CHECKOUT / "results" / "study_norms.csv").set_index(["setting", "norm_source", "kind"])
    for setting in ("adaface-m0.4", "adaface-fer"):
        assert f"r = {norms.loc[(setting, 'embedding', 'all'), 'r']:.2f}" in text


def test_ferplus_is_told_as_the_study_has_it():
    pairs = pd.read_csv(CHECKOUT / "results" / "study_ferplus_comparisons.csv").set_index(["part", "setting", "epochs"])
    row, text = pairs.loc[("published", "adaface-m0.4", 12)], " ".join(README.split())
    assert f"{row['seeds']} seeds of 12 epochs" in text
    for name in ("accuracy", "macro_f1"):
        assert (f"{row[f'{name}_difference']:+.1f} points ({row[f'{name}_low']:+.1f} to "
                f"{row[f'{name}_high']:+.1f})") in text


def test_longer_training_is_told_as_the_study_has_it():
    trend = pd.read_csv(CHECKOUT / "results" / "study_ferplus_trend.csv").set_index(["setting", "measure"])
    line, text = trend.loc[("adaface-m0.4", "accuracy less MLP's")], " ".join(README.split())
    short, middle, long = (line[f"at_{epochs}"] for epochs in (6, 12, 24))
    assert (f"after 6, 12 and 24 epochs accuracy differs by {short:+.1f}, {middle:+.1f} and {long:+.1f} points, "
            f"per doubling by {line['slope']:+.1f} ({line['low']:+.1f} to {line['high']:+.1f})") in text
    assert ("Longer training is not shown to close it" in text) == (line["low"] <= 0)


def test_collapsed_classes_are_the_studys():
    classes = pd.read_csv(CHECKOUT / "results" / "study_ferplus_classes.csv").set_index(["part", "setting", "epochs"])
    own = classes.loc[("published", "adaface-m0.4", 12)]
    text = " ".join((CHECKOUT / "results" / "README.md").read_text(encoding="utf-8").split())
    near = own[own["beyond"] > 0]
    assert f"{own['beyond'].sum() / own['seeds'].iloc[0]:.1f} of {len(own)} pairs of classes" in text
    assert "At 64 the class vectors of four rare expressions nearly coincide" in " ".join(README.split())
    assert set(near["class"]) | set(near["other"]) == {"Sadness", "Anger", "Fear", "Disgust"}
    assert classes.loc[("published", "mlp", 12), "cosine"].max() < 0.5
    pairs = pd.read_csv(CHECKOUT / "results" / "study_ferplus_comparisons.csv").set_index(["part", "setting", "epochs"])
    apart = pairs.loc[("ingredients", "classes-simplex", 6)].query("baseline == 'mlp'").iloc[0]
    assert ("one seed" if apart["seeds"] == 1 else f"{apart['seeds']} seeds") + " of 6 epochs" in text
    for name in ("accuracy", "macro_f1"):
        assert (f"{apart[f'{name}_difference']:+.1f} ({apart[f'{name}_low']:+.1f} to "
                f"{apart[f'{name}_high']:+.1f})") in text
        assert apart[f"{name}_high"] < 0


def test_what_the_scale_does_is_the_studys():
    pairs = pd.read_csv(CHECKOUT / "results" / "study_ferplus_comparisons.csv").set_index(
        ["part", "setting", "epochs", "baseline"])
    text = " ".join(README.split())
    best = ("design", "scale-4-margin-0.1-smoothing-0", 6, "ingredients mlp")
    scale = [pairs.loc[("ingredients", "scale-4", 6, baseline)] for baseline in ("published", "mlp")]
    for row in (*scale, pairs.loc[best]):
        assert f"{row['seeds']} seeds of 6 epochs" in text
        for name in ("accuracy", "macro_f1"):
            assert f"{row[f'{name}_difference']:+.1f} ({row[f'{name}_low']:+.1f} to {row[f'{name}_high']:+.1f})" in text
    assert scale[0]["accuracy_low"] > 0
    assert read_choice(CHECKOUT / "results")["setting"] == best[1]


def test_the_three_sentences_say_what_is_shown():
    pairs = pd.read_csv(CHECKOUT / "results" / "study_ferplus_comparisons.csv").set_index(
        ["part", "setting", "epochs", "baseline"])
    text = " ".join(README.split())
    published = pairs.loc[("published", "adaface-m0.4", 12, "mlp")]
    assert "AdaFace as published loses rare expressions" in text and direction(published, "macro_f1") == "lower"
    chosen = pairs.loc[("confirm", read_choice(CHECKOUT / "results")["setting"], 12, "mlp")]
    shown = [direction(chosen, name) for name in ("accuracy", "macro_f1")]
    assert ("at s = 4 accuracy is within a point of MLP's, and neither measure is shown to be lower" in text) == (
        shown == ["", ""] and -1 < chosen["accuracy_low"] < chosen["accuracy_high"] < 1)
    same = pairs.loc[("confirm", read_choice(CHECKOUT / "results")["setting"], 12, "mlp-same-recipe")]
    assert ("against MLP without label smoothing, rare expressions still lose" in text) == (
        direction(same, "macro_f1") == "lower")
    nearer = pairs.loc[("ingredients", "scale-4", 6, "published")]
    of_mlp = pairs.loc[("ingredients", "scale-4", 6, "mlp")]
    assert "On FER+ most of that is its scale" in text
    for name in ("accuracy", "macro_f1"):
        loss = of_mlp[f"{name}_difference"] - nearer[f"{name}_difference"]  # of the published scale
        assert nearer[f"{name}_difference"] > -loss / 2


def test_the_confirmation_is_told_with_its_seeds_and_the_rules_verdict():
    pairs = pd.read_csv(CHECKOUT / "results" / "study_ferplus_comparisons.csv").set_index(
        ["part", "setting", "baseline"])
    choice, text = read_choice(CHECKOUT / "results"), " ".join(README.split())
    row = pairs.loc[("confirm", choice["setting"], "mlp")]
    told = text.partition("Run again on test faces")[2]
    for other in (row, pairs.loc[("confirm", choice["setting"], "mlp-same-recipe")]):
        for name in ("accuracy", "macro_f1"):
            low, high = other[f"{name}_low"], other[f"{name}_high"]
            assert f"{other[f'{name}_difference']:+.1f} ({low:+.1f} to {high:+.1f})" in told
    assert f"{row['seeds']} fresh seeds" in told and row["seeds"] == choice["seeds"]
    assert ("macro F1 is not shown to be within its 1.5" in told) != row["non_inferior"]
    assert ("accuracy passes the rule's 1 point" in told) == (row["accuracy_one_sided_low"] > -1)
    for end in (row["accuracy_one_sided_low"], row["macro_f1_one_sided_low"]):
        assert f"{end:+.1f})" in told
    rare = pd.read_csv(CHECKOUT / "results" / "study_ferplus_recalls.csv")["class_faces"].min()
    assert (f"{rare} test faces of Disgust, faces alone leave {row['macro_f1_faces_alone']:.1f} of the 1.5 points open"
            in told)


def test_the_cost_of_the_ferplus_study_is_that_of_its_runs():
    runs = pd.read_csv(CHECKOUT / "results" / "study_ferplus.csv")
    # `seconds` of a run that was stopped lacks what it had trained before
    trained = runs["epochs"] * runs["train_faces"] / runs["faces_per_second"]
    hours = runs["seconds"].combine(trained, max).sum() / 3600
    text = " ".join((CHECKOUT / "results" / "README.md").read_text().split())
    assert f"{len(runs)} runs took {hours:.0f} hours of one core" in text


def test_macro_f1_is_told_beside_accuracy():
    """Paired over the seeds of the study: mean, t interval, and Holm's correction of the three p-values."""
    scores = pd.read_csv(CHECKOUT / "results" / "study.csv").set_index("id")["macro_f1"]
    pairs = {"protocol-adaface-m0.4": "protocol-mlp", "protocol-adaface-m0.75": "protocol-mlp",
             "confirm-adaface-fer": "confirm-mlp-same-recipe"}
    differences = [scores.filter(like=f"{head}-seed").to_numpy() - scores.filter(like=f"{other}-seed").to_numpy()
                   for head, other in pairs.items()]
    text = " ".join(README.split())
    for found in differences:
        mean, (low, high) = found.mean(), stats.t.interval(0.95, len(found) - 1, found.mean(), stats.sem(found))
        assert f"{mean:+.1f}" in text and f"{low:+.1f} to {high:+.1f}" in text
    p = sorted(stats.ttest_1samp(found, 0).pvalue for found in differences)
    assert max(value * (len(p) - rank) for rank, value in enumerate(p)) < 0.01
