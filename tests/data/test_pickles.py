"""The reader of pickles: plain data come back, and nothing in a file chooses a class, a pointer or a gigabyte."""

from __future__ import annotations

import io
import os
import pickle
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from adaqf_train.data.mdm_results import read_results
from adaqf_train.data.pickles import read_pickle
from adaqf_train.errors import DataError


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def results(path: Path, **changes: object) -> Path:
    content = {"motion": np.zeros((2, 22, 3, 9), np.float32), "text": ["a", "b"], "lengths": np.array([9, 5])}
    np.save(path, content | changes)
    return path


def npy(path: Path, body: bytes) -> Path:
    """An array of one object whose pickle is `body`."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    return written(path, file.getvalue() + body)


@pytest.mark.parametrize("protocol", range(6))
def test_read_pickle_returns_plain_data(tmp_path, protocol):
    array = np.arange(12, dtype=">i4").reshape(3, 4)
    data = {
        "list": [1, -2, 3.5, None, True, 2**70],
        "text": "grüße",
        "bytes": b"\x00\xff",
        "tuple": (1, (2,)),
        3: np.float64(0.5),
        "arrays": [array, np.asfortranarray(array.astype("f8")), np.array(["a", "längs"]), np.zeros(0, bool)],
    }
    path = written(tmp_path / "data.pkl", pickle.dumps(data, protocol=protocol))
    found = read_pickle(path, "data", "Write it again.")
    assert {key: found[key] for key in ("list", "text", "bytes", "tuple", 3)} == {
        key: data[key] for key in ("list", "text", "bytes", "tuple", 3)
    }
    for made, expected in zip(found["arrays"], data["arrays"], strict=True):
        np.testing.assert_array_equal(made, expected)


def test_read_results_returns_what_mdm_saves(tmp_path):
    motion = np.random.default_rng(0).normal(size=(2, 22, 3, 9)).astype(np.float32)
    found = read_results(results(tmp_path / "results.npy", motion=motion, num_samples=2))
    assert [(len(joints), text) for _, text, joints in found] == [(9, "a"), (5, "b")]
    for one, whole in zip(found, motion, strict=True):
        np.testing.assert_array_equal(one.joints, np.moveaxis(whole, -1, 0)[: len(one.joints)])


class Calls:
    def __reduce__(self):
        return print, ("called",)


class ForgedDtype:
    """dtype's BUILD with fields of a file's choice, the way to a pointer of its choice."""

    def __init__(self, state: object) -> None:
        self.state = state

    def __reduce__(self):
        return np.dtype, ("V8", False, True), self.state


def forged_array(shape: object, dtype: object, content: object) -> bytes:
    """The pickle of an array with any state."""
    body = pickle.dumps((1, shape, dtype, False, content), protocol=4)[2:-1]
    return b"\x80\x04cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\n(I0\ntC\x01b\x87R" + body + b"b."


FLOAT, OBJECT = np.dtype("f4"), np.dtype("O")
HOSTILE = {
    "call": pickle.dumps(Calls()),
    "forged dtype": pickle.dumps(ForgedDtype((3, "|", None, ("a",), {"a": (FLOAT, 1 << 40)}, 8, 1, 0))),
    "forged dtype with objects": pickle.dumps(ForgedDtype((3, "|", (OBJECT, (1 << 40,)), None, None, 8, 1, 63))),
    "array of pointers": forged_array((2,), OBJECT, b"\x41" * 16),
    "array beyond its bytes": forged_array((1 << 30,), FLOAT, b"1234"),
    "negative shape": forged_array((-1,), FLOAT, b"1234"),
    "product overflows": forged_array((1 << 33, 1 << 33, 0, 1 << 33), FLOAT, b"1234"),
    "state is no tuple": b"\x80\x04cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\n(I0\ntC\x01b\x87R}b.",
    "bytearray of a terabyte": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",
    "bytes of a terabyte": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
    "text beyond every size": b"\x80\x04\x8d" + struct.pack("<Q", (1 << 64) - 1) + b"x.",
    "memo bomb": b"\x80\x02Nr\xff\xff\xff\x7fr\xff\xff\xff\xff.",
    "missing memo": b"\x80\x02j\xff\xff\xff\x7f.",
    "too many operations": b"\x80\x02(" + b"N" * 500_000 + b"l.",
    "deep": b"\x80\x02" + b"]" * 150_000 + b"a" * 149_999 + b"b.",
    "exponential key": b"\x80\x02}N" + b"2\x86" * 100 + b"Ns.",
    "same content again": b"\x80\x02(cnumpy._core.multiarray\nscalar\nq\x00cnumpy\ndtype\n"
    + b"X\x06\x00\x00\x00U25000\x85Rq\x01B"
    + struct.pack("<I", 100_000) + b"a\0\0\0" * 25_000 + b"q\x020" + b"h\x00h\x01h\x02\x86R" * 50_000 + b"l.",
    "persistent": b"\x80\x02Nq\x00Q.",
    "extension": b"\x80\x02\x82\x01.",
    "new object": b"\x80\x02cbuiltins\nlist\n)\x81.",
    "instance": b"(ibuiltins\nlist\n.",
    "buffer": b"\x80\x05\x97.",
    "unbalanced": b"\x80\x02t.",
    "number of many digits": b"I" + b"9" * 10_000 + b"\n.",
    "huge number": b"\x80\x02\x8b" + struct.pack("<i", 100_000) + b"\x7f" * 100_000 + b".",
    "empty": b"",
    "no end": b"\x80\x02N",
    "noise": bytes(range(256)),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_read_results_refuses_hostile_content(tmp_path, capsys, what):
    started = time.process_time()
    with pytest.raises(DataError) as error:
        read_results(npy(tmp_path / "results.npy", HOSTILE[what]))
    assert time.process_time() - started < 2
    assert "results.npy" in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    assert "called" not in capsys.readouterr().out
    path = written(tmp_path / "words.pkl", HOSTILE[what])
    try:
        read_pickle(path, "a word list", "Download it again.")
    except DataError:
        return
    assert what in ("deep", "huge number", "memo bomb")  # plain, if odd


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lengths": np.array([-5, 5])}, "motion 0: length -5, expected 1 to 9"),
        ({"lengths": np.array([9, 10**9])}, "motion 1: length 1000000000, expected 1 to 9"),
        ({"lengths": [9, 1 << 60_000]}, "motion 1: length out of bounds"),
        ({"lengths": np.array([0, 9])}, "motion 0: length 0"),
        ({"lengths": np.array([9.0, 9.0])}, "motion 0: length out of bounds"),
        ({"text": ["a"]}, "do not fit together"),
        ({"text": ["a", 7]}, "do not fit together"),
        ({"text": "ab"}, "expected joints"),
        ({"motion": np.zeros((2, 22, 3))}, "expected joints"),
        ({"motion": [1, 2]}, "expected joints"),
        ({"motion": np.zeros((2, 22, 3, 9), complex)}, "dtype"),
    ],
)
def test_read_results_refuses_parts_that_do_not_fit(tmp_path, changes, said):
    with pytest.raises(DataError, match=said):
        read_results(results(tmp_path / "results.npy", **changes))


def test_read_results_names_missing_and_irregular_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, said in ((tmp_path / "none.npy", "missing"), (tmp_path / "pipe", "not a regular"), (tmp_path, "not a")):
        with pytest.raises(DataError, match=said):
            read_results(path)
    np.save(tmp_path / "numbers.npy", np.zeros(3))
    with pytest.raises(DataError, match="holds numbers"):
        read_results(tmp_path / "numbers.npy")
