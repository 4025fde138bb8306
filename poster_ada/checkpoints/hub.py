"""Models to and from the Hugging Face Hub, or a folder of its form: `model.safetensors`, `config.json`, `README.md`.

    save_pretrained(model, "my-model")
    model = from_pretrained("my-model")            # or from_pretrained("user/name")
    push_to_hub(model, "user/name")                # after `hf auth login`
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from poster_ada.checkpoints.card import model_card
from poster_ada.checkpoints.create import load_checkpoint
from poster_ada.checkpoints.own import save_checkpoint
from poster_ada.errors import InputError
from poster_ada.files import write_json_atomically, write_text_atomically
from poster_ada.model.poster import Poster

WEIGHTS_FILE = "model.safetensors"


def save_pretrained(
    model: Poster, folder: str | Path, training: Mapping[str, Any] | None = None,
    scores: Mapping[str, Any] | None = None, name: str = "",
) -> Path:
    """Write a model as the Hub has it, and return the folder.

    Args:
        training: how it was trained, for the model card and the weights' header, where its file does not say or says
            otherwise. Of places on this machine only the last name goes out.
        scores: for the model card, see `model_card`.
        name: what the card calls the model, which is how `from_pretrained` finds it; default the folder's.
    """
    training = without_places(model.provenance if training is None else training)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(model, folder / WEIGHTS_FILE, training)
    write_json_atomically(folder / "config.json", {
        "library_name": "poster-ada", "model": model.config.to_dict(), "temperature": model.temperature,
        "face_template": model.face_template})
    write_text_atomically(folder / "README.md", model_card(model, name or folder.resolve().name, training, scores))
    return folder


def without_places(training: Mapping[str, Any]) -> dict[str, Any]:
    """A record of training in which absolute paths, which are nobody else's business, are cut to their last names."""
    recipe = training.get("recipe")
    if not isinstance(recipe, Mapping):
        return dict(training)
    places = {name: recipe[name] for name in ("data", "pretrained", "checkpoint")
              if isinstance(recipe.get(name), str) and Path(recipe[name]).is_absolute()}
    cut: dict[str, Any] = {"recipe": {**recipe, **{name: Path(place).name for name, place in places.items()}}}
    if isinstance(command := training.get("command"), str):
        for place in places.values():
            command = command.replace(shlex.quote(place), shlex.quote(Path(place).name))
        cut["command"] = command
    return {**training, **cut}


def from_pretrained(source: str | Path, revision: str | None = None) -> Poster:
    """A ready model, in `eval()` mode on the CPU, from a folder or from the Hub; only tensors are loaded.

    Args:
        source: a folder that is there, else `user/name` on the Hub; downloads are kept, and used where there is no
            network.
        revision: branch, tag or commit on the Hub.

    Raises:
        InputError: there is no such model, or no network and no kept download.
    """
    if Path(source).is_dir():
        return load_checkpoint(Path(source) / WEIGHTS_FILE)
    try:
        return load_checkpoint(hf_hub_download(str(source), WEIGHTS_FILE, revision=revision))
    except (HFValidationError, RepositoryNotFoundError):
        raise InputError(f"{source} is neither a folder here nor a model on the Hub that you may read; give a folder "
                         "or user/name.") from None
    except RevisionNotFoundError:
        raise InputError(f"{source} has no revision {revision} on the Hub; leave out --revision.") from None
    except LocalEntryNotFoundError:
        raise InputError(f"{source} was not downloaded before and the Hub cannot be reached; try again with a network, "
                         "or give a folder.") from None
    except EntryNotFoundError:
        raise InputError(f"{source} has no {WEIGHTS_FILE} on the Hub; it is not a model of this project.") from None


def push_to_hub(
    model: Poster, name: str, training: Mapping[str, Any] | None = None, scores: Mapping[str, Any] | None = None,
    private: bool = False, token: str | None = None,
) -> str:
    """Upload a model as `user/name`, making that repository where it is not there; returns the commit's address.

    Raises:
        InputError: nobody is logged in, or the name is not one.
    """
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as temporary:
        folder = save_pretrained(model, temporary, training, scores, name)
        try:
            api.create_repo(name, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=name, folder_path=folder, commit_message="A model of poster-ada"))
        except LocalTokenNotFoundError:
            raise InputError("nobody is logged in to the Hub; run `hf auth login` first, or give a token.") from None
        except HFValidationError:
            raise InputError(f"{name!r} is not a name on the Hub; give user/name.") from None
