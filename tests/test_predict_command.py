"""`python -m poster_ada.predict`: the table, the copies, the exit status, and odd files of all kinds."""

import errno
import io
import json
import os
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from photographs import TEMPLATE, Scripted
from PIL import Image
from small_runs import child_process

import poster_ada.predict as predict
from poster_ada.checkpoints.create import create_model
from poster_ada.checkpoints.own import save_checkpoint
from poster_ada.recognition.recognizer import Recognizer
from poster_ada.recognition.video import frames_of

BOX = (30, 20, 60, 70)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(3)
    model = create_model("nano")
    model.face_template = TEMPLATE
    path = tmp_path_factory.mktemp("checkpoint") / "nano.safetensors"
    save_checkpoint(model, path)
    return path


@pytest.fixture
def run(checkpoint, tmp_path, monkeypatch, capsys):
    """Runs the command with a detector that finds one face everywhere; gives the exit status, table, stdout, stderr."""
    monkeypatch.setattr("poster_ada.recognition.recognizer.FaceDetector", lambda *_: Scripted(BOX))

    def go(*words):
        with pytest.raises(SystemExit) as stopped:
            predict.main([*map(str, words), "-c", str(checkpoint), "--out", str(tmp_path / "out")])
        path = tmp_path / "out" / "predictions.csv"
        table = pd.read_csv(path) if path.is_file() and path.stat().st_size else None
        printed = capsys.readouterr()
        return stopped.value.code, table, printed.out, printed.err

    return go


def noise(height=120, width=160, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_one_picture(run, tmp_path):
    Image.fromarray(noise()).save(tmp_path / "photo.png")
    code, table, out, err = run(tmp_path / "photo.png")
    assert code == 0 and err == ""
    assert table.columns.to_list() == [
        "file", "face", "x", "y", "width", "height", "score", "prediction", "confidence", "norm", "p_surprise",
        "p_fear", "p_disgust", "p_happiness", "p_sadness", "p_anger", "p_neutral",
        "doubt"]
    assert table.loc[0, ["face", "x", "y", "width", "height", "score"]].to_list() == [1, *BOX, 0.9]
    assert table["file"].item() == str(tmp_path / "photo.png") and "1 face in 1 file" in out
    copy = np.array(Image.open(tmp_path / "out" / "photo.jpg"))
    assert copy.shape == (120, 160, 3) and np.abs(copy.astype(int) - noise()).max() > 50


def test_a_folder_with_one_broken_picture_does_the_others(run, tmp_path):
    for number in range(3):
        (tmp_path / "in" / str(number)).mkdir(parents=True)
        Image.fromarray(noise(seed=number)).save(tmp_path / "in" / str(number) / "photo 사진.png")
    (tmp_path / "in" / "1" / "photo 사진.png").write_bytes(b"text")
    code, table, out, err = run(tmp_path / "in")
    assert code == 1 and len(table) == 2
    assert err.count("error:") == 1 and "photo 사진.png is not a picture (4 bytes)" in err
    assert sorted(path.name for path in (tmp_path / "out").glob("*.jpg")) == ["photo 사진-3.jpg", "photo 사진.jpg"]


def tiff16(path):
    Image.fromarray((np.arange(128 * 128).reshape(128, 128) * 4).astype(np.uint16)).save(path)


def animated(path):
    frames = [Image.fromarray(noise(seed=seed)) for seed in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def truncated(path):
    content = io.BytesIO()
    Image.fromarray(noise()).save(content, "JPEG")
    path.write_bytes(content.getvalue()[:900])


GOOD = {
    "grey.png": lambda path: Image.fromarray(noise()[..., 0]).save(path), "deep.png": tiff16, "animated.gif": animated,
    "print.jpg": lambda path: Image.fromarray(noise()).convert("CMYK").save(path),
    "glass.png": lambda path: Image.fromarray(np.dstack((noise(), noise()[..., 0]))).save(path),
    "wide.png": lambda path: Image.fromarray(noise(100, 20000)).save(path),
    "a b 'c' 한글.jpeg": lambda path: Image.fromarray(noise()).save(path),
}
BAD = {
    "cut.jpg": (truncated, "cut.jpg does not decode fully"),
    "empty.jpg": (lambda path: path.touch(), "is not a picture"),
    "text.jpg": (lambda path: path.write_text("hello", encoding="utf-8"), "text.jpg is not a picture"),
    "empty.mp4": (lambda path: path.touch(), "empty.mp4 is not a video that can be read here"),
    "text.mp4": (lambda path: path.write_text("hello", encoding="utf-8"), "text.mp4 is not a video"),
    "IMG_1.HEIC": (lambda path: path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(99)), "IMG_1.HEIC is not a picture"),
}


@pytest.mark.parametrize("name", GOOD)
def test_odd_pictures_are_recognised(run, tmp_path, name):
    GOOD[name](tmp_path / name)
    code, table, _, err = run(tmp_path / name)
    assert (code, err) == (0, "") and table["prediction"].notna().all() and len(list((tmp_path / "out").iterdir())) == 2


def test_a_picture_turned_by_its_camera_is_read_upright(run, tmp_path):
    upright, exif = Image.fromarray(noise()), Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    upright.save(tmp_path / "upright.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    code, table, _, _ = run(tmp_path / "upright.png", tmp_path / "turned.png")
    first, second = (table[table["file"].str.endswith(name)].drop(columns="file")
                     for name in ("upright.png", "turned.png"))
    assert code == 0
    pd.testing.assert_frame_equal(first.reset_index(drop=True), second.reset_index(drop=True))
    assert Image.open(tmp_path / "out" / "turned.jpg").size == upright.size


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_one_sentence(run, tmp_path, name):
    make, sentence = BAD[name]
    make(tmp_path / name)
    code, table, _, err = run(tmp_path / name)
    assert code == 1 and err.count("\n") == 1 and sentence in err and table is None


LONG_NAMES = ("사" * 83 + ".png", "a" * 251 + ".png", "a" * 250 + "b.png")


def test_names_as_long_as_they_may_be_have_copies(run, tmp_path):
    for name in LONG_NAMES:
        Image.fromarray(noise()).save(tmp_path / name)
    code, table, _, err = run(tmp_path)
    assert (code, err) == (0, "") and len(table) == len(list((tmp_path / "out").glob("*.jpg"))) == len(LONG_NAMES)


@pytest.mark.skipif(sys.platform != "linux", reason="names are text here")
@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_name_that_is_no_text_is_recognised(run, tmp_path, words):
    Image.fromarray(noise()).save(tmp_path / "photo.png")
    (tmp_path / "photo.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    code, table, _, err = run(tmp_path, *words)
    assert (code, err) == (0, "") and table["file"].item().endswith("\\udcff.png")


def test_a_picture_that_goes_away_meanwhile_is_named_and_the_rest_goes_on(run, tmp_path, monkeypatch):
    for number in range(3):
        Image.fromarray(noise(seed=number)).save(tmp_path / f"{number}.png")
    recognise = Recognizer.__call__

    def removing(self, picture):
        (tmp_path / "1.png").unlink(missing_ok=True)
        return recognise(self, picture)

    monkeypatch.setattr(Recognizer, "__call__", removing)
    code, table, _, err = run(tmp_path)
    assert code == 1 and len(table) == 2 and err.count("\n") == 1 and "there is no picture" in err and "1.png" in err


def test_a_picture_taken_whole_is_said_to_be(run, tmp_path, monkeypatch):
    Image.fromarray(noise(60, 60)).save(tmp_path / "crop.png")
    _, _, out, _ = run(tmp_path / "crop.png")
    assert "taken whole" not in out
    monkeypatch.setattr("poster_ada.recognition.recognizer.FaceDetector", lambda *_: Scripted())
    _, table, out, _ = run(tmp_path / "crop.png")
    assert table["width"].item() == 60 and "1 taken whole: no face was found" in out


def test_one_pixel_is_no_face(run, tmp_path, monkeypatch):
    Image.fromarray(noise(1, 1)).save(tmp_path / "dot.png")
    monkeypatch.setattr("poster_ada.recognition.recognizer.FaceDetector", lambda *_: Scripted())
    code, table, out, _ = run(tmp_path / "dot.png", "--crop", "detect")
    assert code == 0 and table["prediction"].item() == "no face" and table["face"].item() == 0
    assert "0 faces in 1 file" in out


@pytest.mark.parametrize("words, sentence", [
    ([], "no picture was named"), (["photo.png", "--webcam"], "--webcam takes no pictures"),
    (["gone.jpg"], "there is no picture, folder or video gone.jpg"),
    (["--webcam", "-1"], "--webcam is -1; cameras are counted from 0"),
    (["."], "holds no picture and no video"), (["photo.png", "--min-score", "7"], "--min-score is 7.0"),
])
def test_wrong_words_are_one_sentence(run, tmp_path, monkeypatch, words, sentence):
    Image.fromarray(noise()).save(tmp_path / "photo.png")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty" if words == ["."] else tmp_path)
    code, _, _, err = run(*words)
    assert code == 2 and err.count("\n") == 1 and sentence in err


def test_copies_never_go_over_the_users_own_pictures(run, tmp_path):
    (tmp_path / "out").mkdir()
    for name in ("photo.jpg", "photo.png", "clip.mp4"):
        Image.fromarray(noise()).save(tmp_path / "out" / name, "JPEG")
        before = (tmp_path / "out" / name).read_bytes()
        code, _, _, err = run(tmp_path / "out" / name)
        assert code == 2 and err.count("\n") == 1 and f"{name} lies in {tmp_path / 'out'}" in err
        assert (tmp_path / "out" / name).read_bytes() == before
    code, table, _, _ = run(tmp_path / "out" / "photo.jpg", "--no-pictures")
    assert code == 0 and len(table) == 1


@pytest.mark.parametrize("name", ["photo.jpg", "photo-explained.png", "photo.png", "predictions.csv"])
def test_nothing_is_written_over_that_the_command_did_not_write(run, tmp_path, name):
    Image.fromarray(noise()).save(tmp_path / "photo.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("my own", encoding="utf-8")
    code, _, _, err = run(tmp_path / "photo.png")
    assert code == 2 and err.count("\n") == 1 and f"{name} is there already and this command did not write it" in err
    assert (tmp_path / "out" / name).read_text(encoding="utf-8") == "my own"


def test_a_folder_of_an_earlier_run_is_written_again(run, tmp_path):
    Image.fromarray(noise()).save(tmp_path / "photo.png")
    for _ in range(2):
        code, table, _, err = run(tmp_path / "photo.png")
        assert (code, err) == (0, "") and len(table) == 1


@pytest.mark.parametrize("how", ["symlink_to", "hardlink_to"])
def test_a_video_behind_a_link_is_not_written_over(run, video, tmp_path, how):
    before = video.read_bytes()
    run(video)  # an earlier run's folder
    (tmp_path / "out" / "clip.mp4").unlink()
    getattr(tmp_path / "out" / "clip.mp4", how)(video)
    code, _, _, err = run(video)
    assert code == 2 and "clip.mp4 is there already" in err and video.read_bytes() == before


def test_copies_of_an_earlier_run_are_no_pictures_of_the_next(run, tmp_path):
    Image.fromarray(noise()).save(tmp_path / "photo.png")
    for _ in range(2):
        code, table, _, _ = run(tmp_path)
        assert code == 0 and table["file"].to_list() == [str(tmp_path / "photo.png")]


def test_json_is_one_object_a_face(run, tmp_path):
    Image.fromarray(noise()).save(tmp_path / "photo.png")
    code, table, out, _ = run(tmp_path / "photo.png", "--json", "--no-pictures")
    row = json.loads(out)
    assert code == 0 and row["prediction"] == table["prediction"].item() and row["width"] == BOX[2]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["predictions.csv"]


def test_explaining_writes_a_page(run, tmp_path):
    pytest.importorskip("pytorch_grad_cam")
    Image.fromarray(noise()).save(tmp_path / "photo.png")
    run(tmp_path / "photo.png", "--explain")
    assert Image.open(tmp_path / "out" / "photo-explained.png").height > 160


def test_ctrl_c_keeps_what_is_done(run, tmp_path, monkeypatch):
    for number in range(4):
        Image.fromarray(noise(seed=number)).save(tmp_path / f"{number}.png")
    recognise, seen = Recognizer.__call__, []

    def interrupted(self, picture):
        seen.append(picture)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return recognise(self, picture)

    monkeypatch.setattr(Recognizer, "__call__", interrupted)
    code, table, _, err = run(tmp_path)
    assert code == 130 and "stopped by Ctrl-C" in err and len(table) == 2


def test_a_folder_that_cannot_be_written_and_a_full_disk(run, tmp_path, monkeypatch):
    Image.fromarray(noise()).save(tmp_path / "photo.png")
    (tmp_path / "out").write_text("a file", encoding="utf-8")
    code, _, _, err = run(tmp_path / "photo.png")
    assert code == 2 and "cannot be written" in err and err.count("\n") == 1
    (tmp_path / "out").unlink()

    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", read_only)
        code, _, _, err = run(tmp_path / "photo.png")
    assert code == 2 and "out cannot be written (Read-only file system)" in err and err.count("\n") == 1

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    code, table, _, err = run(tmp_path / "photo.png")
    assert code == 74 and "the disk is full" in err and len(table) == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="whoever may do all may write here too")
def test_a_read_only_folder_is_one_sentence(run, tmp_path):
    Image.fromarray(noise()).save(tmp_path / "photo.png")
    tmp_path.chmod(0o555)
    try:
        code, _, _, err = run(tmp_path / "photo.png")
    finally:
        tmp_path.chmod(0o755)
    assert code == 2 and "cannot be written" in err and err.count("\n") == 1


@pytest.fixture
def video(tmp_path):
    """Twelve frames at 10 a second."""
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (160, 120))
    for number in range(12):
        writer.write(noise(seed=number))
    writer.release()
    return path


def test_a_video_has_a_row_a_frame_a_copy_and_a_plot(run, video, tmp_path):
    pytest.importorskip("matplotlib")
    Image.fromarray(noise()).save(tmp_path / "photo.png")
    code, table, _, err = run(video, tmp_path / "photo.png")
    assert code == 0 and err == "" and table.columns.to_list()[:4] == ["file", "time", "track", "face"]
    frames = table[table["file"] == str(video)]
    assert frames["time"].to_list() == pytest.approx([number / 10 for number in range(12)])
    assert set(frames["track"]) == {1} and table.iloc[-1]["file"] == str(tmp_path / "photo.png")
    copy = cv2.VideoCapture(str(tmp_path / "out" / "clip.mp4"))
    assert copy.get(cv2.CAP_PROP_FRAME_COUNT) == 12 and copy.get(cv2.CAP_PROP_FRAME_WIDTH) == 160
    assert Image.open(tmp_path / "out" / "clip.png").width > 500


def test_frames_of_a_video_have_the_times_that_it_says(tmp_path):
    """Eight frames of 20 a second, then four of 5: the durations in an MP4's table (stts) are set by hand."""
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (160, 120))
    for number in range(12):
        writer.write(noise(seed=number))
    writer.release()
    content = path.read_bytes()
    place = content.index(b"stts") + 8
    entries, count, step = struct.unpack(">III", content[place:place + 12])
    assert (entries, count) == (1, 12)
    several = b"stts" + struct.pack(">IIIIII", 0, 2, 8, step // 2, 4, 2 * step)
    path.write_bytes(with_longer_box(content, place - 8, several, 8))
    times = [time for time, _ in frames_of(path)]
    assert times == pytest.approx([*(number / 20 for number in range(9)), 0.6, 0.8, 1.0])


def with_longer_box(content, place, body, more):
    """An MP4 whose box at `place` (of its name) has another body, so many bytes longer, in boxes of corrected sizes."""
    content = bytearray(content)
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"):
        at = content.index(name) - 4
        content[at:at + 4] = struct.pack(">I", struct.unpack(">I", content[at:at + 4])[0] + more)
    return bytes(content[:place] + body + content[place + len(body) - more:])


def test_a_video_cut_short_gives_the_frames_it_has_or_says_so(run, video):
    content = video.read_bytes()
    assert struct.unpack(">I", content[:4])[0] < len(content)
    video.write_bytes(content[: len(content) // 2])
    code, table, _, err = run(video, "--no-pictures")
    assert (code == 1 and "clip.mp4 is not a video that can be read here" in err) or (code == 0 and len(table) > 0)


def test_an_avi_cut_short_gives_the_frames_it_has_and_says_so(run, tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (160, 120))
    for number in range(12):
        writer.write(noise(seed=number))
    writer.release()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    code, table, _, err = run(path)
    assert code == 0 and 3 <= len(table) < 12 and "clip.avi ends after" in err and err.count("\n") == 1


def test_a_video_without_frames_is_one_sentence(run, tmp_path):
    path = tmp_path / "clip.avi"
    cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (160, 120)).release()
    code, table, _, err = run(path)
    assert path.stat().st_size and code == 1 and table is None
    assert err.count("\n") == 1 and "clip.avi is not a video that can be read here, or has no frame" in err


def test_a_copy_of_a_video_that_cannot_be_written_is_one_sentence(run, video, tmp_path):
    (tmp_path / "out" / "clip.mp4").mkdir(parents=True)  # a folder is in the way
    code, _, _, err = run(video)
    assert code == 1 and err.count("\n") == 1 and "clip.mp4 cannot be written (Is a directory); choose another" in err
    (tmp_path / "out" / "clip.mp4").rmdir()


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on a file's size there")
def test_a_copy_that_outgrows_the_disk_is_removed_and_said(run, video, tmp_path):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))  # bytes; a dozen frames of noise take 300,000
    try:
        code, table, _, err = run(video)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 1 and "clip.mp4 cannot be written (File too large)" in err and err.count("\n") == 1
    assert len(table) <= 12 and not (tmp_path / "out" / "clip.mp4").exists()


def recorded(path, times, size=(120, 160), sound=True):
    """A video as a phone records it: frames at these times, and a tone, the pictures' odd sides included."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=30)
        picture.height, picture.width, picture.pix_fmt = *size, "yuv420p"
        picture.codec_context.time_base = Fraction(1, 1000)
        track = container.add_stream("mp3", rate=44_100) if sound else None
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(noise(*size, seed=number))
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        if track:
            wave = np.sin(440 * 2 * np.pi * np.arange(44_100) / 44_100).astype(np.float32)[None]
            tone = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
            tone.sample_rate, tone.pts, tone.time_base = 44_100, 0, Fraction(1, 44_100)
            container.mux(track.encode(tone))
            container.mux(track.encode(None))


def test_a_copy_plays_anywhere_at_the_frames_times_and_sounds(run, tmp_path):
    times = [0, 0.05, 0.1, 0.15, 0.4, 0.65, 0.9]  # a phone's rate varies
    recorded(tmp_path / "clip.mkv", times)
    code, table, _, err = run(tmp_path / "clip.mkv")
    assert (code, err) == (0, "") and table["time"].to_list() == pytest.approx(times, abs=1e-3)
    with av.open(str(tmp_path / "out" / "clip.mp4")) as copy:
        picture, track = copy.streams.video[0], copy.streams.audio[0]
        assert (picture.codec_context.name, picture.pix_fmt, track.codec_context.name) == ("h264", "yuv420p", "aac")
        frames = list(copy.decode(video=0))
    assert [frame.time for frame in frames] == pytest.approx(times, abs=1e-3)
    with av.open(str(tmp_path / "out" / "clip.mp4")) as copy:
        heard = np.concatenate([frame.to_ndarray() for frame in copy.decode(audio=0)], axis=1)
    assert 0.8 < heard.shape[1] / 48_000 < 1.1 and np.abs(heard).max() > 0.5
    content = (tmp_path / "out" / "clip.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # a browser can begin before it has all


def test_a_copy_of_a_video_of_odd_sides_and_without_sound(run, tmp_path):
    recorded(tmp_path / "clip.mov", [0, 0.1, 0.2], size=(121, 161), sound=False)
    code, table, _, err = run(tmp_path / "clip.mov")
    assert (code, err, len(table)) == (0, "", 3)
    with av.open(str(tmp_path / "out" / "clip.mp4")) as copy:
        frames = list(copy.decode(video=0))
        assert [(frame.height, frame.width) for frame in frames] == [(120, 160)] * 3 and not copy.streams.audio


def test_what_was_recognised_before_ctrl_c_can_be_played(run, video, tmp_path, monkeypatch):
    faces_of, seen = Recognizer.faces_of, []

    def stopped_at_the_ninth(self, image):
        seen.append(image)
        if len(seen) == 9:
            raise KeyboardInterrupt
        return faces_of(self, image)

    monkeypatch.setattr(Recognizer, "faces_of", stopped_at_the_ninth)
    code, table, _, _ = run(video)
    with av.open(str(tmp_path / "out" / "clip.mp4")) as copy:
        assert (code, len(table), len(list(copy.decode(video=0)))) == (130, 8, 8)


def test_without_matplotlib_a_video_has_no_plot_and_the_rest_goes_on(run, video, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    Image.fromarray(noise()).save(tmp_path / "photo.png")
    code, table, _, err = run(video, tmp_path / "photo.png")
    assert code == 0 and len(table) == 13 and "needs matplotlib: pip install" in err and err.count("\n") == 1


def test_explaining_without_grad_cam_is_refused_at_once(run, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "find_spec", lambda name: None)
    Image.fromarray(noise()).save(tmp_path / "photo.png")
    code, table, _, err = run(tmp_path / "photo.png", "--explain")
    assert code == 2 and table is None and "--explain needs grad-cam: pip install" in err


def test_a_picture_too_long_for_jpeg_has_a_copy_all_the_same(run, tmp_path):
    Image.new("RGB", (70_000, 12)).save(tmp_path / "strip.png")
    code, table, _, err = run(tmp_path / "strip.png")
    assert (code, err) == (0, "") and Image.open(tmp_path / "out" / "strip.png").width == 70_000


def test_copies_have_names_of_their_own():
    files = [Path(name) for name in ("a/photo.jpg", "b/Photo.png", "c/photo.webp", "photo-2.jpg")]
    names = list(predict.annotated_names(files).values())
    assert names[0] == "photo.jpg" and len({name.lower() for name in names}) == 4


@pytest.mark.parametrize("windows", [True, False])
def test_no_camera_is_one_sentence(run, monkeypatch, windows):
    monkeypatch.setattr("poster_ada.recognition.camera.has_windows", lambda: windows)
    code, _, _, err = run("--webcam", "93")
    assert code == 2 and err.count("\n") == 1 and "there is no camera 93" in err


def test_a_camera_without_windows_is_shown_by_the_page(run, monkeypatch):
    served = []
    monkeypatch.setattr("poster_ada.recognition.camera.has_windows", lambda: False)
    monkeypatch.setattr("poster_ada.recognition.camera.check_camera", lambda number: None)
    monkeypatch.setattr("poster_ada.recognition.serving.serve_page", served.append)
    code, _, _, err = run("--webcam")
    assert code == 0 and len(served) == 1 and isinstance(served[0], Recognizer) and "shown by the page" in err


def test_the_headless_opencv_has_no_windows():
    from importlib.metadata import PackageNotFoundError, version

    from poster_ada.recognition.camera import has_windows

    try:
        version("opencv-python-headless")
    except PackageNotFoundError:
        pytest.skip("another OpenCV is installed")
    assert not has_windows()


@pytest.mark.parametrize("words", [["cut.mp4"], ["--webcam", "93"]], ids=" ".join)
def test_opencv_and_ffmpeg_print_nothing_of_their_own(checkpoint, tmp_path, video, words):
    """In a process of its own: they write past Python."""
    (tmp_path / "cut.mp4").write_bytes(video.read_bytes()[:2000])
    where = child_process()
    where["env"].pop("PYTHONWARNDEFAULTENCODING", None)  # under `make test` other libraries would warn here
    words = [str(tmp_path / word) if word.endswith("mp4") else word for word in words]
    done = subprocess.run([sys.executable, "-m", "poster_ada.predict", *words, "-c", str(checkpoint), "--crop", "none",
                           "--out", str(tmp_path / "out")], capture_output=True, text=True, check=False, **where)
    assert done.returncode and done.stderr.count("\n") == 1 and done.stderr.startswith("error: "), done.stderr
