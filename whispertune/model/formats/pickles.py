"""Files of torch.save, read without unpickling: `.pt`, `pytorch_model.bin`, `adapter_model.bin`.

    found = read_pickle(Path("large-v3.pt"))["dims"]          # dicts, lists, texts, numbers; tensors are Stored
    state = read_tensors(Path("pytorch_model.bin"))           # of a file of names and tensors alone
    state["proj_out.weight"].tensor()                         # a view of the file

Such a file is a zip archive: a pickle that lists the tensors, and the bytes of each as they are. A pickle is a program:
what torch.load(weights_only=True) lets it do runs no code, but takes memory as it likes, and believes sizes. To list
tensors takes thirty instructions, and no call that has an effect; those are followed here, any other is refused.
Sizes and places are held against the file, and its checksums are right, before anything is made of them.
"""

from __future__ import annotations

import math
import pickletools
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from whispertune.errors import ModelError

if TYPE_CHECKING:
    import torch

ARCHIVE, BARE = b"PK", b"\x80"  # what files begin with: those of torch since 1.6, and before
LIST: Final = "/data.pkl"
LOCAL_BYTES: Final = 30  # of a record's own header, before its name
LARGEST_LIST_BYTES: Final = 1 << 20  # one of the tensors of large-v3 takes about 250 kB
MOST_AXES: Final = 8
SHARED: Final = 2  # times the file that its tensors may have together: tied weights are listed twice

STORAGES: Final = {"torch HalfStorage": "<f2", "torch FloatStorage": "<f4", "torch BFloat16Storage": "<u2"}
BFLOAT16: Final = "<u2"  # numpy has no such type
CALLED: Final = ("collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter")


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor as it lies in a file."""

    file: np.memmap = field(repr=False, compare=False)
    place: int  # byte at which it begins
    kind: str  # numpy's name of its numbers
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in numbers

    def array(self) -> np.ndarray:
        """A view of the file; of bfloat16 a copy in float32."""
        view = self._view()
        if self.kind != BFLOAT16:
            return view
        wide = view.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)

    def tensor(self) -> torch.Tensor:
        """A view of the file."""
        import torch

        tensor = torch.from_numpy(self._view())
        return tensor.view(torch.bfloat16) if self.kind == BFLOAT16 else tensor

    def _view(self) -> np.ndarray:
        bytes_ = np.dtype(self.kind).itemsize
        return np.ndarray(self.shape, self.kind, self.file, self.place, [bytes_ * each for each in self.strides])


def read_tensors(path: Path) -> dict[str, Stored]:
    """The tensors of a file that has nothing else.

    Raises:
        ModelError: it is damaged, or holds other things than tensors by name.
    """
    found = read_pickle(path)
    if not isinstance(found, dict) or not all(isinstance(each, Stored) for each in found.values()):
        raise _unreadable("it holds other things than tensors", path)
    check_shared(found.values(), path)
    return {str(name): each for name, each in found.items()}


def check_shared(tensors: Collection[Stored], path: Path) -> None:
    """Raise ModelError where tensors that share what they are views of are together far more than their file."""
    together = sum(math.prod(each.shape) * np.dtype(each.kind).itemsize for each in tensors)
    if together > SHARED * path.stat().st_size:
        raise _unreadable(f"{together} bytes of tensors in a file of {path.stat().st_size}", path)


def read_pickle(path: Path) -> Any:
    """What torch.save was given, as far as it is dicts, lists, tuples, texts, numbers and tensors of floats.

    Raises:
        ModelError: it is damaged, lists what it does not hold, or wants something made that weights are not.
    """
    try:
        content, records = _opened(path)
        return _Machine(np.memmap(path, np.uint8, mode="c"), records).followed(content)
    except _OlderFile as error:
        fix = f"save it again with a newer torch: torch.save(torch.load({path.name!r}, weights_only=True), 'new')"
        raise _unreadable(str(error), path, fix) from error
    except Exception as error:  # what reads damaged archives and pickles raises whatever Python has
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise _unreadable(reason[0], path) from error


class _OlderFile(ValueError):
    """A pickle that is in no archive."""


@dataclass(frozen=True, slots=True)
class _Record:
    """The bytes of one storage."""

    place: int
    size: int


def _opened(path: Path) -> tuple[bytes, Mapping[str, _Record]]:
    """The list of an archive, and where its storages lie, by their keys; its checksums are right."""
    with path.open("rb") as file:
        begin = file.read(2)
    if begin[:1] == BARE:
        raise _OlderFile("a bare pickle, as torch wrote before 1.6, is not read here")
    if begin != ARCHIVE:
        raise BadZipFile("it is no archive that torch has saved")
    with ZipFile(path) as archive:
        infos = _checked(archive, path.stat().st_size)
        (listed,) = [name for name in infos if name.endswith(LIST)]
        content, root = archive.read(listed), listed.removesuffix(LIST)
        order = infos.get(f"{root}/byteorder")
        if order and archive.read(order) != b"little":
            raise ValueError("its numbers have their highest byte first")
    storages = f"{root}/data/"
    stored = {name.removeprefix(storages): info for name, info in infos.items() if name.startswith(storages)}
    with path.open("rb") as file:
        return content, {key: _Record(_place(file, info), info.file_size) for key, info in stored.items()}


def _place(file: BinaryIO, info: ZipInfo) -> int:
    """Where the bytes of a record begin: behind its header, its name and what aligns it."""
    file.seek(info.header_offset)
    name, more = struct.unpack("<26x2H", file.read(LOCAL_BYTES))
    return info.header_offset + LOCAL_BYTES + int(name) + int(more)


def _checked(archive: ZipFile, file_bytes: int) -> dict[str, ZipInfo]:
    """The records of an archive by their names."""
    infos = {each.filename: each for each in archive.infolist()}
    if len(infos) < len(archive.infolist()):
        raise ValueError("it has two records of one name")
    if any(each.compress_type != ZIP_STORED or each.compress_size != each.file_size for each in infos.values()):
        raise ValueError("its records are compressed")  # torch writes none so
    if sum(each.file_size for each in infos.values()) > file_bytes:
        raise ValueError("its records are larger than the file")
    lists = [each for name, each in infos.items() if name.endswith(LIST)]
    if len(lists) != 1 or lists[0].file_size > LARGEST_LIST_BYTES:
        raise ValueError("it is no archive that torch has saved")
    if (broken := archive.testzip()) is not None:
        raise ValueError(f"the checksum of {broken} is wrong")
    return infos


# --- the pickle -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Name:
    """A function or a class that a pickle names."""

    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    """What one or more tensors are views of."""

    record: _Record
    kind: str
    count: int  # numbers


class _Machine:
    """Follows a pickle; nothing is copied on the way, so that what is made is no larger than what was read."""

    def __init__(self, file: np.memmap, records: Mapping[str, _Record]) -> None:
        self.file, self.records = file, records
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def followed(self, content: bytes) -> Any:
        """What is left at the end."""
        for instruction, argument, _ in pickletools.genops(content):  # reads, runs nothing
            if instruction.name == "STOP":
                break
            step = STEPS.get(instruction.name)
            if step is None:
                raise ValueError(f"its pickle has the instruction {instruction.name}, which no list of tensors needs")
            step(self, argument)
        (found,) = self.stack
        return found

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def marked(self) -> list[Any]:
        """What was pushed since the last mark, taken from the stack."""
        begin = self.marks.pop()
        found = self.stack[begin:]
        del self.stack[begin:]
        return found

    def last(self, count: int) -> list[Any]:
        """So many values, taken from the stack."""
        if count > len(self.stack):
            raise ValueError("its pickle takes what it has not put there")
        found = self.stack[-count:]
        del self.stack[-count:]
        return found

    def top(self, kind: type) -> Any:
        """The last value, left where it is."""
        if type(self.stack[-1]) is not kind:
            raise ValueError("its pickle puts values into what does not hold any")
        return self.stack[-1]

    def put(self, number: int) -> None:
        self.memo[number] = self.stack[-1]

    def get(self, number: int) -> None:
        self.push(self.memo[number])

    def append(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def set(self, values: list[Any]) -> None:
        names = values[::2]
        if not all(type(each) in (str, int) for each in names):
            raise ValueError("it names values by other things than texts and numbers")
        self.top(dict).update(zip(names, values[1::2], strict=True))

    def name(self, name: str) -> None:
        if name not in STORAGES and name not in CALLED:
            raise ValueError(f"its pickle wants {name.replace(' ', '.')}, which no list of tensors needs")
        self.push(_Name(name))

    def state(self, _: Any) -> None:
        """What a state dict says of the modules that it is of."""
        self.last(1)
        self.top(dict)

    def storage(self, _: Any) -> None:
        ((what, kind, key, _where, count),) = self.last(1)
        numbers = STORAGES[kind.name]
        if what != "storage" or key not in self.records or type(count) is not int:
            raise ValueError("it lists a storage that it does not hold")
        record = self.records[key]
        if count * np.dtype(numbers).itemsize != record.size:
            raise ValueError("it lists tensors of other sizes than it holds")
        self.push(_Storage(record, numbers, count))

    def call(self, _: Any) -> None:
        function, arguments = self.last(2)
        if function == _Name(CALLED[0]) and arguments == ():
            self.push({})
        elif function == _Name(CALLED[1]):
            self.push(self.tensor(*arguments[:4]))
        elif function == _Name(CALLED[2]) and isinstance(arguments[0], Stored):
            self.push(arguments[0])
        else:
            raise ValueError("its pickle calls what no list of tensors needs")

    def tensor(self, storage: Any, offset: Any, shape: Any, strides: Any) -> Stored:
        """Within its storage, every number of it another one."""
        numbers = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or any(type(each) is not int or each < 0 for each in numbers):
            raise ValueError("it lists a tensor that is none")
        if len(shape) != len(strides) or len(shape) > MOST_AXES:
            raise ValueError(f"it lists a tensor of {len(shape)} dimensions")
        count, size = math.prod(shape), np.dtype(storage.kind).itemsize
        last = offset + sum((side - 1) * step for side, step in zip(shape, strides, strict=True))
        if not count or last >= storage.count:
            raise ValueError("it lists tensors of other sizes than it holds")
        if _overlap(shape, strides):
            raise ValueError("it lists a tensor larger than what it holds of it")
        steps = tuple(step if side > 1 else 0 for side, step in zip(shape, strides, strict=True))
        return Stored(self.file, storage.record.place + offset * size, storage.kind, tuple(shape), steps)


def _overlap(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether two numbers of a tensor lie in one place, as steps of 0 would have it."""
    reach = 0  # of the axes with smaller steps
    for step, side in sorted(zip(strides, shape, strict=True)):
        if side > 1 and step <= reach:
            return True
        reach += step * (side - 1)
    return False


Step = Callable[[_Machine, Any], None]

STEPS: Final[dict[str, Step]] = {
    "PROTO": lambda machine, _: None,
    "MARK": _Machine.mark,
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"), _Machine.push),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.marked())),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.last(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.last(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.last(3))),
    "APPEND": lambda machine, _: machine.append(machine.last(1)),
    "APPENDS": lambda machine, _: machine.append(machine.marked()),
    "SETITEM": lambda machine, _: machine.set(machine.last(2)),
    "SETITEMS": lambda machine, _: machine.set(machine.marked()),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.get),
    "GLOBAL": _Machine.name,
    "BINPERSID": _Machine.storage,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.state,
}


def _unreadable(reason: str, path: Path, fix: str = "download or save it again") -> ModelError:
    return ModelError(f"not a readable file of PyTorch ({reason})", where=str(path), fix=fix)
