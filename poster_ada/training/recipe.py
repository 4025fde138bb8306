"""The published recipe as one configuration, and how it is fitted to a preset and a face set; without torch."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from poster_ada.checkpoints.names import SHIPPED
from poster_ada.data.augmentations import AUGMENTATIONS
from poster_ada.errors import InputError
from poster_ada.model.config import PRESETS, PosterConfig
from poster_ada.model.precision import PRECISIONS
from poster_ada.settings import check_settings, setting

if TYPE_CHECKING:  # opening a face set needs torch, its recipe does not
    from poster_ada.data.layouts import Dataset

OPTIMIZERS = ("adam", "adamw", "sgd")
DECAYS = {"exponential": "by --gamma every epoch", "cosine": "to 0 along half a cosine, step by step"}
TARGETS = {"labels": "one class a face", "votes": "the share of annotators who chose each class, also of faces without "
           "a majority"}


QUALITY_SOURCES = {"norm": "the feature norm", "shuffled": "the norm of another face of the batch",
                   "votes": "the share of annotators who chose the label",
                   "degradation": "what --augmentation camera left of the picture's quality"}


@dataclass(frozen=True)
class TrainConfig:
    """Every choice of a training run; the defaults are the published ones for RAF-DB.

    Raises:
        InputError: a value is out of its range.
    """

    model: PosterConfig = field(default_factory=PosterConfig)
    preset: str = "large"  # where `model` started from
    data: str = "data/raf-basic"
    pretrained: str = setting("models/pretrain", "folder with ir50.pth and mobilefacenet_model_best.pth.tar")
    checkpoint: str = setting("", f"file whose weights training starts from, published or this project's, or "
                              f"{', '.join(SHIPPED)}, which comes with the package; its size is taken, and its head's "
                              "weights for classes of the same name")
    augmentation: str = setting("published", "; ".join(f"{name}: {text}" for name, text in AUGMENTATIONS.items()),
                                choices=AUGMENTATIONS)
    balanced: bool = setting(False, "draw every class equally often, as published for AffectNet")
    validation_fraction: float = setting(0.1, "share of the training faces that is set aside, where the set has no "
                                         "validation split of its own", above=0, below=1)
    select_on: str = setting("validation", "split that picks the best epoch; test is the published way and makes the "
                             "result optimistic", choices=("validation", "test"))
    epochs: int = setting(300, "passes over the training faces", above=0)
    batch_size: int = setting(200, "training faces at a time, over all processes; the report used 100", above=0)
    val_batch_size: int = setting(32, "faces at a time where nothing is trained", above=0)
    optimizer: str = setting("adam", "what steps inside SAM", choices=OPTIMIZERS)
    lr: float = setting(4e-5, "learning rate of the first epoch; AdaFace on AffectNet has 2e-6", above=0)
    momentum: float = setting(0.9, "of --optimizer sgd", at_least=0, below=1)
    weight_decay: float = setting(0.01, "of --optimizer adamw, on matrices alone", at_least=0)
    decay: str = setting("exponential", "how the learning rate falls; " + "; ".join(
        f"{name}: {text}" for name, text in DECAYS.items()), choices=DECAYS)
    warmup: float = setting(0.0, "epochs in which the learning rate rises from 0 (with --decay cosine)", at_least=0)
    gamma: float = setting(0.98, "what every epoch multiplies the learning rate by", above=0, at_most=1)
    rho: float = setting(0.05, "SAM's radius; 0 trains without SAM", at_least=0)
    clip_norm: float = setting(0.0, "largest norm of a step's gradient; 0: any", at_least=0)
    average: float = setting(0.0, "weight that an exponential average of the model keeps at every step; the average is "
                             "then what is validated and kept; 0: none", at_least=0, below=1)
    targets: str = setting("labels", "what is learnt; " + "; ".join(
        f"{name}: {text}" for name, text in TARGETS.items()), choices=TARGETS)
    logit_adjustment: float = setting(0.0, "how much of each class's log frequency is added to the logits in training, "
                                      "so that rare classes need not lose in prediction (Menon et al. 2021, arXiv "
                                      "2007.07314, eq. 10)", at_least=0)
    class_balance: float = setting(0.0, "beta of class-balanced weights on the loss: 0 weighs all faces alike, 0.9999 "
                                   "nearly all classes (Cui et al. 2019, arXiv 1901.05555)", at_least=0, below=1)
    label_smoothing: float = setting(0.2, "share of the target that all classes get", at_least=0, at_most=1)
    quality_weight: float = setting(0.0, "how much the norm is taught of the quality that --augmentation camera knows",
                                    at_least=0)
    quality_from: str = setting("norm", "what AdaFace's q is in training; " + "; ".join(
        f"{name}: {text}" for name, text in QUALITY_SOURCES.items()), choices=QUALITY_SOURCES)
    seed: int = setting(123, "of weights, order, augmentation and validation split", at_least=0, at_most=2**63 - 1)
    precision: str = setting("auto", "of the heavy arithmetic; auto: bfloat16 where the machine multiplies it natively "
                             "and the model gains from it; emulated it takes several times as long as float32",
                             choices=PRECISIONS)
    compile: bool = setting(False, "torch.compile the trained parts: minutes before the first step, then faster ones")

    def __post_init__(self) -> None:
        check_settings(self)
        if self.quality_weight and self.augmentation != "camera":
            raise InputError(f"quality_weight {self.quality_weight} does not fit augmentation {self.augmentation!r}: "
                             "only 'camera' knows the quality that it asks for.")
        if self.quality_from == "degradation" and self.augmentation != "camera":
            raise InputError(f"quality_from 'degradation' does not fit augmentation {self.augmentation!r}: only "
                             "'camera' degrades by a known amount.")

    @classmethod
    def for_preset(
        cls, preset: str, schedule: str = "full", base: PosterConfig | None = None, **choices: Any
    ) -> TrainConfig:
        """The recipe for a model preset: `TrainConfig.for_preset("nano", data="data/demo", head="adaface", seed=1)`.

        Args:
            preset: `nano`, `mini`, `small`, `base` or `large`; the first two have schedules of their own, made for
                random weights.
            schedule: one of `SCHEDULES`; a preset without one of that name keeps its full one.
            base: model to start from instead of the preset's, as that of a checkpoint.
            choices: fields of `TrainConfig` and of `PosterConfig`. Fields left out keep the preset's values. `head` may
                also name one of `HEAD_RECIPES`, whose settings apply unless they are given here.

        Raises:
            InputError: there is no such preset, schedule or field, or a value is out of its range.
        """
        choices = _with_head_recipe(choices)
        if preset not in PRESETS and base is None:
            raise InputError(f"preset {preset!r} is unknown; choose one of {', '.join(PRESETS)}.")
        own = {f.name for f in fields(cls)} - {"model", "preset"}
        of_model = {key: value for key, value in choices.items() if key not in own}
        if unknown := set(of_model) - {f.name for f in fields(PosterConfig)}:
            raise InputError(f"there is no setting {', '.join(sorted(unknown))} in the model or the recipe.")
        model = replace(base or PRESETS[preset], **({"class_names": ()} | of_model))
        return cls(model=model, preset=preset, **(scheduled(preset, schedule) | {
            key: value for key, value in choices.items() if key in own
        }))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """The inverse of `to_dict`. Raises InputError on an unknown field."""
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise InputError(f"the recipe has unknown fields: {', '.join(sorted(unknown))}.")
        return cls(**{**values, "model": PosterConfig.from_dict(values["model"])})

    def key(self, data: str, pretrained: str) -> str:
        """Eight hexadecimal digits that two runs share only if settings, data and pretrained weights are the same.

        Args:
            data, pretrained: fingerprints of the faces and of what training starts from, in place of their paths.
        """
        content = self.to_dict() | {"data": data, "pretrained": pretrained}
        del content["checkpoint"]  # of the pretrained weights, as those are known by their content
        if self.model.class_vectors == PosterConfig.class_vectors:  # came later: runs without it keep their names
            del content["model"]["class_vectors"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


# 300 epochs of SAM at 4e-5 suit a pretrained network. From random weights and 1,400 faces, two minutes teach more with
# larger steps, no second pass, and faces that are moved a little. A preset carries its schedules, by what they are for:
# "full" is what `train` does; "ablation" is one of 22 runs in minutes; "study" is one of 43 runs of a minute each on
# two cores, and with half as many epochs s = 64 is still behind for want of steps.
_NANO: dict[str, Any] = dict(epochs=20, batch_size=64, lr=2e-3, gamma=0.86, rho=0.0, augmentation="warp")
# "mini" is made for tens of thousands of real faces.
SCHEDULES: dict[str, dict[str, dict[str, Any]]] = {
    "mini": {
        "full": dict(epochs=50, batch_size=128, val_batch_size=128, optimizer="adamw", lr=2e-3, weight_decay=0.05,
                     decay="cosine", warmup=1.0, rho=0.0, clip_norm=15.0, average=0.998, targets="votes",
                     label_smoothing=0.0, augmentation="wild"),
    },
    "nano": {
        "full": _NANO,
        "ablation": _NANO | dict(epochs=3, gamma=0.6),
        "study": _NANO | dict(epochs=10, gamma=0.75, augmentation="published"),
    },
}


def scheduled(preset: str, schedule: str = "full") -> dict[str, Any]:
    """What a preset's schedule sets otherwise than the published recipe. Raises InputError on an unknown schedule."""
    if schedule not in SCHEDULES["nano"]:
        raise InputError(f"schedule {schedule!r} is unknown; choose one of {', '.join(SCHEDULES['nano'])}.")
    own = SCHEDULES.get(preset, {})
    return own.get(schedule, own.get("full", {}))


# The report's variants of POSTER-Ada-s: w/MLP, w/IRf, w/DA.
VARIANTS: dict[str, dict[str, Any]] = {
    "mlp": {"feature_layer": True}, "irf": {"norm_source": "image"}, "da": {"augmentation": "adaface"},
}

# Heads with settings other than the published ones, by a name that stands for all of them. `adaface-fer` is what the
# study's search on real faces led to (results/study_search.csv, validation faces alone, s among 4, 8, 16): its norm is
# taught quality, and s = 4 suits 7 classes, where 64 suits tens of thousands of people.
HEAD_RECIPES: dict[str, dict[str, Any]] = {
    "adaface-fer": dict(head="adaface", scale=4.0, margin=0.2, concentration=1.0, t_alpha=1.0, norm_source="embedding",
                        quality_weight=3.0, augmentation="camera", label_smoothing=0.0),
}


def _with_head_recipe(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Put what a name of `HEAD_RECIPES` stands for in place of the name; what is given beside it wins."""
    named = HEAD_RECIPES.get(choices.get("head", ""))
    return dict(choices) if named is None else named | {key: value for key, value in choices.items() if key != "head"}


def fit_recipe(
    dataset: Dataset, preset: str, schedule: str = "full", base: PosterConfig | None = None, **choices: Any
) -> TrainConfig:
    """The one place where a recipe is fitted to a face set: its classes, channel order and published variant.

    What is given wins over the preset's schedule, which wins over what the published system did on this set.

    Args:
        base: model to go on from, whose channel order and variant stay; else the preset's.
        choices: fields of `TrainConfig` and `PosterConfig`; one that is None is not given.

    Raises:
        InputError: as `TrainConfig.for_preset`.
    """
    given = _with_head_recipe({name: value for name, value in choices.items() if value is not None})
    published = {**dataset.variant, **dataset.head_variant.get(given.get("head", "mlp"), {})}
    fitted = {"data": str(dataset.opened_as), "channel_order": dataset.channel_order,
              "class_names": dataset.class_names, "num_classes": len(dataset.class_names)}
    if base is not None:
        of_model = {f.name for f in fields(PosterConfig)} - {"class_names", "num_classes"}
        published, fitted = ({key: value for key, value in values.items() if key not in of_model}
                             for values in (published, fitted))
    choices = published | fitted | scheduled(preset, schedule) | given
    if dataset.voted is None and choices.get("targets") == "votes":
        if "targets" in given:
            raise InputError(f"{dataset.opened_as} has no votes to learn; leave out --targets votes.")
        choices["targets"] = "labels"
    return TrainConfig.for_preset(preset, schedule, base, **choices)


def train_command(config: TrainConfig, dataset: Dataset) -> str | None:
    """The command line that makes this run: `python -m poster_ada.train` with a flag for whatever it would not do by
    itself on these faces. None where a setting has no flag, as the sizes of a model have none."""
    flags = {f.name for part in (TrainConfig, PosterConfig) for f in fields(part) if f.metadata.get("help")}

    def differing(run: Any, alone: Any) -> dict[str, Any]:
        told_elsewhere = {"model", "preset", "data", "checkpoint", "num_classes", "class_names", "head"}
        return {f.name: getattr(run, f.name) for f in fields(run)
                if f.name not in told_elsewhere and getattr(run, f.name) != getattr(alone, f.name)}

    base, head, found = config.model if config.checkpoint else None, config.model.head, []
    start = ["--checkpoint", config.checkpoint] if base else ["--preset", config.preset]
    for name, variant in (*((head, variant) for variant in ("", *VARIANTS)), *((name, "") for name in HEAD_RECIPES)):
        choices: dict[str, Any] = {**VARIANTS.get(variant, {}), "head": name}
        alone = fit_recipe(dataset, config.preset, base=base, **choices)
        other = differing(config, alone) | differing(config.model, PosterConfig() if base else alone.model)
        if base:  # it brings what has no flag
            other = {setting: value for setting, value in other.items() if setting in flags}
        if alone.model.head == head and other.keys() <= flags:
            found.append((other, [*start, "--head", name, *(["--variant", variant] if variant else [])]))
    if not found:
        return None
    other, words = min(found, key=lambda pair: 2 * len(pair[0]) + len(pair[1]))
    words += ["--data", config.data, *(["--classes", str(dataset.num_classes)] if dataset.num_classes else [])]
    for name, value in other.items():
        flag = name.replace("_", "-")
        words += [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return shlex.join(["python", "-m", "poster_ada.train", *words])
