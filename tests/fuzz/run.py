"""2,000 broken pictures, label files and checkpoints, each of which opens or ends in an InputError: `make fuzz`.

Hypothesis chooses what is broken and how, the same on every run. Another process opens the files: it may take 10 s and
1 GiB, and no code of a checkpoint may run there. Needs Linux or macOS.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import seeds
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from worker import work

SECONDS = 10
SHARES = {"picture": 0.5, "labels": 0.2, "checkpoint": 0.3}
NASTY = [b"\0", b"\xff", b"\n", b"\t", b",", b" -1", b"1e9", b"../", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"PK\x05\x06",
         b"cos\nsystem\n", b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"r\xff\xff\xff\x7f", b"R", b"b", b"\x81"]
# Hypothesis prefers small numbers; times an odd number they lie everywhere.
PLACE = st.integers(0, (1 << 20) - 1).map(lambda number: number * 2_654_435_761 % (1 << 20))
CHANGE = st.one_of(
    st.tuples(st.just("set"), PLACE, st.binary(min_size=1, max_size=4)),
    st.tuples(st.just("set"), PLACE, st.sampled_from(NASTY)),
    st.tuples(st.just("insert"), PLACE, st.sampled_from(NASTY)),
    st.tuples(st.just("cut"), PLACE, st.integers(1, 64)),
    st.tuples(st.just("end"), PLACE, st.none()),
    st.tuples(st.just("repeat"), PLACE, st.integers(1, 200)),
)


def broken(data: bytes, changes: list[tuple]) -> bytes:
    """`data` after the changes; places count in shares of its length."""
    for how, place, what in changes:
        at = int(len(data) * place / (1 << 20))
        if how == "set":
            data = data[:at] + what + data[at + len(what):]
        elif how == "insert":
            data = data[:at] + what + data[at:]
        elif how == "cut":
            data = data[:at] + data[at + what:]
        elif how == "end":
            data = data[:at]
        else:
            data = data[:at] + data[at:at + what] * 3 + data[at + what:]
    return data


class Opener:
    """The other process, started again where it died or hung."""

    def __init__(self) -> None:
        self.context = multiprocessing.get_context("spawn")
        self.start()

    def start(self) -> None:
        self.channel, theirs = self.context.Pipe()
        self.process = self.context.Process(target=work, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        assert self.channel.recv() == "ready"

    def open(self, kind: str, path: Path) -> str:
        """What became of one file."""
        self.channel.send((kind, str(path)))
        if self.channel.poll(SECONDS):
            try:
                return self.channel.recv()
            except EOFError:
                answer = f"the process died ({self.process.exitcode})"
        else:
            answer = f"took more than {SECONDS} s"
        self.process.kill()
        self.process.join()
        self.start()
        return answer


def fuzz(count: int, kept: Path) -> Counter[str]:
    """Open `count` broken files; how many ended how. Those that failed are left in `kept`."""
    opener, ends = Opener(), Counter()
    folder = Path.cwd()
    sources = {"picture": seeds.picture_seeds(), "labels": seeds.label_seeds(),
               "checkpoint": seeds.checkpoint_seeds(folder)}

    def file_of(kind: str, name: str, data: bytes, changes: list[tuple], inside: bool) -> tuple[Path, Path]:
        """The broken file, and what is opened."""
        content = seeds.pickle_inside(data) if kind == "checkpoint" and inside else None
        made = broken(data, changes) if content is None else seeds.with_pickle(data, broken(content, changes))
        path = folder / kind / (name if kind != "picture" else f"face.{name}")
        if kind == "labels":
            shutil.rmtree(folder / kind, ignore_errors=True)
            for place, content in seeds.BESIDE.get(name, {}).items():
                (folder / kind / place).parent.mkdir(parents=True, exist_ok=True)
                (folder / kind / place).write_bytes(content)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made)
        return path, folder / kind if kind == "labels" else path

    def break_files(kind: str, share: float) -> None:
        names = sorted(sources[kind])

        @settings(max_examples=round(count * share), database=None, derandomize=True, deadline=None,
                  phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(st.sampled_from(names), st.lists(CHANGE, min_size=1, max_size=3), st.booleans())
        def one(name: str, changes: list[tuple], inside: bool) -> None:
            path, opened = file_of(kind, name, sources[kind][name], changes, inside)
            answer = opener.open(kind, opened)
            ends[f"{kind} {answer}" if answer in ("opened", "refused") else "failed"] += 1
            if answer not in ("opened", "refused"):
                kept.mkdir(parents=True, exist_ok=True)
                copy = kept / f"{ends['failed']:03d}-{path.name}"
                shutil.copy(path, copy)
                print(f"{kind} {copy}: {answer[:300]}", flush=True)

        one()

    for kind in SHARES:  # whole files open, so that what is tried is not refused for another reason
        for name, data in sources[kind].items():
            answer = opener.open(kind, file_of(kind, name, data, [], False)[1])
            assert answer == ("refused" if "code" in name or "bare" in name else "opened"), (name, answer)
    for kind, share in SHARES.items():
        break_files(kind, share)
    opener.channel.send(None)
    return ends


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    count, kept = parser.parse_args().count, Path("runs/fuzz").resolve()
    start = time.monotonic()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        ends = fuzz(count, kept)
        os.chdir("/")
    print(f"{sum(ends.values())} broken files in {time.monotonic() - start:.0f} s:")
    print("\n".join(f"  {number:5} {end}" for end, number in sorted(ends.items())))
    sys.exit(1 if ends["failed"] else 0)


if __name__ == "__main__":
    main()
