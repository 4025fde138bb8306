"""`python -m poster_ada.train`: flags to a recipe that fits the faces, what it says, and its several processes."""

import json
import shlex
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from face_sets import ferplus, picture, rafdb

import poster_ada.train as command
import poster_ada.training.loop as loop
from poster_ada.data.datasets import open_dataset
from poster_ada.expressions import AFFECTNET_CLASSES
from poster_ada.model.config import PosterConfig
from poster_ada.train import DEMO, configure, launch, main, parser
from poster_ada.training.recipe import TrainConfig, fit_recipe, train_command
from poster_ada.training.runs import Run


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return rafdb(tmp_path_factory.mktemp("faces"), train=28, test=14)


@pytest.fixture(autouse=True)
def outside_of_any_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*argv) -> int:
    with pytest.raises(SystemExit) as status:
        main([str(word) for word in argv])
    return status.value.code


def affectnet(root: Path) -> Path:
    """AffectNet's layout with label files for 7 and for 8 classes; Contempt is in the latter alone."""
    for split, files, count in (("train", "train_set", 32), ("valid", "valid_set", 16)):
        (root / files / "images").mkdir(parents=True)
        for number in range(count):
            picture(number + 100 * len(split), (60, 60)).save(root / files / "images" / f"{number}.jpg")
        for classes in (7, 8):
            lines = [f"{number}.jpg {number % 8}" for number in range(count) if number % 8 < classes]
            labels = root / files / f"{split}_annotations_{classes}class.txt"
            labels.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.mark.parametrize(("name", "classes"), [("affectnet", 7), ("affectnet8class", 8)])
def test_affectnet_is_trained_in_its_published_variant(tmp_path, name, classes):
    root = affectnet(tmp_path / "AffectNet")
    assert run("--dataset", name, "--data", root, "--preset", "nano", "--epochs", 1, "--batch-size", 8, "--head",
               "adaface", "--run-dir", "run", "--quiet", "--device", "cpu") == 0
    trained = Run(Path("run"))
    config = trained.config
    assert config.model.class_names == AFFECTNET_CLASSES[:classes] and config.model.num_classes == classes
    assert config.model.channel_order == "RGB" and config.balanced and not config.model.token_mixing
    assert trained.finished and trained.record["test"]["faces"] == 2 * classes
    args = parser().parse_args(["--dataset", name, "--data", str(root), "--preset", "small", "--head", "adaface"])
    assert configure(args)[0].lr == 2e-6
    args = parser().parse_args(["--dataset", name, "--data", str(root), "--no-balanced", "--lr", "0.5"])
    assert (configure(args)[0].balanced, configure(args)[0].lr, configure(args)[0].preset) == (False, 0.5, "large")


def test_the_data_set_that_was_named_has_to_be_there(tmp_path, faces, capsys):
    assert run("--dataset", "affectnet", "--data", faces) == 2
    assert "holds the layout RAF-DB, but affectnet was asked for" in capsys.readouterr().err
    assert run("--dataset", "rafdb", "--data", affectnet(tmp_path / "a")) == 2
    assert "holds the layout AffectNet, but rafdb was asked for" in capsys.readouterr().err
    assert run("--dataset", "affectnet") == 2
    assert "data/AffectNet is not there; data/README.md" in capsys.readouterr().err
    assert run("--data", faces, "--classes", 8) == 2
    assert "has 7 classes, not 8" in capsys.readouterr().err


def test_published_flags_in_both_spellings_reach_the_configuration(faces, monkeypatch):
    seen = {}

    def train(config, run_dir, **how):
        seen.update(config=config, run_dir=run_dir, **how)
        return Run(faces)

    monkeypatch.setattr(loop, "train", train)
    for size in ("--batch_size", "--batch-size"):
        assert run("--data", faces, size, "100", "--val_batch_size=16", "--modeltype=small", "--optimizer=sgd",
                   "--lr=0.1", "--momentum", "0.8", "--epochs", "7", "--head", "adaface", "--margin", "0.75",
                   "--norm-source", "pre_norm", "--variant", "da", "--gpu", "0", "--workers", "1", "--quiet",
                   "--resume", "--run", "there", "--select-on", "test", "--seed", "9", "--compile") == 0
        config = seen.pop("config")
        assert (config.batch_size, config.val_batch_size, config.model.depth, config.optimizer) == (100, 16, 4, "sgd")
        assert (config.lr, config.momentum, config.epochs, config.augmentation) == (0.1, 0.8, 7, "adaface")
        assert (config.model.head, config.model.margin, config.model.norm_source) == ("adaface", 0.75, "pre_norm")
        assert (config.select_on, config.seed, config.compile, config.preset) == ("test", 9, True, "small")
        dataset = seen.pop("dataset")
        assert dataset.root == faces and seen == {"run_dir": "there", "device": "auto", "gpu": "0", "resume": True,
                                                  "quiet": True, "workers": 1}


def test_a_head_recipe_and_a_variant_are_names_for_settings(faces):
    config, _ = configure(parser().parse_args(["--data", str(faces), "--preset", "nano", "--head", "adaface-fer",
                                               "--scale", "6"]))
    assert (config.model.head, config.model.scale, config.quality_weight, config.augmentation) == (
        "adaface", 6.0, 3.0, "camera")
    config, _ = configure(parser().parse_args(["--data", str(faces), "--variant", "irf", "--norm-source", "fused"]))
    assert config.model.norm_source == "fused"


@pytest.mark.parametrize("words", [
    [], ["--preset", "nano", "--seed", "5", "--lr", "0.01", "--balanced", "--no-compile"],
    ["--preset", "mini", "--head", "adaface-fer", "--scale", "6", "--classes", "7"],
    ["--preset", "small", "--head", "adaface", "--variant", "mlp", "--margin", "0.75", "--scale-rule", "adacos"],
    ["--preset", "nano", "--variant", "da", "--class-balance", "0.9", "--select-on", "test"],
    ["--preset", "nano", "--head", "cosface", "--norm-source", "image", "--augmentation", "camera",
     "--quality-from", "degradation", "--class-vectors", "simplex", "--channel-order", "RGB"],
    ["--checkpoint", "mini-ferplus", "--epochs", "3", "--classes", "8"],
    ["--checkpoint", "mini-ferplus", "--head", "adaface", "--scale", "8"],
])
@pytest.mark.parametrize("make", [ferplus, rafdb])
def test_a_run_tells_the_command_that_makes_it(tmp_path, make, words):
    if make is rafdb and "8" in words[-1:]:
        words = words[:-2]
    root = make(tmp_path / "my faces")
    configured = configure(parser().parse_args(["--data", str(root), *words]))
    python, module, name, *told = shlex.split(train_command(*configured))
    assert (python, module, name) == ("python", "-m", "poster_ada.train")
    assert configure(parser().parse_args(told))[0] == configured[0]
    assert len(told) <= len(words) + 8  # what the command does by itself is left out


def test_every_setting_that_is_explained_has_a_flag_and_a_model_of_its_own_size_no_command(faces):
    explained = {field.name for field in (*fields(TrainConfig), *fields(PosterConfig)) if field.metadata.get("help")}
    assert explained <= vars(parser().parse_args([])).keys()
    dataset = open_dataset(faces)
    assert train_command(fit_recipe(dataset, "nano", depth=3), dataset) is None


def test_the_same_command_twice_trains_once_and_prints_the_accuracy_twice(faces, capsys, monkeypatch):
    words = ("--data", faces, "--preset", "nano", "--epochs", 1, "--batch-size", 8, "--device", "cpu")
    assert run(*words) == 0
    first = capsys.readouterr().out
    monkeypatch.setattr(loop, "train_epoch", lambda *_: pytest.fail("trained again"))
    assert run(*words) == 0
    second = capsys.readouterr().out
    result = [line for line in first.splitlines() if line.startswith("Test accuracy: ")]
    assert len(result) == 1 and second.splitlines()[0] == "this run was finished before."
    assert result == [line for line in second.splitlines() if line.startswith("Test accuracy: ")]
    assert run(*words, "--quiet") == 0
    assert capsys.readouterr().out == ""
    (folder,) = Path("runs").iterdir()
    assert Run(folder).finished and folder.name.startswith("nano-mlp-")


def test_an_unfinished_run_is_told_and_goes_on_when_asked(faces, capsys, monkeypatch):
    words = ("--data", faces, "--preset", "nano", "--epochs", 1, "--batch-size", 8, "--device", "cpu", "--run", "run",
             "--quiet")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main([str(word) for word in words])
    assert run(*words) == 2
    assert "holds an unfinished run; add --resume" in capsys.readouterr().err
    assert run(*words, "--resume") == 0 and Run(Path("run")).finished


def test_without_data_one_line_offers_the_demo(capsys):
    assert run() == 2
    error = capsys.readouterr().err
    assert "data/raf-basic" in error and "--demo" in error and error.count("\n") == 1


def test_the_demo_outside_of_a_checkout_does_not_offer_the_demo(capsys):
    assert run("--demo") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "inside a clone" in error and "--data" in error and "--demo" not in error


def test_the_demo_trains_nano_on_the_demo_faces(faces, monkeypatch):
    Path(DEMO).parent.mkdir()
    Path(DEMO).symlink_to(faces, target_is_directory=True)
    config, dataset = configure(parser().parse_args(["--demo"]))
    assert config.preset == "nano" and str(dataset.root) == DEMO and config.epochs == 20
    config, dataset = configure(parser().parse_args(["--demo", "--preset", "small", "--data", str(faces)]))
    assert config.preset == "small" and dataset.root == faces


def test_a_full_disk_is_one_sentence(faces, tmp_path, monkeypatch, capsys):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    assert run("--data", faces, "--preset", "nano", "--epochs", "1", f"--run={tmp_path / 'run'}", "--quiet") == 74
    assert "disk is full" in capsys.readouterr().err


def test_several_gpus_are_one_process_each(faces, monkeypatch):
    calls = []
    monkeypatch.setattr(command.subprocess, "run", lambda words, **how: calls.append((words, how)) or SimpleNamespace(
        returncode=3))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    assert launch([0, 2], ["--run=there", "--run", "x", "--runs", "--epochs", "3"]) == 3
    (words, how), = calls
    assert words[1:6] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    assert words[6:] == ["poster_ada.train", "--run-dir=there", "--run-dir", "x", "--runs", "--epochs", "3"]
    assert how["env"]["CUDA_VISIBLE_DEVICES"] == "4,7"
    calls.clear()
    monkeypatch.setattr("poster_ada.devices.choose_device", lambda *_: torch.device("cuda", 0))
    assert run("--data", faces, "--gpu", "0,2") == 3 and calls[0][0][4] == "--nproc-per-node=2"


def test_gpus_that_are_not_there_leave_one_process_on_the_cpu(faces, monkeypatch, capsys):
    seen = {}
    monkeypatch.setattr(loop, "train", lambda config, run_dir, **how: seen.update(how) or Run(faces))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run("--data", faces, "--gpu", "0,1", "--quiet") == 0
    assert seen["gpu"] is None and "torch sees no GPU here" in capsys.readouterr().err
    assert run("--data", faces, "--gpu", "0,0") == 2
    assert "--gpu 0,0 is not a list of GPU numbers" in capsys.readouterr().err
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert run("--data", faces, "--gpu", "0,1", "--quiet") == 0
    assert seen["gpu"] is None and capsys.readouterr().err == ""


def test_a_study_of_a_run_reads_what_the_command_wrote(faces):
    assert run("--data", faces, "--preset", "nano", "--epochs", 1, "--batch-size", 8, "--run", "run", "--quiet") == 0
    written = json.loads(Path("run/config.json").read_text(encoding="utf-8"))
    assert written["data"] == str(faces) and written["model"]["depth"] == 2 and written["epochs"] == 1
