"""Published files with all that training scripts save beside their tensors, and with all that must not run."""

import argparse
import builtins
import collections
import datetime
import decimal
import enum
import functools
import importlib
import io
import operator
import os
import pathlib
import pickle
import pickletools
import runpy
import subprocess
import types
import zipfile
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from poster_ada.checkpoints.pickles import BrokenPickle, CodeError, Record, read_pickle
from poster_ada.checkpoints.published import read_published_tensors
from poster_ada.errors import InputError

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3).T, "a.bias": torch.ones(3, dtype=torch.bfloat16),
         "a.num": torch.tensor(7)}


class Stage(enum.Enum):
    WARM = "warm"


@dataclass
class Options:
    lr: float
    stages: list


class Calls:
    """Unpickled, it would call `function(*args)`."""

    def __init__(self, function, *args):
        self.what = function, args

    def __reduce__(self):
        return self.what


class Way(enum.Flag):
    FLIP = enum.auto()
    TURN = enum.auto()


Point = collections.namedtuple("Point", "x y")


class Config(dict):
    """Like EasyDict: a dict with a class and attributes."""


def config():
    made = Config(lr=1e-4)
    made.name = "poster"
    return made


DATA = {
    **{f"np.{name}": getattr(np, name)(1) for name in (
        "float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool_", "complex64", "str_")},
    "array": np.arange(4.0), "structured": np.zeros(2, [("a", "f4"), ("b", "i8")]),
    "dates": np.array(["2020-01-01"], "M8[D]"),
    "namespace": argparse.Namespace(lr=4e-5, data=pathlib.Path("data/raf"), kind=int, gpu=[0, 1], note=None),
    "simple": types.SimpleNamespace(a=1), "ordered": collections.OrderedDict(a=[1.0]),
    "default": collections.defaultdict(list, loss=[0.5]), "counter": collections.Counter("abca"),
    "deque": collections.deque([1, 2], maxlen=3), "date": datetime.datetime(2023, 5, 1, tzinfo=datetime.UTC),
    "delta": datetime.timedelta(hours=3), "path": pathlib.Path("a") / "b", "decimal": decimal.Decimal("0.1"),
    "set": {1, 2}, "frozen": frozenset("ab"), "bytes": b"\x00\xff", "bytearray": bytearray(b"ab"), "complex": 1j,
    "range": range(3), "slice": slice(1, 2), "enum": Stage.WARM, "flags": Way.FLIP | Way.TURN,
    "enum of Python 3.11.2": Calls(getattr, Stage, "WARM"),
    "flags of Python 3.11.2": Calls(operator.or_, Calls(getattr, Way, "FLIP"), Calls(getattr, Way, "TURN")),
    "dataclass": Options(0.1, [Stage.WARM]), "named tuple": Point(1, 2),
    "subclass of dict": config(), "device": torch.device("cpu"), "dtype": torch.float16,
    "size": torch.Size([1, 2]), "table": pd.DataFrame({"loss": [0.1, 0.2], "when": ["a", "b"]}),
    "series": pd.Series([1, 2]), "random": np.random.RandomState(0), "generator": np.random.default_rng(0),
    "optimizer": torch.optim.Adam(nn.Linear(2, 2).parameters()).state_dict(), "long": 1 << 80, "negative": -5,
    "itself": None,
}
DATA["itself"] = [DATA["ordered"]]
DATA["itself"].append(DATA["itself"])


def same(tensors):
    return tensors.keys() == STATE.keys() and all(torch.equal(tensors[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", DATA)
def test_data_beside_the_tensors_never_stands_in_the_way(tmp_path, name, protocol):
    path = tmp_path / "c.pth"
    for legacy in (True, False):
        torch.save({"extra": DATA[name], "state_dict": STATE}, path, pickle_protocol=protocol,
                   _use_new_zipfile_serialization=not legacy)
        assert same(read_published_tensors(path)), legacy


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
@pytest.mark.parametrize("legacy", [True, False])
def test_numpy_scalars_go_by_the_names_of_numpy_1_and_2(tmp_path, core, legacy):
    path = tmp_path / "c.pth"
    torch.save({"acc": np.float64(0.92), "state_dict": STATE}, path, _use_new_zipfile_serialization=not legacy)
    rename = lambda data: data.replace(b"cnumpy._core.", b"c" + core + b".")  # noqa: E731
    if legacy:
        path.write_bytes(rename(path.read_bytes()))
    else:
        with zipfile.ZipFile(path) as old:
            members = {info.filename: old.read(info) for info in old.infolist()}
        with zipfile.ZipFile(path, "w") as new:
            for member, data in members.items():
                new.writestr(member, rename(data) if member.endswith("data.pkl") else data)
    assert same(read_published_tensors(path))


def acts(marker):
    """Everything here would create `marker` if it were unpickled in the ordinary way, or could."""
    line = f"open({str(marker)!r}, 'w')"
    return {
        "os.system": Calls(os.system, f"touch {marker}"), "os.mkdir": Calls(os.mkdir, str(marker)),
        "eval": Calls(eval, line), "exec": Calls(exec, line), "open": Calls(open, str(marker), "w"),
        "Popen": Calls(subprocess.Popen, ["touch", str(marker)]), "import": Calls(importlib.import_module, "this"),
        "__import__": Calls(builtins.__import__, "this"), "runpy": Calls(runpy.run_path, str(marker)),
        "getattr": Calls(getattr, pathlib.Path, "touch"), "getattr of a class": Calls(getattr, Stage, "__subclasses__"),
        "getattr of torch's": Calls(getattr, torch.nn.Module, "load_state_dict"),
        "getattr of a member": Calls(getattr, Calls(getattr, Stage, "WARM"), "value"),
        "getattr alone": Calls(getattr, Stage), "or": Calls(operator.or_, 1, 2),
        "partial": functools.partial(os.mkdir, str(marker)),
        "caller": operator.methodcaller("mkdir"), "touch": Calls(pathlib.Path.touch, pathlib.Path(marker)),
        "torch.load": Calls(torch.load, str(marker)), "hub": Calls(torch.hub.load, "a/b", "c"),
        "numpy.load": Calls(np.load, str(marker)), "read_pickle": Calls(pd.read_pickle, str(marker)),
        "nested": [Calls(collections.OrderedDict, [["a", Calls(os.mkdir, str(marker))]])],
        "in options": argparse.Namespace(hook=Calls(os.mkdir, str(marker))),
        "named only": {"hook": os.system}, "our own": Calls(read_pickle, io.BytesIO()),
        "hook": (torch._utils._rebuild_tensor_v2, Calls(os.mkdir, str(marker))),
    }


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("name", acts("x"))
def test_everything_that_could_run_is_refused_and_called_code(tmp_path, name, legacy, protocol):
    marker, path = tmp_path / "executed", tmp_path / "evil.pth"
    torch.save({"extra": acts(marker)[name], "state_dict": STATE}, path, pickle_protocol=protocol,
               _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InputError, match=r"evil\.pth holds code \("):
        read_published_tensors(path)
    assert not marker.exists()


def test_hooks_of_a_tensor_and_a_program_of_torchscript_are_refused(tmp_path):
    marker, path = tmp_path / "executed", tmp_path / "evil.pth"
    tensor = torch.ones(2, requires_grad=True)
    tensor._backward_hooks = collections.OrderedDict(a=Calls(os.mkdir, str(marker)))
    torch.save({"state_dict": STATE | {"w": torch._utils._rebuild_tensor_v2, "x": Calls(os.mkdir, str(marker))}}, path)
    with pytest.raises(InputError, match="holds code"):
        read_published_tensors(path)
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), path)
    with pytest.raises(InputError, match="holds code .a TorchScript program"):
        read_published_tensors(path)
    assert not marker.exists()


def test_a_whole_model_is_told_from_its_state_dict(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "c.pth")
    with pytest.raises(InputError, match="a whole model instead of its state dict"):
        read_published_tensors(tmp_path / "c.pth")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "module.module.",
                                    "module._orig_mod.module.", "model.", "net."])
@pytest.mark.parametrize("container", [(), ("model",), ("net",), ("state_dict",), ("model_state_dict",),
                                       ("checkpoint", "model"), ("state", "student", "state_dict")])
def test_containers_and_prefixes(tmp_path, container, prefix):
    content = {prefix + key: value for key, value in STATE.items()}
    for name in reversed(container):
        content = {"epoch": 3, name: content, "best": torch.tensor(0.9), "optimizer": DATA["optimizer"]}
    torch.save(content, tmp_path / "c.pth")
    assert same(read_published_tensors(tmp_path / "c.pth"))


@pytest.mark.parametrize("twin", ["ema", "model_ema", "state_dict_ema", "ema_state_dict", "averaged"])
def test_the_plain_model_is_preferred_to_its_average_and_said(tmp_path, capsys, twin):
    averaged = {key: value + 1 for key, value in STATE.items()} | {"n_averaged": torch.tensor(3)}
    torch.save({twin: averaged, "state_dict": STATE}, tmp_path / "c.pth")
    assert same(read_published_tensors(tmp_path / "c.pth"))
    assert f"holds averaged weights ({twin}) beside the plain ones (state_dict)" in capsys.readouterr().err
    torch.save({twin: {"module." + key: value for key, value in STATE.items()} | {"n_averaged": torch.tensor(3)}},
               tmp_path / "c.pth")
    assert same(read_published_tensors(tmp_path / "c.pth"))
    assert f"averaged weights alone ({twin})" in capsys.readouterr().err


def test_an_average_inside_one_state_dict_is_left(tmp_path, capsys):
    both = {"model." + key: value for key, value in STATE.items()} | {"ema_model." + key: value + 1
                                                                      for key, value in STATE.items()}
    torch.save({"state_dict": both}, tmp_path / "c.pth")
    assert same(read_published_tensors(tmp_path / "c.pth"))
    assert "the plain ones are taken" in capsys.readouterr().err
    torch.save(STATE | {"module." + key: value for key, value in STATE.items()}, tmp_path / "c.pth")
    with pytest.raises(InputError, match="twice, with and without a prefix"):
        read_published_tensors(tmp_path / "c.pth")


def test_a_claim_of_more_than_the_file_holds_takes_no_memory(tmp_path):
    path = tmp_path / "c.pth"
    torch.save({"w": torch.zeros(5)}, path, _use_new_zipfile_serialization=False)
    honest = path.read_bytes()
    for shape in (b"J\xff\xff\xff\x7f\x85", b"\x8a\x08" + b"\xff" * 7 + b"\x7f\x85"):
        path.write_bytes(honest.replace(b"K\x05\x85", shape, 1))
        with pytest.raises(InputError, match="cut short"):
            read_published_tensors(path)


def test_an_archive_that_unpacks_to_more_than_it_is_takes_no_memory(tmp_path):
    path = tmp_path / "c.pth"
    torch.save({"w": torch.zeros(1 << 20)}, path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "small.pth", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert (tmp_path / "small.pth").stat().st_size < 100_000
    with pytest.raises(InputError, match="not a PyTorch checkpoint"):
        read_published_tensors(tmp_path / "small.pth")


@pytest.mark.parametrize("build", [b"c__builtin__\nlist\nh\x00\x85R", b"c__builtin__\nlist\nh\x00R",
                                   b"c__builtin__\nobject\nh\x00\x81"])
def test_a_list_copied_without_end_takes_no_memory(build):
    count = 20_000
    bomb = b"\x80\x02](" + count * b"K\x01" + b"eq\x00(" + count * build + b"l."
    with pytest.raises(BrokenPickle, match="copy each other|without its arguments"):
        read_pickle(io.BytesIO(bomb))


def test_every_opcode_is_understood_or_refused():
    from poster_ada.checkpoints.pickles import _LITERALS, _OPERATIONS

    known = {opcode.name for opcode in pickletools.opcodes} - {"STOP", "NEXT_BUFFER", "READONLY_BUFFER"}
    assert known == _LITERALS.keys() | _OPERATIONS.keys()


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_what_was_pickled(protocol):
    value = {"a": [1, -2, 3.5, "é", b"x", None, True], ("b", 2): {"deep": (1, (2, 3, 4, 5))}, 1 << 70: []}
    if protocol < 3:  # bytes are a call of codecs.encode there
        value["a"].remove(b"x")
    assert read_pickle(io.BytesIO(pickle.dumps(value, protocol))) == value
    record = read_pickle(io.BytesIO(pickle.dumps(argparse.Namespace(lr=1), protocol)))
    assert isinstance(record, Record) and record.path == "argparse.Namespace" and record.state == {"lr": 1}
    with pytest.raises(CodeError, match=r"posix\.system|nt\.system"):
        read_pickle(io.BytesIO(pickle.dumps(os.system, protocol)))
    with pytest.raises(BrokenPickle):
        read_pickle(io.BytesIO(pickle.dumps(value, protocol)[:-3]))
