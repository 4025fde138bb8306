"""A video written anew, frame by frame, as browsers and phones play it: H.264, every frame at its time, with sound."""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from poster_ada.errors import InputError

TICK = Fraction(1, 90_000)  # seconds, as MPEG counts
SOUND_RATE = 48_000  # samples a second; AAC does not have all that recordings have
ENCODER = {"preset": "veryfast", "crf": "20"}


@contextmanager
def video_copy(path: Path, source: Path, rate: float) -> Iterator[Callable[[float, np.ndarray], None]]:
    """What takes the frames of an .mp4, which is whole when the context is left; without frames there is none.

    It takes a frame's time in seconds, later than that of the frame before, and uint8 (H, W, 3) RGB, all of one size.

    Args:
        path: of the copy; its folder is made.
        source: the video whose sound it gets.
        rate: frames a second, about: every frame brings its time.

    Raises:
        InputError: the copy cannot be written.
        OSError: the disk is full. Either way what there was of the copy is removed.
    """
    copies: list[_Copy] = []  # one, from the first frame on

    def add(time: float, image: np.ndarray) -> None:
        if not copies:
            copies.append(_Copy(path, source, rate, image.shape[:2]))
        copies[0].add(time, image)

    try:
        try:
            yield add
        finally:  # what was seen before Ctrl-C can be played
            for copy in copies:
                copy.finish()
    except av.FFmpegError as error:
        for copy in copies:
            copy.remove()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another --out, or leave the copy out "
                         "with --no-pictures.") from None


def sound_of(path: Path) -> Generator[av.AudioFrame]:
    """The first sound track of a video, as far as it can be read and stays of one kind; time 0 is the first picture."""
    with suppress(av.FFmpegError), av.open(str(path)) as source:
        if not (source.streams.audio and source.streams.video):
            return
        picture, kind = source.streams.video[0], None
        start = float((picture.start_time or 0) * (picture.time_base or Fraction(0)))
        for frame in source.decode(audio=0):
            kind = kind or (frame.format.name, frame.layout.name, frame.sample_rate)
            if frame.time is None or (frame.format.name, frame.layout.name, frame.sample_rate) != kind:
                continue
            frame.pts = round((frame.time - start) * frame.sample_rate)
            frame.time_base = Fraction(1, frame.sample_rate)
            if frame.pts >= 0:
                yield frame


class _Copy:
    def __init__(self, path: Path, source: Path, rate: float, size: tuple[int, int]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.rate, self.end = path, Fraction(rate).limit_denominator(1001), 0.0
        self.container = av.open(str(path), "w", options={"movflags": "faststart"})
        self.picture = self.container.add_stream("libx264", rate=self.rate, options=ENCODER)
        self.picture.height, self.picture.width = (side - side % 2 for side in size)  # H.264 has even sides alone
        self.picture.pix_fmt, self.picture.codec_context.time_base = "yuv420p", TICK
        self.sound, self.track = sound_of(source), None
        self.heard = next(self.sound, None)
        if self.heard is not None:
            self.track = self.container.add_stream("aac", rate=SOUND_RATE)
        self.container.start_encoding()  # says whether the file can be written

    def add(self, time: float, image: np.ndarray) -> None:
        self.sound_until(time)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[: self.picture.height, : self.picture.width]))
        frame.pts, frame.time_base = round(time / TICK), TICK
        self.container.mux(self.picture.encode(frame))
        self.end = time + float(1 / self.rate)

    def sound_until(self, time: float) -> None:
        while self.track is not None and self.heard is not None and (self.heard.time or 0) < time:
            self.container.mux(self.track.encode(self.heard))
            self.heard = next(self.sound, None)

    def finish(self) -> None:
        self.sound_until(self.end)
        for stream in (self.picture, self.track):
            if stream is not None:
                self.container.mux(stream.encode(None))
        self.container.close()
        self.sound.close()

    def remove(self) -> None:
        with suppress(av.FFmpegError):
            self.container.close()
        self.path.unlink(missing_ok=True)
