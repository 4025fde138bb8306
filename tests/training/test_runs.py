"""A run's folder: its name, its files, what it says when they are broken, and which code made it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from face_sets import rafdb
from small_runs import small

import poster_ada.training.runs as runs
from poster_ada.data.datasets import open_dataset
from poster_ada.errors import InputError
from poster_ada.model.config import PRESETS
from poster_ada.training.loop import train
from poster_ada.training.recipe import TrainConfig
from poster_ada.training.runs import Run, code_version, default_folder, environment, pretrained_fingerprint, slug


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory):
    return train(small(faces, epochs=1, head="adaface"), tmp_path_factory.mktemp("runs") / "run", device="cpu",
                 quiet=True)


def test_a_run_holds_its_files(run, faces):
    assert sorted(path.name for path in run.path.iterdir()) == [
        ".lock", "best.safetensors", "config.json", "last.safetensors", "log.csv", "predictions.csv", "record.json"]
    assert run.exists and run.finished and run.config == small(faces, epochs=1, head="adaface")
    assert not run.model().training and run.model("last").config == run.config.model
    record, tensors = run.last_state()
    assert record["epoch"] == 1 and len(record["log"]) == 1 and any(name.startswith("training/") for name in tensors)


def test_a_folder_that_is_no_run(tmp_path):
    empty = Run(tmp_path)
    assert not empty.exists and not empty.finished and empty.last_state() is None
    for name in ("config", "record"):
        with pytest.raises(InputError, match=f"is not a training run: it has no {name}.json"):
            getattr(empty, name)
    for damage in (b"{", b"\xff\xfe"):
        (tmp_path / "config.json").write_bytes(damage)
        with pytest.raises(InputError, match="config.json is not JSON any more; delete the folder"):
            empty.config  # noqa: B018
    (tmp_path / "record.json").write_text("{}")
    assert empty.exists and not empty.finished
    empty.write("record.json", {"finished": True, "name": "Ga \N{HANGUL SYLLABLE GA}"})
    assert empty.finished and empty.record["name"] == "Ga \N{HANGUL SYLLABLE GA}"


def test_a_log_is_written_and_read_whole(tmp_path):
    rows = [{"epoch": 1, "train_loss": 0.1 + 0.2}, {"epoch": 2, "train_loss": 1e-9}]
    Run(tmp_path).write_log(rows)
    assert Run(tmp_path).log.to_dict("records") == rows
    assert (tmp_path / "log.csv").read_text().startswith("epoch,train_loss\n1,")


def test_results_are_discarded_and_the_rest_stays(tmp_path):
    for name in ("predictions.csv", "predictions_label_margin.csv", "log.csv"):
        (tmp_path / name).touch()
    Run(tmp_path).discard_results()
    Run(tmp_path).discard_results()
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_the_same_settings_faces_and_weights_share_a_folder(faces, tmp_path, monkeypatch):
    dataset, config = open_dataset(faces), small(faces, head="adaface", seed=5)
    folder = default_folder(config, dataset)
    assert folder.parent == Path("runs")
    assert folder.name.startswith(f"nano-adaface-{slug(dataset.name)}-seed5-") and len(folder.name.split("-")[-1]) == 8
    moved = shutil.copytree(faces, tmp_path / faces.name)
    assert default_folder(small(moved, head="adaface", seed=5), open_dataset(moved)) == folder
    others = rafdb(tmp_path / "others" / faces.name, train=57, test=21)
    assert default_folder(small(others, head="adaface", seed=5), open_dataset(others)) != folder
    assert default_folder(small(faces, head="adaface", seed=5, lr=0.1), dataset) != folder
    monkeypatch.setattr(runs, "pretrained_fingerprint", lambda config: "other weights")
    assert default_folder(config, dataset) != folder


def test_pretrained_weights_have_a_fingerprint(tmp_path):
    nano, small_one = (TrainConfig(model=PRESETS[name], pretrained=str(tmp_path)) for name in ("nano", "small"))
    nothing = pretrained_fingerprint(small_one)
    assert len(nothing) == 64 and pretrained_fingerprint(nano) not in (nothing, "")
    seen = {nothing}
    for name, content in (("ir50.pth", b"a"), ("ir50.pth", b"b"), ("mobilefacenet_model_best.pth.tar", b"a")):
        (tmp_path / name).write_bytes(content)
        seen.add(pretrained_fingerprint(small_one))
    assert len(seen) == 4
    assert pretrained_fingerprint(nano) == pretrained_fingerprint(TrainConfig(model=PRESETS["nano"]))


@pytest.mark.parametrize(("name", "expected"), [
    ("RAF-DB basic", "raf-db-basic"), ("  my/faces: 2! ", "my-faces-2"), ("\uac00 \u00e9", "\uac00-\u00e9"),
    ("...", "faces"),
])
def test_names_become_parts_of_file_names(name, expected):
    assert slug(name) == expected


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git repository with the package in it, as the module sees it; its folder and a way to run git there."""
    top = tmp_path / "clone"
    module = top / "poster_ada" / "training" / "runs.py"
    module.parent.mkdir(parents=True)
    module.write_text("# code\n")
    monkeypatch.setattr(runs, "__file__", str(module))
    for name, value in {"AUTHOR": "a", "COMMITTER": "a"}.items():
        monkeypatch.setenv(f"GIT_{name}_NAME", value)
        monkeypatch.setenv(f"GIT_{name}_EMAIL", value)

    def git(*words, folder=top):
        return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()

    return module, git


def test_code_is_named_by_its_commit_and_marked_where_it_differs(checkout):
    module, git = checkout
    top = module.parents[2]
    assert code_version() == "not a git checkout"
    git("init", "-q")
    assert code_version() == "not a git checkout"  # without a commit
    git("add", ".")
    git("commit", "-q", "-m", "one")
    commit = git("rev-parse", "HEAD")
    assert code_version() == commit and len(commit) == 40
    (top / "notes.txt").write_text("untracked, and no code")
    (top / "poster_ada" / "new.py").write_text("untracked")
    assert code_version() == commit
    module.write_text("# changed\n")
    assert code_version() == f"{commit}+changes"
    git("commit", "-q", "-a", "-m", "two")
    assert code_version() == git("rev-parse", "HEAD") != commit


def test_a_package_inside_another_repository_does_not_take_its_commit(checkout):
    module, git = checkout
    outer = module.parents[3]
    git("init", "-q", folder=outer)
    git("add", ".", folder=outer)
    git("commit", "-q", "-m", "one", folder=outer)
    assert code_version() == "not a git checkout"


def test_without_a_git_program_training_goes_on(faces, tmp_path, monkeypatch):
    (tmp_path / "nothing").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert code_version() == "not a git checkout"
    run = train(small(faces, epochs=1), tmp_path / "run", device="cpu", quiet=True)
    assert run.finished and run.record["environment"]["commit"] == "not a git checkout"


def test_the_environment_is_told(monkeypatch):
    monkeypatch.setattr(runs, "code_version", lambda: "abc")
    found = environment()
    assert found["commit"] == "abc" and found["threads"].isdigit() and found["device"]
    assert found["python"].split(".")[0] == "3" and found["torch"][0].isdigit() and os.cpu_count()


def test_a_checkpoint_to_start_from_counts_by_its_content(faces, tmp_path):
    dataset, plain = open_dataset(faces), small(faces)
    names = {default_folder(plain, dataset).name}
    for name, content in (("a", b"1"), ("b", b"1"), ("a", b"2")):
        (tmp_path / name).write_bytes(content)
        names.add(default_folder(small(faces, checkpoint=str(tmp_path / name)), dataset).name)
    assert len(names) == 3
    with pytest.raises(InputError, match="there is no checkpoint file gone to start from"):
        pretrained_fingerprint(small(faces, checkpoint="gone"))
