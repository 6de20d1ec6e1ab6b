"""Pickles of plain data, interpreted by a machine of our own: it builds containers, text, numbers and arrays only.

`pickle.Unpickler` with a restricted `find_class` is not enough: numpy's dtype and ndarray accept any forged state and
then read memory that they do not own. Here no class of the file's choice is ever called. numpy's constructors are
recognised by name, and an array is made of its shape, a dtype out of a fixed list and bytes of the length that both
demand. The work is bounded by the file's size and `OPCODES`.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from adaclip.files import read_bytes
from adaqf_train.errors import DataError

OPCODES = 400_000  # of one file; MDM writes about four for each text
LARGEST = 1 << 30  # bytes of one file
LONGEST = 1 << 40  # an axis of an array
NUMBERS = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
TEXT = re.compile(r"[<>|=]?U(\d{1,6})")
Plain = Any  # None, bool, int, float, str, bytes, list, tuple, dict or np.ndarray of these


class _NotPlain(ValueError):
    """The content of a pickle is damaged, or more than plain data."""


@dataclass(frozen=True)
class _Named:
    """A class or function that the file refers to."""

    name: str


@dataclass
class _DType:
    """A dtype under construction; its state may only choose the order of its bytes."""

    code: str

    def build(self, state: Plain) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise _NotPlain("a dtype has a forged state")
        if state[2:5] != (None, None, None)[: len(state[2:5])]:
            raise _NotPlain("a dtype has fields")
        self.code = state[1] + self.code


@dataclass
class _Array:
    """An array under construction: `_reconstruct` leaves it empty, and its state gives shape, dtype and content."""

    value: Plain = None

    def build(self, state: Plain) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _DType):
            raise _NotPlain("an array has a forged state")
        _, shape, dtype, fortran, content = state
        self.value = _array(shape, dtype.code, content, "F" if fortran else "C")

    @staticmethod
    def size(state: Plain) -> int:
        """Bytes of content in a state."""
        return len(state[4]) if isinstance(state, tuple) and len(state) == 5 and hasattr(state[4], "__len__") else 0


def _array(shape: Plain, code: str, content: Plain, order: str = "C") -> Plain:
    """An array of numbers; of text and objects, a flat list, or the only item for shape ()."""
    if not isinstance(shape, tuple) or len(shape) > 32 or not all(_is_count(size) for size in shape):
        raise _NotPlain("an array has no valid shape")
    count = math.prod(shape)
    if code.lstrip("<>|=") in ("O", "O8", "O4"):
        if not isinstance(content, list) or len(content) != count or len(shape) > 1:
            raise _NotPlain(f"an array of {count} objects has another number of them")
        return content[0] if shape == () else content
    if isinstance(content, str):  # protocol 2 of Python 2
        content = content.encode("latin-1")
    if not isinstance(content, bytes | bytearray):
        raise _NotPlain("an array has no bytes")
    if NUMBERS.fullmatch(code):
        dtype = np.dtype(code)
        if len(content) != count * dtype.itemsize:
            raise _NotPlain(f"an array of shape {shape} and dtype {dtype} has {len(content)} bytes")
        return np.frombuffer(content, dtype).reshape(shape, order=order)
    if width := TEXT.fullmatch(code):
        size, big = 4 * int(width[1]), code.startswith(">")
        if len(content) != count * size or len(shape) > 1 or not size:
            raise _NotPlain(f"an array of {count} texts has {len(content)} bytes")
        cells = [content[start : start + size] for start in range(0, len(content), size)]
        texts = [str(cell, "utf-32-be" if big else "utf-32-le").rstrip("\0") for cell in cells]
        return texts[0] if shape == () else texts
    raise _NotPlain(f"an array has the dtype {code[:20]!r}")


def _is_count(value: Plain) -> bool:
    return type(value) is int and 0 <= value < LONGEST


def _dtype(code: Plain, *_: Plain) -> _DType:
    if not isinstance(code, str):
        raise _NotPlain("a dtype has no name")
    return _DType(code)


def _scalar(dtype: Plain, content: Plain) -> Plain:
    if not isinstance(dtype, _DType):
        raise _NotPlain("a number has no dtype")
    value = _array((), dtype.code, content)
    return value.item() if isinstance(value, np.ndarray) else value


def _encoded(text: Plain, encoding: Plain = "latin1") -> bytes:
    """Bytes in pickles of protocol 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _NotPlain("bytes have an unknown encoding")
    return text.encode("latin-1")


def _frombuffer(content: Plain, dtype: Plain, shape: Plain, order: Plain) -> Plain:
    """An array in pickles of protocol 5."""
    if not isinstance(dtype, _DType) or order not in ("C", "F"):
        raise _NotPlain("an array has no dtype")
    return _array(shape, dtype.code, content, order)


# What a pickled array of arrays, numbers and strings calls, by numpy's names before and since version 2.
CALLS: dict[str, Callable[..., Plain]] = {
    "numpy.dtype": _dtype,
    "_codecs.encode": _encoded,
    "__builtin__.bytes": lambda: b"",
    **{f"numpy.{core}.multiarray._reconstruct": lambda *_: _Array() for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _frombuffer for core in ("core", "_core")},
}
ARGUMENTS = {"numpy.ndarray"}  # named as an argument, never called


class _Machine:
    """The stack, marks and memo of pickle's format (`pickletools` documents each opcode)."""

    def __init__(self, size: int) -> None:
        """size: bytes of the file, which bound the bytes that arrays are built of."""
        self.stack: list[Plain] = []
        self.marks: list[int] = []
        self.memo: dict[int, Plain] = {}
        self.left = 4 * size  # old protocols convert content twice

    def run(self, file: io.BytesIO) -> Plain:
        """The object that a pickle describes; _NotPlain if it is damaged or more than plain data."""
        for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if number >= OPCODES:
                raise _NotPlain(f"it has more than {OPCODES:,} operations")
            if opcode.name == "STOP":
                return _finished(self.pop())
            self.step(opcode.name, argument)
        raise _NotPlain("it has no end")

    def step(self, name: str, argument: Plain) -> None:
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _VALUES:
            self.stack.append(argument)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self.stack.append(tuple(self.pop() for _ in range(int(name[-1])))[::-1])
        elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "GLOBAL":
            self.stack.append(_named(argument.replace(" ", ".", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = self.pop(), self.pop()
            self.stack.append(_named(f"{module}.{attribute}" if isinstance(module, str) else "?"))
        elif (act := getattr(self, f"do_{name.lower()}", None)) is not None:
            act()
        elif name not in ("PROTO", "FRAME"):
            raise _NotPlain(f"it needs {name}, which is not plain data")

    def pop(self) -> Plain:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise _NotPlain("an operation has nothing to work on")
        return self.stack.pop()

    def top(self, kind: type) -> Plain:
        if not self.stack or type(self.stack[-1]) is not kind:
            raise _NotPlain(f"an operation expects a {kind.__name__}")
        return self.stack[-1]

    def since_mark(self) -> list[Plain]:
        if not self.marks:
            raise _NotPlain("a mark is missing")
        start = self.marks.pop()
        items, self.stack[start:] = self.stack[start:], []
        return items

    def spend(self, size: int) -> None:
        """Refuse content that is named again and again, so that a small file fills the memory."""
        self.left -= size
        if self.left < 0:
            raise _NotPlain("it uses the same content several times")

    def do_mark(self) -> None:
        self.marks.append(len(self.stack))

    do_pop, do_pop_mark = pop, since_mark

    def do_dup(self) -> None:
        self.stack.append(self.stack[-1])

    def do_tuple(self) -> None:
        self.stack.append(tuple(self.since_mark()))

    def do_list(self) -> None:
        self.stack.append(self.since_mark())

    def do_dict(self) -> None:
        items, made = self.since_mark(), {}
        _fill(made, items)
        self.stack.append(made)

    def do_append(self) -> None:
        item = self.pop()
        self.top(list).append(item)

    def do_appends(self) -> None:
        items = self.since_mark()
        self.top(list).extend(items)

    def do_setitem(self) -> None:
        value, key = self.pop(), self.pop()
        _fill(self.top(dict), [key, value])

    def do_setitems(self) -> None:
        items = self.since_mark()
        _fill(self.top(dict), items)

    def do_reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        name = function.name if isinstance(function, _Named) else "?"
        if name not in CALLS or not isinstance(arguments, tuple):
            raise _NotPlain(f"it calls {name}, which is not data")
        self.spend(sum(len(each) for each in arguments if isinstance(each, str | bytes | bytearray)))
        self.stack.append(CALLS[name](*(_finished(argument, deep=False) for argument in arguments)))

    def do_build(self) -> None:
        state = self.pop()
        if not self.stack or not isinstance(self.stack[-1], _DType | _Array):
            raise _NotPlain("it gives a state to plain data")
        self.spend(_Array.size(state))
        self.stack[-1].build(state)


_CONSTANTS: dict[str, Callable[[], Plain]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
_VALUES = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"} | {
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}


def _named(name: str) -> _Named:
    if name not in CALLS and name not in ARGUMENTS:
        raise _NotPlain(f"it refers to {name[:80]}, which is not data")
    return _Named(name)


def _fill(target: dict, items: list[Plain]) -> None:
    """Keys are text or numbers: the hash of a nested tuple can take for ever."""
    if len(items) % 2 or not all(isinstance(key, str | int | float | bytes) for key in items[::2]):
        raise _NotPlain("a table has keys that are neither text nor numbers")
    target.update(zip(items[::2], items[1::2], strict=True))


def _finished(value: Plain, *, deep: bool = True) -> Plain:
    """A value with the arrays that it contains instead of their constructions, each container visited once."""
    if isinstance(value, _Array):
        value = value.value
    if not deep:
        return value
    pending, seen = [value], set()
    while pending:
        held = pending.pop()
        if not isinstance(held, list | dict) or id(held) in seen:
            if isinstance(held, _DType | _Named):
                raise _NotPlain("it holds a type instead of data")
            continue
        seen.add(id(held))
        for key, item in list(held.items() if isinstance(held, dict) else enumerate(held)):
            held[key] = item.value if isinstance(item, _Array) else item
            pending.append(held[key])
    return value


def read_pickle(path: Path, what: str, remedy: str) -> Plain:
    """Read a pickle of plain data; DataError, with `what` was expected and the remedy, for any other file."""
    return _guarded(path, what, remedy, lambda content: _Machine(len(content)).run(io.BytesIO(content)))


def read_object_array(path: Path, what: str, remedy: str) -> Plain:
    """Read the only object of an object array's .npy file, which numpy.load would unpickle without restrictions."""
    return _guarded(path, what, remedy, _only_object)


def _guarded(path: Path, what: str, remedy: str, read: Callable[[bytes], Plain]) -> Plain:
    try:
        return read(read_bytes(path, LARGEST, DataError))
    except FileNotFoundError:
        raise DataError(f"{path}: missing. {remedy}") from None
    except DataError:
        raise
    except (ValueError, KeyError, IndexError, TypeError, EOFError, OverflowError, SyntaxError, TokenError) as error:
        raise DataError(f"{path}: not {what} ({_short(error)}). {remedy}") from error
    except (MemoryError, RecursionError) as error:
        raise DataError(f"{path}: not {what} (too large or too deep). {remedy}") from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _only_object(content: bytes) -> Plain:
    """The only object in the content of a .npy file."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    _, _, dtype = read_header[version](file)
    if dtype != np.dtype(object):
        raise _NotPlain("it holds numbers, without texts and lengths")
    return _Machine(len(content)).run(file)
