"""Training on from a checkpoint: its weights, its classes by name, and what does not fit."""

import pytest
import torch

from poster_ada.checkpoints.create import create_model
from poster_ada.checkpoints.own import save_checkpoint
from poster_ada.checkpoints.start import start_from
from poster_ada.errors import InputError


@pytest.mark.parametrize("head", ["mlp", "adaface"])
def test_classes_are_matched_by_name_and_new_ones_stay_random(tmp_path, head):
    source = create_model("nano", head=head, num_classes=3, class_names=("happy", "Anger", "Fear"))
    save_checkpoint(source, tmp_path / "a.safetensors")
    model = create_model("nano", head=head, num_classes=3, class_names=("Anger", "Happiness", "Contempt"))
    name, axis = ("weight", 0) if head == "mlp" else ("kernel", 1)
    before = getattr(model.head, name).clone()
    assert start_from(model, tmp_path / "a.safetensors")[-1] == "its head for 2 of 3 classes"
    after, given = getattr(model.head, name), getattr(source.head, name)
    for ours, theirs in ((0, 1), (1, 0)):
        assert torch.equal(after.select(axis, ours), given.select(axis, theirs))
    assert torch.equal(after.select(axis, 2), before.select(axis, 2))
    assert torch.equal(model.to_tokens.weight, source.to_tokens.weight)


def test_a_head_of_another_kind_stays_random(tmp_path):
    save_checkpoint(create_model("nano", head="adaface"), tmp_path / "a.safetensors")
    model = create_model("nano")
    before = model.head.weight.clone()
    assert "without its adaface head" in start_from(model, tmp_path / "a.safetensors")
    assert torch.equal(model.head.weight, before)


def test_another_size_is_refused(tmp_path):
    save_checkpoint(create_model("nano", depth=1), tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="another size or variant: fusion"):
        start_from(create_model("nano"), tmp_path / "a.safetensors")


def test_what_a_head_counts_or_scales_by_another_rule_is_left(tmp_path):
    source = create_model("nano", head="ldam", num_classes=3, class_names=("happy", "Anger", "Fear"))
    save_checkpoint(source, tmp_path / "a.safetensors")
    model = create_model("nano", head="ldam", scale_rule="learned")
    assert start_from(model, tmp_path / "a.safetensors")[-1] == "its head for 3 of 7 classes"
    assert model.head.class_margins.tolist() == [0.5] * 7 and float(model.head.current_scale) == pytest.approx(64)


def test_a_simplex_is_taken_whole_or_not_at_all(tmp_path):
    source = create_model("nano", head="cosface", class_vectors="simplex")
    save_checkpoint(source, tmp_path / "a.safetensors")
    same, fewer = (create_model("nano", head="cosface", class_vectors="simplex", num_classes=count) for count in (7, 8))
    start_from(same, tmp_path / "a.safetensors")
    torch.testing.assert_close(same.head.kernel, source.head.kernel)
    before = fewer.head.kernel.clone()
    start_from(fewer, tmp_path / "a.safetensors")
    assert torch.equal(fewer.head.kernel, before)
