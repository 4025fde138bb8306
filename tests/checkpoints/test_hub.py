"""Models in the Hub's form: to a folder and back, to the Hub and back, and what goes wrong in one sentence."""

import json

import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.errors import LocalEntryNotFoundError, LocalTokenNotFoundError

import poster_ada.checkpoints.hub as hub
from poster_ada.checkpoints.create import create_model, load_checkpoint
from poster_ada.checkpoints.hub import from_pretrained, push_to_hub, save_pretrained
from poster_ada.checkpoints.own import save_checkpoint
from poster_ada.errors import InputError

TRAINING = {
    "epoch": 3, "data": "FER+ (label.csv), 8 classes", "train_faces": 28150, "selected_on": "the validation split",
    "precision": "bfloat16", "environment": {"commit": "abc123", "torch": "2.9"},
    "recipe": {"preset": "nano", "epochs": 5, "data": "data/ferplus", "seed": 7, "model": {"head": "mlp"}},
    "command": "python -m poster_ada.train --preset nano --head mlp --data data/ferplus --seed 7",
}
SCORES = {
    "faces": 100, "accuracy": 0.881, "macro_f1": 0.75, "calibration_error": 0.012,
    "intervals": {"accuracy": [0.87, 0.89], "macro_f1": [0.7, 0.8], "calibration_error": [0.01, 0.02]},
    "per_class": {"Fear": {"recall": 0.5, "precision": None, "f1": 0.0, "support": 86}},
}


@pytest.fixture
def model():
    torch.manual_seed(1)
    model = create_model("nano").eval()
    model.temperature, model.face_template = 1.7, ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))
    return model


def test_a_folder_gives_back_the_model(model, tmp_path):
    images = torch.randn(2, 3, 48, 48)
    again = from_pretrained(save_pretrained(model, tmp_path / "my-model"))
    assert torch.equal(again(images), model(images)) and again.face_template == model.face_template
    config = json.loads((tmp_path / "my-model" / "config.json").read_text(encoding="utf-8"))
    assert config["model"]["class_names"][0] == "Surprise" and config["temperature"] == 1.7


def test_the_card_tells_data_figures_and_how_to_train_again(model, tmp_path):
    save_pretrained(model, tmp_path / "my-model", TRAINING, SCORES | {"test_without_twins": SCORES | {"faces": 90}})
    card = ModelCard.load(tmp_path / "my-model" / "README.md")
    assert card.data.license == "apache-2.0" and card.data.pipeline_tag == "image-classification"
    assert {(result.metric_type, result.metric_value) for result in card.data.eval_results} == {
        ("accuracy", 88.1), ("f1", 75.0)}
    for words in ("FER+ (label.csv), 8 classes, 28150 faces", "Commit abc123, bfloat16", "not what a person feels",
                  "python -m poster_ada.train --preset nano --head mlp --data data/ferplus --seed 7",
                  "| all | 100 | 88.1 (87.0 to 89.0) | 75.0 (70.0 to 80.0) | 1.2 (1.0 to 2.0) |",
                  "| without a twin in training | 90 |", "| Fear | 50.0 | - | 0.0 | 86 |",
                  'poster_ada.from_pretrained("my-model")'):
        assert words in card.text, words
    assert "does not say how it was trained" in hub.model_card(model, "plain")


def test_what_a_file_says_of_its_training_goes_along_but_no_place_on_this_machine(model, tmp_path):
    place, models = str(tmp_path / "anna lee" / "faces"), str(tmp_path / "anna lee" / "models")
    save_checkpoint(model, tmp_path / "best.safetensors", TRAINING | {
        "recipe": TRAINING["recipe"] | {"data": place, "pretrained": models, "checkpoint": ""},
        "command": f"python -m poster_ada.train --data '{place}' --pretrained '{models}' --lr 0.1"})
    folder = save_pretrained(load_checkpoint(tmp_path / "best.safetensors"), tmp_path / "public")
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "epoch 3 of 5 was chosen" in text and "--data faces --pretrained models --lr 0.1" in text
    assert not any(b"anna" in path.read_bytes() for path in folder.iterdir())
    assert from_pretrained(folder).provenance["recipe"]["data"] == "faces"


@pytest.mark.parametrize("training", [{}, {"recipe": 5}, {"data": 3, "recipe": [], "environment": None, "command": 7},
                                      {"data": "x", "recipe": {"epochs": 5}, "environment": {}}])
def test_a_strange_record_of_training_still_has_a_card(model, tmp_path, training):
    save_pretrained(model, tmp_path / "strange", training)
    assert "## Training" in (tmp_path / "strange" / "README.md").read_text(encoding="utf-8")


def test_a_download_is_opened(model, tmp_path, monkeypatch):
    folder = save_pretrained(model, tmp_path / "kept")
    asked = []
    monkeypatch.setattr(hub, "hf_hub_download",
                        lambda *given, **how: asked.append((given, how)) or folder / "model.safetensors")
    assert from_pretrained("user/name", revision="v1").temperature == 1.7
    assert asked == [(("user/name", "model.safetensors"), {"revision": "v1"})]


@pytest.mark.parametrize("name, sentence", [
    ("user/name", "was not downloaded before and the Hub cannot be reached"), ("a/b/c", "neither a folder here nor"),
])
def test_what_cannot_be_had_is_one_sentence(monkeypatch, tmp_path, name, sentence):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    if "downloaded" in sentence:
        def offline(*_, **__):
            raise LocalEntryNotFoundError("offline")
        monkeypatch.setattr(hub, "hf_hub_download", offline)
    with pytest.raises(InputError, match=sentence):
        from_pretrained(name)


def test_a_folder_without_weights_names_the_file(tmp_path):
    with pytest.raises(InputError, match="there is no checkpoint file .*model.safetensors"):
        from_pretrained(tmp_path)


def test_uploading_makes_the_repository_and_sends_the_three_files(model, monkeypatch):
    sent = {}

    class Api:
        def __init__(self, token):
            sent["token"] = token

        def create_repo(self, name, private, exist_ok):
            sent["repository"] = (name, private, exist_ok)

        def upload_folder(self, repo_id, folder_path, commit_message):
            sent["files"] = sorted(path.name for path in folder_path.iterdir())
            sent["card"] = (folder_path / "README.md").read_text(encoding="utf-8")
            return f"https://hub/{repo_id}"

    monkeypatch.setattr(hub, "HfApi", Api)
    assert push_to_hub(model, "user/name", private=True, token="t") == "https://hub/user/name"
    assert 'poster_ada.from_pretrained("user/name")' in (card := sent.pop("card")) and "\n# name\n" in card
    assert sent == {"token": "t", "repository": ("user/name", True, True),
                    "files": ["README.md", "config.json", "model.safetensors"]}

    def nobody(*_, **__):
        raise LocalTokenNotFoundError("none")

    monkeypatch.setattr(Api, "create_repo", nobody)
    with pytest.raises(InputError, match="nobody is logged in"):
        push_to_hub(model, "user/name")
