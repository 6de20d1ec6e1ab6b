"""Damaged and hostile files: every reader refuses them with an error of ours, at once, and writes nothing."""

from __future__ import annotations

import io
import json
import pickle
import random
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from adaclip import AdaCLIPError
from adaclip.files import read_json
from adaqf_train.artefacts import read_tensors
from adaqf_train.data.clips import ClipFiles, load_array
from adaqf_train.data.layout import read_names
from adaqf_train.data.mdm_results import read_results
from adaqf_train.data.pickles import read_pickle
from adaqf_train.data.prepare.captions import caption_table, plain_captions
from adaqf_train.errors import AdaQFError
from adaqf_train.motion.bvh import read_bvh
from tests.helpers import bvh_body

ROUNDS = 80  # of each reader


def npy(content: object) -> bytes:
    file = io.BytesIO()
    np.save(file, content, allow_pickle=True)
    return file.getvalue()


def zipped(name: str = "texts/a.txt", content: bytes = b"a person walks#a/DET#0.0#0.0\n") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def read_zip(path: Path) -> None:
    files = ClipFiles(path.parent)
    for name in files.captioned:
        files.captions(name)


def read_safetensors(path: Path) -> None:
    from safetensors import SafetensorError

    try:
        read_tensors(path)
    except (SafetensorError, ValueError) as error:  # `artefacts.reading` turns them into an ArtefactError
        raise AdaQFError(str(error)) from error


RESULTS = {"motion": np.zeros((1, 22, 3, 9), np.float32), "text": ["a"], "lengths": np.array([9])}
SEEDS: dict[str, tuple[str, Callable[[Path], object], bytes]] = {
    "pickle": ("a.pkl", lambda path: read_pickle(path, "data", "Again."), pickle.dumps({"a": [1, 2.5], "b": "c"})),
    "results": ("results.npy", read_results, npy(RESULTS)),
    "npy": ("a.npy", load_array, npy(np.zeros((3, 4), np.float32))),
    "safetensors": ("a.safetensors", read_safetensors, save({"a": torch.zeros(3), "b": torch.ones(2, 2)})),
    "json": ("a.json", read_json, json.dumps({"a": {"b": [1, None, 0.5]}, "c": "d"}).encode()),
    "zip": ("texts.zip", read_zip, zipped()),
    "bvh": ("a.bvh", read_bvh, bvh_body(frames=3).encode()),
    "captions csv": ("a.csv", caption_table, b'name,caption\na,"walks, then sits"\nb,runs\n'),
    "captions json": ("b.json", caption_table, b'{"a": ["walks"], "b": ["sits", "runs"]}'),
    "captions text": ("a.txt", plain_captions, b"a person walks#a/DET#0.0#0.0\nruns#b/NOUN#0.0#1.5\n"),
    "split list": ("train.txt", read_names, b"000021\n000022\nM000021\n"),
}


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Flip, cut, repeat, insert or overwrite a part."""
    data, at = bytearray(content), rng.randrange(len(content))
    way = rng.randrange(6)
    if way == 0:
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif way == 1:
        del data[at:]
    elif way == 2:
        data[at:at] = data[at : at + rng.randint(1, 50)] * rng.randint(1, 100)
    elif way == 3:
        data[at:at] = rng.choice([b"\xff" * 8, b"\0" * 9, b"[" * 5000, b"9" * 5000, b"nan", b"1e999", b"-1", b"\n\n"])
    elif way == 4:
        data[at : at + 8] = rng.randbytes(8)
    else:
        del data[at : at + rng.randint(1, 20)]
    return bytes(data)


def refused(path: Path, read: Callable[[Path], object]) -> bool:
    """Whether the reader refuses the file; any error that is not ours fails the test."""
    started = time.process_time()
    try:
        read(path)
        return False
    except (AdaQFError, AdaCLIPError):
        return True
    finally:
        assert time.process_time() - started < 2


@pytest.mark.parametrize("kind", SEEDS)
def test_readers_refuse_mutated_files(tmp_path, kind):
    name, read, content = SEEDS[kind]
    rng, inputs, count = random.Random(kind), set(), 0
    path = tmp_path / "own" / name
    path.parent.mkdir()
    path.write_bytes(content)
    assert not refused(path, read)  # control
    while len(inputs) < ROUNDS:
        damaged = mutated(content, rng)
        if damaged not in inputs:
            inputs.add(damaged)
            path.write_bytes(damaged)
            count += refused(path, read)
    assert count
    assert [each.name for each in tmp_path.rglob("*") if each.is_file()] == [name]
    print(f"{kind}: {len(inputs)} inputs, {count} refused")


def test_readers_refuse_bombs(tmp_path):
    joints = "".join(f"JOINT j{i}\n{{\nOFFSET 0 0 0\n" for i in range(100_000))
    ends = "End Site\n{\nOFFSET 0 1 0\n}\n" * 5000
    head = "HIERARCHY\nROOT r\n{\nOFFSET 0 0 0\nCHANNELS 3 Xposition Yposition Zposition\n"
    tail = "MOTION\nFrames: 1\nFrame Time: 0.05\n0 0 0\n"
    bombs = (
        ("bvh", f"{head}{joints}{'}' * 100_000}}}\n{tail}".encode()),
        ("bvh", f"{head}{ends}}}\n{tail}".encode()),
        ("zip", zipped(content=b"a" * 300_000_000)),
        ("npy", npy(np.zeros(1))[:10] + b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}   \n"),
        ("safetensors", (1 << 30).to_bytes(8, "little") + b"{}"),
        ("safetensors", save({f"t{i}": torch.zeros(0) for i in range(100_000)})),
        ("json", b"[" * 1_000_000),
        ("captions text", b"a" * 10_000_000 + b"#a/DET#0.0#0.0\n"),
    )
    for number, (kind, content) in enumerate(bombs):
        name, read, _ = SEEDS[kind]
        path = tmp_path / str(number) / name
        path.parent.mkdir()
        path.write_bytes(content)
        assert refused(path, read), (number, kind)
