"""Every picture decodes to what a viewer shows or is refused by name, and memory stays within its bound."""

import io
import tracemalloc

import numpy as np
import pytest
import torch
from face_sets import picture
from PIL import Image

from poster_ada.data.formats import is_picture
from poster_ada.data.pictures import Pictures, decode, decode_bytes
from poster_ada.errors import InputError

RAMP = np.linspace(0, 65535, 40 * 30).reshape(40, 30)  # grey, 16 bits
GREY = np.round(RAMP / 257).astype(np.uint8)


def saved(image: Image.Image, kind: str, **how) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


@pytest.mark.parametrize(("image", "kind"), [
    (Image.fromarray(RAMP.astype(np.uint16)), "PNG"), (Image.fromarray(RAMP.astype(np.uint16)), "TIFF"),
    (Image.fromarray(RAMP.astype(">u2")), "TIFF"), (Image.fromarray(RAMP.astype(np.int32)), "TIFF"),
    (Image.fromarray((RAMP / 65535).astype(np.float32)), "TIFF"), (Image.fromarray(GREY), "PNG"),
], ids=["16-bit PNG", "16-bit TIFF", "big-endian TIFF", "32-bit TIFF", "float TIFF", "8-bit PNG"])
def test_grey_of_many_bits_is_what_a_viewer_shows(image, kind):
    pixels = decode_bytes(saved(image, kind), "face")
    assert pixels.dtype == np.uint8 and pixels.shape == (40, 30, 3)
    assert np.abs(pixels[..., 0].astype(int) - GREY).max() <= 1 and (pixels == pixels[..., :1]).all()


@pytest.mark.parametrize("values", [RAMP.astype(np.float32), (RAMP / 65535 - 0.5).astype(np.float32),
                                    np.full((4, 4), np.nan, np.float32)], ids=["large", "negative", "nan"])
def test_numbers_without_a_white_are_refused(values):
    with pytest.raises(InputError, match="face holds floating-point numbers .* save it with 8 bits"):
        decode_bytes(saved(Image.fromarray(values), "TIFF"), "face")


def test_transparent_parts_are_mid_grey_whatever_colour_hides_there():
    colour = np.zeros((4, 4, 4), np.uint8)
    colour[..., 0], colour[:2, :, 3], colour[2:, :, 3] = 255, 255, 0  # red, the lower half hidden
    half = colour.copy()
    half[..., 3] = 128
    palette = Image.fromarray(colour[..., :3]).quantize(2)
    index = palette.getpixel((0, 0))
    for image, how in ((Image.fromarray(colour), {}), (Image.fromarray(colour).convert("LA"), {})):
        pixels = decode_bytes(saved(image, "PNG", **how), "face")
        assert (pixels[2:] == 128).all() and (pixels[:2] != 128).any()
    assert (decode_bytes(saved(palette, "PNG", transparency=index), "face") == 128).all()
    assert (decode_bytes(saved(Image.fromarray(colour[..., :3]), "PNG", transparency=(255, 0, 0)), "face") == 128).all()
    mixed = decode_bytes(saved(Image.fromarray(half), "PNG"), "face")
    assert np.abs(mixed[0, 0].astype(int) - (192, 64, 64)).max() <= 1


def test_of_several_frames_the_first_counts(tmp_path):
    first, second = picture(1, (20, 20)), picture(2, (20, 20))
    for kind, how in (("TIFF", {}), ("PNG", {}), ("WEBP", {"lossless": True})):
        pixels = decode_bytes(saved(first, kind, save_all=True, append_images=[second], **how), kind)
        assert np.array_equal(pixels, np.asarray(first)), kind


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_common_modes_keep_their_look(mode):
    original = picture(3, (32, 32))
    content = saved(original.convert(mode), "TIFF" if mode in ("CMYK", "YCbCr") else "PNG")
    try:
        Image.open(io.BytesIO(content)).load()
    except OSError:  # Pillow 12 and YCbCr
        pytest.skip("this Pillow does not read the TIFF that it writes itself")
    pixels = decode_bytes(content, "face")
    assert np.array_equal(pixels, np.asarray(original.convert(mode).convert("RGB")))


def test_a_mode_that_is_not_read_is_named():
    with pytest.raises(InputError, match="face holds its colours as LAB"):
        decode_bytes(saved(Image.new("LAB", (8, 8)), "TIFF"), "face")


@pytest.mark.parametrize("kind", ["PNG", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_by_their_orientation(orientation, kind, tmp_path):
    upright = np.zeros((24, 16, 3), np.uint8)
    upright[:8, :8] = 255  # upper left
    back = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.swapaxes(0, 1),
            6: lambda a: np.rot90(a, 1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: lambda a: np.rot90(a, -1)}
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(np.ascontiguousarray(back[orientation](upright))), kind, exif=exif.tobytes())
    assert np.abs(decode_bytes(data, "face").astype(int) - upright).max() <= (0 if kind == "PNG" else 40)  # HEIC loses
    (tmp_path / "face").write_bytes(data)
    assert Pictures([tmp_path / "face"]).sizes.tolist() == [[24, 16]]


def test_a_photograph_of_a_phone_decodes_or_is_refused_by_name():
    whole = saved(picture(5, (96, 64)), "HEIF", quality=95)
    assert whole[4:12] == b"ftypheic" and is_picture("IMG_1.HEIC") and is_picture("a.hif")
    assert np.abs(decode_bytes(whole, "face").astype(int) - np.asarray(picture(5, (96, 64)))).mean() < 20
    for damaged in (whole[:100], whole[: len(whole) // 2], whole[:24] + bytes(99)):
        with pytest.raises(InputError, match="IMG_1.HEIC (is not a picture|does not decode fully)"):
            decode_bytes(damaged, "IMG_1.HEIC")


def test_malformed_metadata_never_stops_a_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x9286] = 6, "a face", b"ASCII"
    data = bytearray(saved(picture(4, (30, 20)), "JPEG", exif=exif))
    start = data.index(b"Exif") + 6
    end = start - 8 + int.from_bytes(data[start - 8:start - 6], "big")
    random = np.random.default_rng(1)
    for _ in range(400):
        broken = data.copy()
        for place in random.integers(start, end, 3):
            broken[place] = random.integers(256)
        assert decode_bytes(bytes(broken), "face").shape in ((30, 20, 3), (20, 30, 3))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "GIF", "WEBP", "BMP"])
def test_truncated_pictures_are_one_sentence(kind):
    data = saved(picture(5, (64, 64)), kind)
    for length in (0, 10, len(data) // 2):
        with pytest.raises(InputError, match=r"^face .*(replace or remove it|copy it again)\.$"):
            decode_bytes(data[:length], "face")


def test_a_picture_that_takes_gigabytes_is_refused():
    blank = saved(Image.new("1", (20_000, 20_000)), "PNG")
    tracemalloc.start()
    with pytest.raises(InputError, match="face has far more than 80 million pixels"):
        decode_bytes(blank, "face")
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()


def test_the_bound_of_memory_counts_every_picture(tmp_path, monkeypatch):
    paths = []
    for number in range(30):
        side = 20 if number == 0 else 300  # the first is small: it alone says nothing about the others
        paths.append(tmp_path / f"{number}.png")
        picture(number, (side, side)).save(paths[-1])
    bound = 2 << 20
    pictures = Pictures(paths)
    pictures.read_all(cache_bytes=bound, workers=1)
    assert pictures._kept is None
    assert Pictures(paths).at_one_size(300, bound) is None
    small = Pictures(paths)
    small.read_all(cache_bytes=30 << 20)
    assert small.at_one_size(48, 8 << 20).shape == (30, 3, 48, 48) and small._kept is None


def test_changing_a_picture_changes_no_other(tmp_path):
    picture(1).save(tmp_path / "a.png")
    pictures = Pictures([tmp_path / "a.png"])
    pictures.read_all()
    first = pictures[0]
    first.zero_()
    assert torch.equal(pictures[0], torch.from_numpy(decode(tmp_path / "a.png").copy()).permute(2, 0, 1))
