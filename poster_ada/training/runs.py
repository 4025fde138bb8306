"""A training run on disk: `runs/<name>/` with its configuration, record, log and checkpoints."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from poster_ada.checkpoints.create import load_checkpoint
from poster_ada.checkpoints.names import checkpoint_path
from poster_ada.checkpoints.own import read_own
from poster_ada.checkpoints.pretrained import pretrained_files
from poster_ada.data.layouts import Dataset
from poster_ada.errors import InputError
from poster_ada.files import sha256_of, write_atomically, write_json_atomically
from poster_ada.model.poster import Poster
from poster_ada.training.recipe import TrainConfig

LABEL_MARGIN_TABLE = "predictions_label_margin.csv"


@dataclass
class Run:
    """One run's folder.

    `config.json` (every setting), `record.json` (data, environment, result, whether it finished), `log.csv` (one row an
    epoch), `best.safetensors` (by the selection split), `last.safetensors` (with what resuming needs) and, once it
    finished, `predictions.csv` of the test split.
    """

    path: Path

    @property
    def config(self) -> TrainConfig:
        return TrainConfig.from_dict(self._read("config.json"))

    @property
    def record(self) -> dict[str, Any]:
        return self._read("record.json")

    @property
    def log(self) -> pd.DataFrame:
        """One row per epoch."""
        return pd.read_csv(self.path / "log.csv")

    @property
    def exists(self) -> bool:
        return (self.path / "config.json").is_file()

    @property
    def finished(self) -> bool:
        return self.recorded("finished", False)

    def recorded(self, name: str, otherwise: Any) -> Any:
        """An entry of the record, or `otherwise` where there is no record or it has none."""
        return self.record.get(name, otherwise) if (self.path / "record.json").is_file() else otherwise

    def model(self, which: str = "best") -> Poster:
        """The `best` or `last` model, in `eval()` mode on the CPU."""
        return load_checkpoint(self.path / f"{which}.safetensors")

    def _read(self, name: str) -> dict[str, Any]:
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{self.path} is not a training run: it has no {name}.") from None
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise InputError(f"{self.path / name} is not JSON any more; delete the folder and train again.") from None

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file of the run, atomically."""
        write_json_atomically(self.path / name, content)

    def write_log(self, rows: list[dict[str, Any]]) -> None:
        """Write `log.csv`, atomically."""
        write_atomically(self.path / "log.csv", lambda temporary: pd.DataFrame(rows).to_csv(temporary, index=False))

    def last_state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
        """Training record and tensors of `last.safetensors`, or None where the run has not saved an epoch yet."""
        path = self.path / "last.safetensors"
        if not path.is_file():
            return None
        description, tensors = read_own(path)
        return description["training"], tensors

    def discard_results(self) -> None:
        """Remove what was made from the chosen model, because training goes on and may choose another; and what a kill
        in the middle of a save left half-written."""
        for left in self.path.glob(".*.part"):
            left.unlink(missing_ok=True)
        for name in ("predictions.csv", LABEL_MARGIN_TABLE):
            (self.path / name).unlink(missing_ok=True)

    def check_same(self, config: TrainConfig, data: str, starting_weights: str) -> None:
        """Whether training `config` may go on in this folder: only `epochs` and the places of files may differ.

        Args:
            data, starting_weights: fingerprints of the faces and of the pretrained files.

        Raises:
            InputError: naming what differs.
        """
        old, new = (_flat(each.to_dict()) for each in (self.config, config))
        different = sorted(key for key in new if old.get(key) != new[key])
        if config.decay == "cosine" and self.config.epochs != config.epochs:
            different.append("epochs, on which its learning rates depend")
        if different:
            raise InputError(f"{self.path} holds a run with other settings ({', '.join(different)}); choose another "
                             "--run-dir.")
        for what, here in (("fingerprint", data), ("starting_weights", starting_weights)):
            there = self.recorded(what, here)  # version 0.1 did not record the weights
            if there != here:
                named = "other faces" if what == "fingerprint" else "other pretrained weights"
                raise InputError(f"{self.path} holds a run on {named} ({there[:16]}, here {here[:16]}); choose another "
                                 "--run-dir.")


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Model and recipe settings side by side, as JSON gives them back, without what may differ in one run."""
    flat = values | values["model"]
    return json.loads(json.dumps({key: value for key, value in flat.items()
                                  if key not in ("model", "epochs", "data", "pretrained", "checkpoint")}))


def pretrained_fingerprint(config: TrainConfig) -> str:
    """SHA-256 over the files whose weights a run with this configuration starts from."""
    if config.checkpoint:
        path = checkpoint_path(config.checkpoint)
        if not path.is_file():
            raise InputError(f"there is no checkpoint file {path} to start from.")
        return sha256_of(path)
    digests = [sha256_of(path) for path in pretrained_files(config.model, config.pretrained)]
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()


def default_folder(config: TrainConfig, dataset: Dataset) -> Path:
    """`runs/<preset>-<head>-<data>-seed<seed>-<key>`: the same settings, data and starting weights share a folder."""
    key = config.key(dataset.fingerprint(), pretrained_fingerprint(config))
    return Path("runs") / f"{config.preset}-{config.model.head}-{slug(dataset.name)}-seed{config.seed}-{key}"


def slug(name: str) -> str:
    """A name as part of a file name: `RAF-DB basic` -> `raf-db-basic`; letters of any script stay."""
    return re.sub(r"\W+", "-", name.lower()).strip("-") or "faces"


def environment() -> dict[str, str]:
    """Versions, processor and commit, for the record."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {
        "python": platform.python_version(), "torch": torch.__version__, "device": device,
        "threads": str(torch.get_num_threads()), "commit": code_version(),
    }


def code_version() -> str:
    """Git commit of the package's checkout, with `+changes` where the package differs from it."""
    checkout = Path(__file__).resolve().parents[2]
    try:
        top, commit = _git(checkout, "rev-parse", "--show-toplevel", "HEAD").splitlines()
        if Path(top).resolve() != checkout:  # installed inside somebody else's repository
            return "not a git checkout"
        changes = _git(checkout, "status", "--porcelain", "--untracked-files=no", "--", "poster_ada")
        return commit + ("+changes" if changes else "")
    except (OSError, ValueError, subprocess.CalledProcessError):  # no git program, no checkout, no commit yet
        return "not a git checkout"


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, encoding="utf-8", check=True, cwd=folder)
    return done.stdout.strip()
