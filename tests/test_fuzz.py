"""Damaged and hostile files: every reader refuses them with an error of ours, at once, and writes nothing."""

from __future__ import annotations

import io
import json
import pickle
import random
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from adaclip import AdaCLIP, AdaCLIPError
from adaclip.files import read_json
from adaqf_train.artefacts import read_tensors
from adaqf_train.data.clips import ClipFiles, load_array
from adaqf_train.data.layout import read_names
from adaqf_train.data.mdm_results import read_results
from adaqf_train.data.pickles import read_pickle
from adaqf_train.data.prepare.amass import parameters
from adaqf_train.data.prepare.captions import caption_table, plain_captions
from adaqf_train.data.prepare.joints import read_pack
from adaqf_train.errors import AdaQFError
from adaqf_train.evaluation.stored import _archive
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.judges import store
from adaqf_train.judges.official import _read_checkpoint
from adaqf_train.motion.bvh import read_bvh
from tests.helpers import bvh_body

ROUNDS = 80  # of each reader
FOLDER_ROUNDS = 12  # of each file in a folder


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


def npz(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def claiming(header: str) -> bytes:
    """A .npy file's content with a header of one's choice."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def claimed(shape: str, descr: str = "'<f8'") -> bytes:
    return claiming(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}")


def read_archive(path: Path) -> None:
    list(_archive(path))


def read_safetensors(path: Path) -> None:
    from safetensors import SafetensorError

    try:
        read_tensors(path)
    except (SafetensorError, ValueError) as error:  # `artefacts.reading` turns them into an ArtefactError
        raise AdaQFError(str(error)) from error


RESULTS = {"motion": np.zeros((1, 22, 3, 9), np.float32), "text": ["a"], "lengths": np.array([9])}
POSES = {"trans": np.zeros((2, 3)), "poses": np.zeros((2, 156)), "betas": np.zeros(16)}
PACK = {"positions": np.zeros((2, 22, 3), np.float32), "scale": 1.0, "names": ["a"], "offsets": [0, 2]}
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
    "pack npz": ("train.npz", read_pack, npz(**PACK)),
    "amass npz": ("a.npz", parameters, npz(**POSES, gender="male", mocap_framerate=60.0)),
    "motion npz": ("b.npz", read_archive, npz(joints=np.zeros((3, 22, 3)))),
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


def archives() -> list[bytes]:
    """Archives whose arrays are forged: in their headers, their sizes, their number, or the way they are packed."""
    names = ("positions", "trans", "joints")
    headers = (claimed("(1000000000000,)"), claimed("()", "'<U500000000'"), claimed("('a',)"))
    headers += (claiming("-" * 9000 + "1"), claiming("1" + "+1" * 4000), claiming("(" * 9000), b"\x93NUMPY\x09\x00")
    found = []
    for header in (*headers, claimed("(25000000,)") + bytes(200_000_000)):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name in names:
                archive.writestr(f"{name}.npy", header if len(header) < 10_000_000 or name == "joints" else b"")
        found.append(file.getvalue())
    whole = bytearray(npz(**PACK, **POSES, gender="male", mocap_framerate=60.0, joints=PACK["positions"]))
    for offset, value in ((8, 1), (10, 99)):  # encrypted; an unknown kind of compression
        changed, at = bytearray(whole), -1
        while (at := changed.find(b"PK\x01\x02", at + 1)) >= 0:
            changed[at + offset] = value
        found.append(bytes(changed))
    return found


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
        *((kind, content) for content in archives() for kind in ("pack npz", "amass npz", "motion npz")),
        ("npy", claiming("-" * 9000 + "1")),
        ("npy", claiming("(" * 9000)),
    )
    for number, (kind, content) in enumerate(bombs):
        name, read, _ = SEEDS[kind]
        path = tmp_path / str(number) / name
        path.parent.mkdir()
        path.write_bytes(content)
        assert refused(path, read), (number, kind)


FOLDERS: dict[str, tuple[str, Callable[[Path], object], tuple[str, ...]]] = {
    "adapter": (
        "adaclip",
        lambda folder: AdaCLIP.from_pretrained(folder).encode(["a"]),
        ("adapter_config.json", "adapter_model.safetensors", "adaclip.json", "tokenizer_config.json"),
    ),
    "base": (
        "pocket_clip",
        AdaCLIP.from_base,
        ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    ),
    "generator": ("adaqf", MotionGenerator.from_pretrained, ("config.json", "model.safetensors")),
    "extractors": ("extractors", store.load_extractors, ("config.json", "model.safetensors")),
}
ODD = (None, True, -1, 0, 10**6, 10**9, 2**63, 1e308, float("nan"), float("inf"), "", "x", "(a+)+$", [], [[1]], {})


def places(content: object) -> list[tuple[dict | list, object]]:
    """Every container in JSON, with every key or index of it."""
    keys = content if isinstance(content, dict) else range(min(5, len(content))) if isinstance(content, list) else ()
    return [(content, key) for key in keys] + [place for key in keys for place in places(content[key])]


def edited(content: bytes, rng: random.Random) -> bytes:
    """JSON with another value in one place; for safetensors, in its header."""
    length = 0 if content[:1] == b"{" else 8 + int.from_bytes(content[:8], "little")
    record = json.loads(content[8:length] if length else content)
    holder, key = rng.choice(places(record))
    holder[key] = rng.choice(ODD)
    text = json.dumps(record).encode()
    return len(text).to_bytes(8, "little") + text + content[length:] if length else text


@pytest.mark.parametrize("kind", FOLDERS)
def test_readers_refuse_mutated_folders(tiny_run, tmp_path, kind):
    name, read, files = FOLDERS[kind]
    for part in {name, "pocket_clip"}:
        shutil.copytree(tiny_run / part, tmp_path / part)
    for digests in tmp_path.rglob("digests.json"):
        digests.unlink()  # as who forges a file would do
    folder, rng, inputs, count = tmp_path / name, random.Random(kind), set(), 0
    assert not refused(folder, read)  # control
    for file in files:
        content, done = (folder / file).read_bytes(), len(inputs)
        while len(inputs) < done + FOLDER_ROUNDS:
            damaged = rng.choice((edited, edited, mutated))(content, rng)
            if damaged not in inputs:
                inputs.add(damaged)
                (folder / file).write_bytes(damaged)
                count += refused(folder, read)
        (folder / file).write_bytes(content)
    assert count
    print(f"{kind}: {len(inputs)} inputs, {count} refused")


def deep(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_text('{"a":' * 100_000 + "1" + "}" * 100_000)


def setting(file: str, **changes: object) -> Callable[[Path], None]:
    """Change values of a JSON file; a__b is b in a."""

    def change(folder: Path) -> None:
        record = json.loads((folder / file).read_text())
        for path, value in changes.items():
            *parents, last = path.split("__")
            holder = record
            for parent in parents:
                holder = holder[parent]
            holder[last] = value
        (folder / file).write_text(json.dumps(record))

    return change


def test_bases_with_forged_files_are_refused_at_once(tiny_run, tmp_path):
    forged = {
        "too deep": deep("config.json"),
        "a tokenizer too deep": deep("tokenizer.json"),
        "its settings too deep": deep("tokenizer_config.json"),
        "an id of gigabytes": setting("tokenizer.json", model__vocab__a=4_000_000_000),
        "an added id": setting("tokenizer.json", added_tokens=[{"id": 10**9, "content": "z"}]),
        "a length of text": setting("tokenizer_config.json", model_max_length="x"),
        "a wide layer": setting("config.json", hidden_size=65_536, intermediate_size=262_144, num_hidden_layers=500),
        "many rows": setting("config.json", vocab_size=10**7, max_position_embeddings=10**6),
        "another type": setting("config.json", hidden_act=1.5),
    }
    for number, (what, forge) in enumerate(forged.items()):
        folder = shutil.copytree(tiny_run / "pocket_clip", tmp_path / str(number))
        (folder / "digests.json").unlink()
        forge(folder)
        assert refused(folder, AdaCLIP.from_base), what


def test_weights_of_torch_that_write_or_unpack_are_refused(tmp_path):
    code = "def __setstate__(self, state):\n    return None\n"
    for name, members in {
        "script": {"evil/code/__torch__.py": code, "evil/constants.pkl": ""},
        "bomb": {"archive/data.pkl": "", "archive/data/0": "\0" * 100_000_000},
    }.items():
        path = tmp_path / f"{name}.pt"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        with pytest.raises(AdaCLIPError, match="code that runs" if name == "script" else "unpacks to"):
            AdaCLIP.from_base(path)
    with pytest.raises(AdaQFError, match="not a readable checkpoint"):
        _read_checkpoint(tmp_path / "bomb.pt")
