"""The network's input equals the published one, and augmentation has the published statistics."""

import math
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from face_sets import picture
from PIL import Image
from torchvision.transforms import v2

from poster_ada.data.degrade import SEVERITIES, degrade
from poster_ada.data.resize import resize_batch, resize_exactly
from poster_ada.data.transforms import MEAN, STD, EvaluationTransform, TrainingTransform, draw_similarity, warped
from poster_ada.errors import InputError

GOLDEN = Path(__file__).parents[1] / "golden" / "preprocess.npz"


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(count, size=(100, 100)):
    return torch.stack([torch.from_numpy(np.array(picture(i, size))).permute(2, 0, 1) for i in range(count)])


def to_8_bits(images, channel_order="RGB"):
    """Undo the normalisation."""
    values = (images * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]) * 255
    return values if channel_order == "RGB" else values.flip(1)


@pytest.mark.parametrize("source, target", [
    ((100, 100), 224), ((100, 100), 112), ((48, 48), 224), ((64, 64), 64), ((223, 180), 224), ((350, 350), 224),
    ((37, 500), 64), ((16, 1000), 224), ((224, 224), 224),
])
def test_resize_equals_pillow_bit_for_bit_and_in_training_nearly(source, target):
    pixels = np.random.default_rng(target).integers(0, 256, (*source, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(pixels).resize((target, target), Image.BILINEAR))
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    assert np.array_equal(resize_exactly(images, target)[0].permute(1, 2, 0).numpy(), expected)
    apart = np.abs(resize_batch(images, target)[0].permute(1, 2, 0).numpy().astype(int) - expected)
    assert apart.max() <= 2


def test_resizing_in_a_forked_process_ends():
    """A pool of threads that outlives a call is dead in a forked process, which then waits for it."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system cannot fork")
    images = batch(4)
    EvaluationTransform(64, 64)(images)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        result = pool.apply_async(resize_exactly, (images, 64)).get(timeout=60)
    assert torch.equal(result, resize_exactly(images, 64))


def test_evaluation_input_equals_the_published_one():
    golden = np.load(GOLDEN)
    images = torch.from_numpy(golden["rgb_noise"]).permute(2, 0, 1)[None]
    published = torch.from_numpy(golden["input_224"])
    bgr = EvaluationTransform()(images)[0]
    assert bgr.dtype == torch.float32 and bgr.shape == (3, 112, 112)
    assert (bgr - published).abs().max() < 1e-6
    rgb = EvaluationTransform(channel_order="RGB")(images.flip(1))[0]
    assert (rgb - published).abs().max() < 1e-6


def test_batches_and_memory_order_do_not_matter():
    images = batch(40)
    columns = images.transpose(2, 3).contiguous().transpose(2, 3)
    transform, training = EvaluationTransform(), TrainingTransform(augmentation="adaface")
    each = torch.cat([transform(image[None]) for image in images])
    assert torch.equal(transform(images), each) and torch.equal(transform(columns), each)
    before = images.clone()
    assert torch.equal(training(images, seeded()), training(columns, seeded()))
    assert torch.equal(images, before)
    assert transform(images[:0]).shape == (0, 3, 112, 112)


def test_small_preset_and_wrong_arguments():
    assert EvaluationTransform(64, 64)(batch(2)).shape == (2, 3, 64, 64)
    with pytest.raises(InputError, match="not a multiple"):
        EvaluationTransform(224, 100)
    with pytest.raises(InputError, match="GBR"):
        EvaluationTransform(channel_order="GBR")
    with pytest.raises(InputError, match="strong"):
        TrainingTransform(augmentation="strong")
    with pytest.raises(ValueError, match="expected uint8"):
        EvaluationTransform()(batch(1).float())


def test_training_without_augmentation_is_evaluation():
    images = batch(5)
    assert torch.equal(TrainingTransform(augmentation="none")(images, seeded()), EvaluationTransform()(images))


def test_same_seed_same_batch_and_parts_of_a_draw():
    images, transform = batch(9), TrainingTransform(augmentation="adaface")
    whole = transform(images, seeded(3))
    assert torch.equal(whole, transform(images, seeded(3))) and not torch.equal(whole, transform(images, seeded(4)))
    draw = transform.draw(9, 100, 100, seeded(3))
    parts = [transform.apply(images[:4], draw[:4]), transform.apply(images[4:], draw[4:])]
    assert torch.equal(whole, torch.cat(parts))


def within(share, probability, count):
    """Within 4 standard errors of a binomial share."""
    return abs(float(share) - probability) < 4 * (probability * (1 - probability) / count) ** 0.5


def test_rates_and_ranges_of_the_published_augmentation():
    count = 20_000
    draw = TrainingTransform().draw(count, 100, 100, seeded())
    # Mirrored if exactly one of the two flips happens: 1/4 * 1/2 + 3/4 * 1/2.
    assert within(draw.flip.float().mean(), 0.5, count)
    assert within(draw.noisy.float().mean(), 0.25, count)
    assert within((draw.flip & draw.noisy).float().mean(), 0.125, count)  # the second flip is drawn independently
    assert draw.noise_seed.unique().numel() == count
    top, left, height, width = draw.erase.unbind(1)
    chosen = height > 0
    assert within(chosen.float().mean(), 0.5, count)
    area = (height * width)[chosen] / 224**2
    assert 0.0185 < area.min() < 0.021 and 0.099 < area.max() < 0.102  # sides are rounded to whole pixels
    assert abs(area.mean() - 0.06) < 0.001
    ratio = (height / width)[chosen]
    assert 0.28 < ratio.min() < 0.32 and 3.2 < ratio.max() < 3.5
    assert abs(ratio.log().mean() - (np.log(0.3) + np.log(3.3)) / 2) < 0.03  # uniform in the logarithm
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= 224).all() and (left + width <= 224).all()
    assert (top[chosen] == 0).any() and (top + height == 224)[chosen].any()
    slack = top[chosen] / (224 - height[chosen])
    assert abs(slack.mean() - 0.5) < 0.02


def test_what_the_published_augmentation_does_to_pixels():
    grey = torch.full((600, 3, 100, 100), 128, dtype=torch.uint8)
    grey[..., :50] = 100  # left half darker, so that a flip shows
    transform = TrainingTransform(image_size=100, stream_size=100, channel_order="RGB")
    draw = transform.draw(600, 100, 100, seeded(1))
    values = to_8_bits(transform.apply(grey, draw))
    erased = transform.apply(grey, draw) == 0  # no grey level normalises to exactly 0
    assert torch.equal(erased.any((1, 2, 3)), draw.erase[:, 2] > 0)
    for index in range(60):
        top, left, height, width = draw.erase[index].tolist()
        inside = torch.zeros(100, 100, dtype=torch.bool)
        inside[top:top + height, left:left + width] = height > 0
        assert torch.equal(erased[index], inside.expand(3, 100, 100))
    base = torch.where(draw.flip[:, None, None, None], grey.flip(3), grey)
    difference = torch.where(erased, torch.nan, values - base)
    clean = difference[~draw.noisy].nan_to_num()
    assert clean.abs().max() < 1e-3
    noise = difference[draw.noisy]
    noise = noise[~noise.isnan()]
    assert abs(noise.mean()) < 0.01
    assert abs(noise.var() - (30 + 1 / 12)) < 0.1  # the twelfth comes from rounding to 8 bits


def test_erasing_on_the_grid_is_erasing_on_the_whole_picture():
    images, transform = batch(24), TrainingTransform()
    draw = transform.draw(24, 100, 100, seeded(2))
    whole = TrainingTransform(224, 224)
    assert torch.equal(transform.apply(images, draw), whole.apply(images, draw)[:, :, ::2, ::2])


def test_erasing_has_torchvisions_distribution():
    reference = v2.RandomErasing(p=0.5, scale=(0.02, 0.1), ratio=(0.3, 3.3), value=0)
    torch.manual_seed(0)
    blank = torch.ones(1, 112, 112)
    theirs = torch.stack([1 - reference(blank)[0] for _ in range(1500)])
    transform = TrainingTransform(image_size=112, stream_size=112)
    erase = transform.draw(20_000, 112, 112, seeded()).erase
    theirs_area, ours_area = theirs.mean((1, 2)), erase[:, 2] * erase[:, 3] / 112**2
    for level in (0.25, 0.6, 0.75, 0.9):
        assert abs(theirs_area.quantile(level) - ours_area.quantile(level)) < 0.006


def test_rates_and_ranges_of_adafaces_augmentation():
    count = 20_000
    draw = TrainingTransform(augmentation="adaface").draw(count, 100, 80, seeded())
    top, left, height, width = draw.crop.unbind(1)
    area = height * width / 8000
    cropped = area < 1
    # A region as wide as the picture is found now and then: slightly fewer than 0.2 show.
    assert 0.18 < cropped.float().mean() < 0.21
    assert area.min() > 0.18 and (top + height <= 100).all() and (left + width <= 80).all()
    ratio = (width / height)[cropped]
    assert 0.72 < ratio.min() < 0.78 and 1.28 < ratio.max() < 1.38
    low = draw.low_side < 1
    assert within(low.float().mean(), 0.2, count)
    assert draw.low_side.min() < 0.21 and abs(draw.low_side[low].mean() - 0.6) < 0.02
    assert draw.interpolation.flatten().bincount(minlength=5).min() > 0.18 * 2 * count
    jittered = (draw.jitter != 1).any(1)
    assert within(jittered.float().mean(), 0.2, count)
    assert 0.5 <= draw.jitter.min() < 0.51 and 1.49 < draw.jitter.max() <= 1.5
    assert abs(draw.jitter[jittered].mean() - 1) < 0.01
    orders = (draw.jitter_order * torch.tensor([9, 3, 1])).sum(1).bincount()
    assert (orders > 0).sum() == 6 and orders[orders > 0].min() > count / 6 * 0.9


def test_adafaces_changes_are_what_they_are_called():
    images = batch(300)
    transform = TrainingTransform(100, 100, "RGB", "adaface")
    draw = transform.draw(300, 100, 100, seeded(5))
    quiet = (draw.erase[:, 2] == 0) & ~draw.noisy & ~draw.flip
    cropped = (draw.crop[:, 2:] != 100).any(1)
    low, jittered = draw.low_side < 1, (draw.jitter != 1).any(1)
    values = to_8_bits(transform.apply(images, draw)).round()
    untouched = quiet & ~cropped & ~low & ~jittered
    assert untouched.sum() > 10 and torch.equal(values[untouched], images[untouched].float())
    only_cropped = (quiet & cropped & ~low & ~jittered).nonzero().flatten().tolist()
    for index in only_cropped:
        top, left, height, width = draw.crop[index].tolist()
        expected = torch.zeros(3, 100, 100)
        expected[:, top:top + height, left:left + width] = images[index, :, top:top + height, left:left + width]
        assert torch.equal(values[index], expected)
    only_low = (quiet & low & ~cropped & ~jittered & (draw.low_side < 0.5)).nonzero().flatten().tolist()
    assert only_low and only_cropped
    for index in only_low:  # coarse blocks stay, fine detail goes
        small = torch.nn.functional.interpolate(torch.stack([values[index], images[index].float()]), 5, mode="area")
        assert (small[0] - small[1]).abs().mean() < 12 and not torch.equal(values[index], images[index].float())
    only_jittered = quiet & jittered & ~cropped & ~low
    assert only_jittered.any() and (values[only_jittered] != images[only_jittered]).any((1, 2, 3)).all()


def test_camera_faults_are_degradations_of_known_severity():
    count = 20_000
    transform = TrainingTransform(100, 100, "RGB", "camera")
    draw = transform.draw(count, 100, 100, seeded())
    kind, severity = draw.fault.unbind(1)
    assert within((severity > 0).float().mean(), 0.5, count)
    assert severity.bincount()[1:].min() > 0.09 * count and len(severity.bincount()) == 6
    assert kind.bincount(minlength=5).min() > 0.19 * count
    assert torch.equal(transform.quality_left(draw), 1 - severity / 5)
    assert TrainingTransform(augmentation="warp").quality_left(draw).unique().tolist() == [1]
    images = batch(400)
    draw = transform.draw(400, 100, 100, seeded(5))
    quiet = ((draw.erase[:, 2] == 0) & ~draw.noisy & ~draw.flip).nonzero().flatten().tolist()
    values = to_8_bits(transform.apply(images, draw)).round()
    faults = 0
    for index in quiet:
        kind, severity = draw.fault[index].tolist()
        fault = degrade(images[index:index + 1], list(SEVERITIES)[kind], severity, int(draw.noise_seed[index]))[0]
        apart = (values[index] - fault.float()).abs()
        assert apart.max() <= 1 and apart.mean() < 1e-3  # a blur's sum may round to either side of a half
        faults += severity > 0
    assert 10 < faults < len(quiet) - 10


@pytest.mark.parametrize("kind", SEVERITIES)
def test_degradation_grows_with_severity(kind):
    images = batch(12)
    steps = [degrade(images, kind, severity) for severity in range(6)]
    assert torch.equal(steps[0], images)
    errors = [float((step.float() - images.float()).square().mean()) for step in steps]
    assert all(later > earlier for earlier, later in zip(errors, errors[1:], strict=False))
    assert steps[5].shape == images.shape and steps[5].dtype == torch.uint8
    assert torch.equal(steps[3], degrade(images, kind, 3))
    random = kind in ("noise", "darkness")
    assert torch.equal(steps[3], degrade(images, kind, 3, seed=9)) != random


def test_degradation_has_the_stated_strength():
    grey = torch.full((4, 3, 100, 100), 128, dtype=torch.uint8)
    assert abs(degrade(grey, "noise", 2).float().std() - 12) < 0.1
    dark = degrade(grey, "darkness", 3).float()
    assert abs(dark.mean() - 0.24 * 128) < 0.1
    photons = 128 / 255 * 0.24 * 1000
    assert abs(dark.std() - photons**0.5 / 1000 * 255) < 0.1
    edge = torch.zeros(1, 3, 100, 100, dtype=torch.uint8)
    edge[..., 50:] = 255
    slope = degrade(edge, "blur", 3)[0, 0, 50].float().diff().max()
    assert abs(slope - 255 / (2.2 * (2 * np.pi) ** 0.5)) < 2  # the peak of a Gaussian of sigma 2.2
    with pytest.raises(InputError, match="severities 0..5"):
        degrade(grey, "noise", 6)


def test_transforming_works_under_inference_mode():
    pictures = torch.randint(0, 256, (64, 3, 100, 100), dtype=torch.uint8)
    expected = EvaluationTransform()(pictures)
    with torch.inference_mode():
        assert torch.equal(EvaluationTransform()(pictures), expected)


def test_warp_moves_a_point_where_its_similarity_says():
    similarity = draw_similarity(200, seeded(3), math.radians(12), 0.12, 0.06)
    zoom = similarity[:, :, :2].det().sqrt()
    turn = torch.atan2(similarity[:, 1, 0], similarity[:, 0, 0])
    assert 0.88 <= zoom.min() < 0.90 and 1.10 < zoom.max() <= 1.12
    assert math.radians(11) < turn.abs().max() <= math.radians(12) and abs(turn.mean()) < math.radians(1.5)
    assert 0.11 < similarity[:, :, 2].abs().max() <= 0.12  # of a side that is 2 long
    pictures = torch.zeros(200, 1, 101, 101)
    pictures[:, :, 70, 30] = 1  # x = -0.396, y = 0.396
    rows, columns = torch.meshgrid(*[(2 * torch.arange(101) + 1) / 101 - 1] * 2, indexing="ij")
    moved = warped(pictures, similarity)[:, 0]
    centre = torch.stack([(moved * axis).sum((1, 2)) / moved.sum((1, 2)) for axis in (columns, rows)], 1)
    start = torch.tensor([columns[70, 30], rows[70, 30]])
    expected = (similarity[:, :, :2] @ start) + similarity[:, :, 2]
    assert (centre - expected).abs().max() < 1 / 101  # half a pixel


def test_grey_input_is_the_brightness_and_grey_pictures_pass_unchanged():
    colour = torch.randint(256, (4, 3, 48, 48), dtype=torch.uint8)
    grey = colour[:, :1].expand(-1, 3, -1, -1)
    of_grey, as_colour = (EvaluationTransform(48, 48, order)(grey) for order in ("grey", "RGB"))
    torch.testing.assert_close(of_grey, as_colour, atol=1e-5, rtol=0)
    found = EvaluationTransform(48, 48, "grey")(colour)
    unscaled = found * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    by_pillow = torch.stack([torch.from_numpy(np.array(Image.fromarray(face.permute(1, 2, 0).numpy()).convert("L")))
                             for face in colour])
    for channel in range(3):
        assert (255 * unscaled[:, channel] - by_pillow).abs().max() <= 0.6  # Pillow rounds to whole levels
