"""What a pickle says, without doing any of it: plain values as they are, everything else as inert records.

Unpickling calls whatever the file names. Here the opcodes are read one by one (`pickletools`), and where a pickle asks
for a call or an object, a record of the request is kept instead. There is nothing callable in this module's hands, so
nothing in a file can run, whatever it holds.

Data that training scripts save beside their tensors (options, numpy scalars, paths, dates, logs) stay records of their
class. What would act if it were unpickled is refused as code: a call of anything that is not known to build data, and
any name of Python's own modules that is not known to be data.
"""

from __future__ import annotations

import pickletools
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PYTHON_2_NAMES = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # as protocols 0 to 2 write them
MAPPINGS = {"collections.OrderedDict", "collections.Counter", "builtins.dict"}
CONTAINERS = MAPPINGS | {
    "collections.defaultdict", "collections.ChainMap", "collections.deque", "builtins.list", "builtins.tuple",
    "builtins.set", "builtins.frozenset",
}
DATA = CONTAINERS | {
    *(f"builtins.{name}" for name in ("bool", "bytearray", "bytes", "complex", "float", "int", "long", "object",
                                      "range", "slice", "str", "unicode", "xrange")),
    "_codecs.encode", "copyreg._reconstructor", "argparse.Namespace", "types.SimpleNamespace", "array.array",
    "array._array_reconstructor", "decimal.Decimal", "fractions.Fraction", "uuid.UUID", "time.struct_time",
    "re._compile", "zoneinfo.ZoneInfo._unpickle",
    *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
    *(f"pathlib{inner}.{flavour}Path" for inner in ("", "._local")
      for flavour in ("", "Posix", "Windows", "Pure", "PurePosix", "PureWindows")),
    *(f"numpy.{core}.{name}" for core in ("core", "_core")
      for name in ("multiarray.scalar", "multiarray._reconstruct", "numeric._frombuffer")),
    "numpy.dtype", "numpy.ndarray",
    "torch.Size", "torch.device", "torch.nn.parameter.Parameter", "torch.serialization._get_layout",
    "torch._tensor._rebuild_from_type_v2", "torch.storage.TypedStorage", "torch.storage.UntypedStorage",
    *(f"torch._utils._rebuild_{kind}" for kind in (
        "tensor", "tensor_v2", "tensor_v3", "parameter", "parameter_with_state", "qtensor", "sparse_tensor",
        "meta_tensor_no_storage", "device_tensor_from_numpy", "device_tensor_from_cpu_tensor")),
}
# How early Pythons 3.11 (3.11.2 for one) write members of an `Enum`, and unions of a `Flag`'s: as calls of these.
MEMBERS = {"builtins.getattr", "_operator.or_"}
# Tables and dates of pandas, as logs hold them, and what Cython's classes are rebuilt with.
LIBRARY_DATA = re.compile(r"pandas\.(?!io\.)([\w.]+\.)?([A-Z]\w*|_new_Index|_unpickle_\w+)"
                          r"|(pandas|numpy)\.[\w.]+\.(__pyx_unpickle_\w+|__\w+_ctor)")
MOST_COPIED = 10_000_000  # entries of containers that are made of others; logs of years have fewer


class CodeError(Exception):
    """The pickle asks for something that could act; the message is its name."""


class BrokenPickle(Exception):
    """Not a pickle, cut short, or of a form that no pickler writes."""


@dataclass(frozen=True)
class Name:
    """A class or function that the pickle names, never looked up."""

    path: str


@dataclass(eq=False)
class Record:
    """An object that the pickle describes: what builds it and of what, its contents, its state."""

    path: str
    args: tuple[Any, ...] = ()
    items: list[Any] = field(default_factory=list)
    entries: dict[Any, Any] = field(default_factory=dict)
    state: Any = None


def read_pickle(file: Any, persistent: Callable[[Any], Any] | None = None) -> Any:
    """The value of one pickle, of any protocol; `file` is left behind it.

    Args:
        file: with `read(size)` and `readline()`, in bytes; a size that the pickle claims should cost nothing there.
        persistent: makes a value of each persistent id; without it there may be none.

    Returns:
        Numbers, strings, lists, tuples and dicts (also for OrderedDict, defaultdict and Counter); sets as lists; a
        `Name` or a `Record` for everything else.

    Raises:
        CodeError: something in it could act.
        BrokenPickle: it cannot be read.
    """
    try:
        return _Machine(persistent).run(file)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, EOFError) as error:
        raise BrokenPickle(str(error)) from None


class _Machine:
    """The stack machine that a pickle is a program for; its calls build records."""

    def __init__(self, persistent: Callable[[Any], Any] | None) -> None:
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0

    def run(self, file: Any) -> Any:
        for opcode, arg, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                return self.stack.pop()
            if opcode.name in _LITERALS:
                self.stack.append(_LITERALS[opcode.name]() if arg is None else arg)
            else:
                _OPERATIONS[opcode.name](self, arg)
        raise BrokenPickle("it has no end")

    def above_mark(self) -> list[Any]:
        """Take what lies above the last mark."""
        mark = self.marks.pop()
        above = self.stack[mark:]
        del self.stack[mark:]
        return above

    def call(self, function: Any, args: Any) -> Any:
        """Keep a request to call `function`: only what is known to build data, or an enumeration, passes."""
        path = function.path
        if path in MEMBERS:
            return self.member(path, args)
        if path not in DATA and not LIBRARY_DATA.fullmatch(path) and not _like_an_enumeration(path, args):
            raise CodeError(path)
        if path == "copyreg._reconstructor":
            return self.record(args[0].path, ())
        return self.record(path, args)

    def member(self, path: str, args: Any) -> Record:
        """`getattr(Stage, "WARM")` or `or_(Flag.A, Flag.B)`; of anything but enumerations it could act."""
        match args:
            case (Name(kind), str(name)) if path.endswith("getattr") and name.isidentifier() and name[0] != "_":
                given = (name,)
            case (Record(kind), Record() | int()) if path.endswith("or_"):
                given = args
            case _:
                raise CodeError(path)
        if not _someones_class(kind):
            raise CodeError(path)
        return Record(kind, given)

    def record(self, path: str, args: Any) -> Any:
        """What stands for an object: real dicts and lists for Python's own containers, else a `Record`."""
        if not isinstance(args, tuple):
            raise BrokenPickle("a call without its arguments")
        if path not in CONTAINERS or path == "collections.ChainMap":
            return Record(path, args)
        if path == "collections.defaultdict":
            return {}
        content = args[0] if args else ()
        self.copied += len(content)
        if self.copied > MOST_COPIED:  # one list may be named a million times
            raise BrokenPickle("its containers copy each other")
        return dict(content) if path in MAPPINGS else list(content)

    def build(self, state: Any) -> None:
        """Keep the state of the object on top; that of a dict (OrderedDict's attributes) is no content."""
        if isinstance(self.stack[-1], Record):
            self.stack[-1].state = state
        elif not isinstance(self.stack[-1], dict):
            raise BrokenPickle("a state without its object")

    def extend(self, target: Any, items: list[Any]) -> None:
        (target.items if isinstance(target, Record) else target).extend(items)

    def update(self, target: Any, pairs: list[Any]) -> None:
        entries = target.entries if isinstance(target, Record) else target
        entries.update(zip(pairs[::2], pairs[1::2], strict=True))

    def name(self, module: str, name: str) -> None:
        path = f"{PYTHON_2_NAMES.get(module, module)}.{name}"
        if path.split(".")[0] in sys.stdlib_module_names and path not in DATA and path not in MEMBERS:
            raise CodeError(path)
        self.stack.append(Name(path))

    # One method for each family of opcodes, in the order of pickletools' documentation.

    def pop(self, _: Any) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def pop_mark(self, _: Any) -> None:
        self.above_mark()

    def append(self, _: Any) -> None:
        item = self.stack.pop()
        self.extend(self.stack[-1], [item])

    def appends(self, _: Any) -> None:
        items = self.above_mark()
        self.extend(self.stack[-1], items)

    def take_tuple(self, size: int) -> None:
        self.stack[len(self.stack) - size:] = [tuple(self.stack[len(self.stack) - size:])]

    def setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.update(self.stack[-1], [key, value])

    def setitems(self, _: Any) -> None:
        pairs = self.above_mark()
        self.update(self.stack[-1], pairs)

    def make_dict(self, _: Any) -> None:
        pairs = self.above_mark()
        self.stack.append(dict(zip(pairs[::2], pairs[1::2], strict=True)))

    def stack_name(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.name(module, name)

    def inst(self, arg: str) -> None:
        items = self.above_mark()
        self.name(*arg.split(" ", 1))
        self.stack.append(self.call(self.stack.pop(), tuple(items)))

    def obj(self, _: Any) -> None:
        function, *items = self.above_mark()
        self.stack.append(self.call(function, tuple(items)))

    def reduce(self, _: Any) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        self.stack.append(self.call(function, args))

    def newobj(self, _: Any) -> None:
        """An instance without a call of its class, as options and other plain classes are written."""
        args, kind = self.stack.pop(), self.stack.pop()
        self.stack.append(self.record(kind.path, args))

    def newobj_ex(self, _: Any) -> None:
        keywords, args, kind = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.stack.append(Record(kind.path, args, state=keywords))

    def persid(self, arg: Any) -> None:
        if self.persistent is None:
            raise BrokenPickle("it refers to something outside")
        self.stack.append(self.persistent(self.stack.pop() if arg is None else arg))

    def extension(self, _: Any) -> None:
        raise CodeError("an extension code")


def _like_an_enumeration(path: str, args: tuple[Any, ...]) -> bool:
    """`Stage("warm-up")`, as members of an `Enum` are written: a class of someone's own, one value."""
    return _someones_class(path) and len(args) == 1 and isinstance(args[0], str | int)


def _someones_class(path: str) -> bool:
    """Whether a name is of a class, by its capital, that is neither Python's own nor torch's or numpy's."""
    module, _, name = path.rpartition(".")
    return module.split(".")[0] not in {*sys.stdlib_module_names, "torch", "numpy"} and name[:1].isupper()


_LITERALS: dict[str, Callable[[], Any]] = {
    **dict.fromkeys((
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
        "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
        "BINBYTES8", "BYTEARRAY8", "NONE"), lambda: None),
    "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list,
}


def _remember(machine: _Machine, place: int) -> None:
    machine.memo[place] = machine.stack[-1]


def _recall(machine: _Machine, place: int) -> None:
    machine.stack.append(machine.memo[place])


_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, arg: None),
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "POP": _Machine.pop, "POP_MARK": _Machine.pop_mark,
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    "APPEND": _Machine.append, **dict.fromkeys(("APPENDS", "ADDITEMS"), _Machine.appends),
    **dict.fromkeys(("LIST", "FROZENSET"), lambda machine, _: machine.stack.append(machine.above_mark())),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.above_mark())),
    "TUPLE1": lambda machine, _: machine.take_tuple(1), "TUPLE2": lambda machine, _: machine.take_tuple(2),
    "TUPLE3": lambda machine, _: machine.take_tuple(3),
    "DICT": _Machine.make_dict, "SETITEM": _Machine.setitem, "SETITEMS": _Machine.setitems,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _remember),
    "MEMOIZE": lambda machine, _: _remember(machine, len(machine.memo)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _recall),
    "GLOBAL": lambda machine, arg: machine.name(*arg.split(" ", 1)), "STACK_GLOBAL": _Machine.stack_name,
    "INST": _Machine.inst, "OBJ": _Machine.obj, "REDUCE": _Machine.reduce, "NEWOBJ": _Machine.newobj,
    "NEWOBJ_EX": _Machine.newobj_ex, "BUILD": lambda machine, _: machine.build(machine.stack.pop()),
    **dict.fromkeys(("PERSID", "BINPERSID"), _Machine.persid),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), _Machine.extension),
}
