"""The recipe: published defaults, presets and schedules, fitted to face sets in one place, with a key of its own."""

import hashlib
import json
from types import SimpleNamespace

import pytest

from poster_ada.errors import InputError
from poster_ada.expressions import AFFECTNET_CLASSES, RAFDB_CLASSES
from poster_ada.model.config import PRESETS, PosterConfig
from poster_ada.training.recipe import HEAD_RECIPES, SCHEDULES, VARIANTS, TrainConfig, fit_recipe, scheduled


def affectnet(classes=7):
    return SimpleNamespace(opened_as="some/AffectNet", channel_order="RGB", class_names=AFFECTNET_CLASSES[:classes],
                           variant={"token_mixing": False, "balanced": True}, head_variant={"adaface": {"lr": 2e-6}},
                           voted=None)


def raf_db():
    return SimpleNamespace(opened_as="some/faces", channel_order="BGR", class_names=RAFDB_CLASSES, variant={},
                           head_variant={}, voted=None)


def test_the_defaults_are_the_published_recipe():
    config = TrainConfig()
    assert (config.lr, config.gamma, config.epochs, config.batch_size, config.seed) == (4e-5, 0.98, 300, 200, 123)
    assert (config.rho, config.label_smoothing, config.optimizer, config.model.depth) == (0.05, 0.2, "adam", 8)
    assert (config.momentum, config.val_batch_size, config.validation_fraction) == (0.9, 32, 0.1)
    assert (config.augmentation, config.balanced, config.quality_weight) == ("published", False, 0.0)
    assert (config.select_on, config.compile) == ("validation", False)
    assert (config.preset, config.data, config.pretrained, config.precision) == ("large", "data/raf-basic",
                                                                                 "models/pretrain", "auto")
    for preset in ("small", "base", "large"):
        assert TrainConfig.for_preset(preset) == TrainConfig(model=PRESETS[preset], preset=preset)


def test_a_configuration_survives_json():
    config = TrainConfig.for_preset("nano", head="adaface", margin=0.3, epochs=7)
    again = TrainConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config and again.model.image_widths == (16, 16, 32, 64)
    with pytest.raises(InputError, match="recipe has unknown fields: one, two"):
        TrainConfig.from_dict(config.to_dict() | {"two": 1, "one": 1})


def test_a_key_stands_for_settings_faces_and_weights():
    config = TrainConfig()
    key = config.key("faces", "weights")
    assert len(key) == 8 and set(key) <= set("0123456789abcdef")
    moved = TrainConfig(data="elsewhere", pretrained="elsewhere")  # what is there counts, not where
    assert moved.key("faces", "weights") == key == TrainConfig().key("faces", "weights")
    others = [config.key("other faces", "weights"), config.key("faces", "other weights"),
              TrainConfig(seed=1).key("faces", "weights"), TrainConfig(epochs=1).key("faces", "weights"),
              TrainConfig(model=PosterConfig(margin=0.5)).key("faces", "weights")]
    assert len({key, *others}) == 6


def test_a_key_does_not_depend_on_the_order_of_the_settings(monkeypatch):
    key, plain = TrainConfig().key("faces", "weights"), TrainConfig().to_dict()
    monkeypatch.setattr(TrainConfig, "to_dict", lambda self: dict(reversed(plain.items())))
    assert TrainConfig().key("faces", "weights") == key


def test_presets_and_their_schedules():
    nano = TrainConfig.for_preset("nano")
    assert (nano.epochs, nano.batch_size, nano.lr, nano.gamma, nano.rho, nano.augmentation) == (
        20, 64, 2e-3, 0.86, 0.0, "warp")
    ablation, study = (TrainConfig.for_preset("nano", name) for name in ("ablation", "study"))
    assert (ablation.epochs, ablation.gamma, ablation.augmentation) == (3, 0.6, "warp")
    assert (study.epochs, study.gamma, study.augmentation) == (10, 0.75, "published")
    assert nano.model == PRESETS["nano"] and nano.preset == "nano"
    assert TrainConfig.for_preset("small", "study") == TrainConfig.for_preset("small")
    assert scheduled("small") == {} and scheduled("nano", "study") == SCHEDULES["nano"]["study"]
    given = TrainConfig.for_preset("nano", epochs=2, depth=1, num_classes=8)
    assert (given.epochs, given.model.depth, given.lr, given.model.class_names) == (2, 1, 2e-3, AFFECTNET_CLASSES)


@pytest.mark.parametrize(("arguments", "choices", "message"), [
    (("tiny",), {}, "preset 'tiny' is unknown; choose one of small, base, large, nano, mini"),
    (("nano", "long"), {}, "schedule 'long' is unknown; choose one of full, ablation, study"),
    (("nano",), {"speed": 1, "colour": 2}, "there is no setting colour, speed in the model or the recipe"),
    (("nano",), {"model": 1}, "no setting model"),
    (("nano",), {"quality_weight": 1.0}, "quality_weight 1.0 does not fit augmentation 'warp'"),
])
def test_what_does_not_exist_is_refused(arguments, choices, message):
    with pytest.raises(InputError, match=message):
        TrainConfig.for_preset(*arguments, **choices)


def test_a_head_recipe_stands_for_its_settings_and_yields_to_what_is_given():
    config = TrainConfig.for_preset("nano", head="adaface-fer", scale=9.0, epochs=1)
    for name, value in HEAD_RECIPES["adaface-fer"].items():
        holder = config if hasattr(config, name) else config.model
        assert getattr(holder, name) == (9.0 if name == "scale" else value), name
    assert config.epochs == 1 and config.lr == 2e-3
    assert TrainConfig.for_preset("nano", head="adaface").model.scale == 64


def test_a_recipe_is_fitted_to_affectnet():
    config = fit_recipe(affectnet(), "small", head="adaface")
    assert (config.lr, config.balanced, config.model.token_mixing, config.model.channel_order) == (2e-6, True, False,
                                                                                                  "RGB")
    assert (config.model.num_classes, config.model.class_names, config.data) == (7, AFFECTNET_CLASSES[:7],
                                                                                 "some/AffectNet")
    assert config.preset == "small" and config.model.depth == 4
    for other in ({"head": "mlp"}, {"head": "arcface"}, {}):
        assert fit_recipe(affectnet(), "small", **other).lr == 4e-5
    assert fit_recipe(affectnet(8), "small").model.num_classes == 8
    of_mlp = affectnet()
    of_mlp.head_variant = {"mlp": {"lr": 3e-3}}
    assert fit_recipe(of_mlp, "small").lr == 3e-3  # the head that is not named is MLP


def test_votes_are_learnt_where_a_set_has_them():
    assert fit_recipe(raf_db(), "mini").targets == "labels"
    with pytest.raises(InputError, match="some/faces has no votes to learn"):
        fit_recipe(raf_db(), "mini", targets="votes")
    with_votes = raf_db()
    with_votes.voted = object()
    assert fit_recipe(with_votes, "mini").targets == "votes" and fit_recipe(with_votes, "nano").targets == "labels"
    assert fit_recipe(with_votes, "mini", targets="labels").targets == "labels"


def test_a_setting_that_came_later_leaves_the_names_of_older_runs():
    config = fit_recipe(raf_db(), "nano", head="adaface")
    older = config.to_dict() | {"data": "a", "pretrained": "b"}
    del older["checkpoint"], older["model"]["class_vectors"]
    assert config.key("a", "b") == hashlib.sha256(json.dumps(older, sort_keys=True).encode()).hexdigest()[:8]
    assert config.key("a", "b") != fit_recipe(raf_db(), "nano", head="adaface", class_vectors="simplex").key("a", "b")


def test_what_is_given_wins_over_the_schedule_which_wins_over_the_published_variant():
    config = fit_recipe(affectnet(), "nano", head="adaface")
    assert config.lr == 2e-3 and config.balanced  # the schedule says nothing of sampling
    given = fit_recipe(affectnet(), "nano", "study", head="adaface", lr=0.5, balanced=False, channel_order="BGR",
                       margin=None, epochs=None)
    assert (given.lr, given.balanced, given.model.channel_order, given.epochs, given.model.margin) == (
        0.5, False, "BGR", 10, None)
    named = fit_recipe(affectnet(), "small", head="adaface-fer")
    assert (named.lr, named.model.head, named.model.scale) == (2e-6, "adaface", 4.0)


def test_a_recipe_is_fitted_to_raf_db():
    config = fit_recipe(raf_db(), "large")
    assert config == TrainConfig(data="some/faces") and not config.balanced and config.model.token_mixing
    variant = fit_recipe(raf_db(), "small", **VARIANTS["irf"])
    assert variant.model.norm_source == "image"
    assert fit_recipe(raf_db(), "small", **VARIANTS["da"]).augmentation == "adaface"
    assert fit_recipe(raf_db(), "small", **VARIANTS["mlp"]).model.feature_layer


def test_a_recipe_goes_on_from_the_model_of_a_checkpoint():
    base = PosterConfig(depth=3, channel_order="BGR", scale=9.0, head="arcface")
    config = fit_recipe(affectnet(8), "small", base=base, epochs=4)
    assert (config.model.depth, config.model.channel_order, config.model.token_mixing) == (3, "BGR", True)
    assert (config.model.scale, config.model.num_classes, config.model.class_names) == (9.0, 8, AFFECTNET_CLASSES)
    assert config.balanced and config.epochs == 4 and config.data == "some/AffectNet"
