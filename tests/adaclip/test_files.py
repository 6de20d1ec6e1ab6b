"""Atomic files and folders: nothing is lost, nothing is left over, and a failure names the file."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from adaclip.files import (
    FileError,
    WriteError,
    atomic_file,
    atomic_folder,
    read_bytes,
    read_json,
    remove_partial,
    write_json,
)


def filled(folder: Path, content: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text(content)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(folder: Path, content: str = "new") -> None:
    with atomic_folder(folder) as staging:
        (staging / "a.txt").write_text(content)


def failing(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """Make these calls of os.replace fail, as on a network disk that goes away."""
    replace, calls = os.replace, iter(range(100))

    def broken(source: object, target: object) -> None:
        if next(calls) in numbers:
            raise OSError(errno.EIO, "Input/output error", str(source))
        replace(source, target)

    monkeypatch.setattr(os, "replace", broken)


def test_atomic_folder_keeps_the_old_content_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    folder = filled(tmp_path / "model", "old")
    failing(monkeypatch, 1)
    with pytest.raises(WriteError, match=r"model: cannot be written \(Input/output error\)"):
        write(folder)
    assert (folder / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["model"]


def test_atomic_folder_keeps_what_it_moved_away_when_that_cannot_be_undone(tmp_path, monkeypatch):
    folder = filled(tmp_path / "model", "old")
    with monkeypatch.context() as patched:
        failing(patched, 1, 2)
        with pytest.raises(FileError, match=r"its content is now in .*previous. Rename it back"):
            write(folder)
    (moved,) = tmp_path.iterdir()
    assert (moved / "a.txt").read_text() == "old"
    remove_partial(tmp_path)
    assert names(tmp_path) == ["model"]
    assert (folder / "a.txt").read_text() == "old"


@pytest.mark.parametrize("again", ["remove_partial", "atomic_folder"])
def test_moved_folder_is_put_back_after_a_kill_between_the_renames(tmp_path, again):
    filled(tmp_path / ".model.0a1b.previous", "old")
    filled(tmp_path / ".model.2c3d.partial", "half")
    if again == "remove_partial":
        remove_partial(tmp_path)
    else:
        with pytest.raises(KeyError), atomic_folder(tmp_path / "model"):
            raise KeyError
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "a.txt").read_text() == "old"


def test_moved_folder_is_removed_once_the_new_one_stands(tmp_path):
    filled(tmp_path / "model", "new")
    filled(tmp_path / ".model.0a1b.previous", "old")
    remove_partial(tmp_path)
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "a.txt").read_text() == "new"


def test_leftovers_of_killed_writers_are_removed_by_the_next(tmp_path):
    filled(tmp_path / ".model.0a1b.partial", "half")
    filled(tmp_path / ".model.v2.0a1b.partial", "half")  # of another folder, model.v2
    (tmp_path / ".a.json.x1_y.partial").write_text("half")
    write(tmp_path / "model")
    write_json(tmp_path / "a.json", {})
    assert names(tmp_path) == [".model.v2.0a1b.partial", "a.json", "model"]


def test_temporary_folders_of_other_settings_are_removed_and_those_of_the_same_kept(tmp_path):
    def interrupted(key: str) -> None:
        with atomic_folder(tmp_path / "data", resume=key) as staging:
            (staging / key).write_text("half")
            raise KeyboardInterrupt

    for key in ("one", "two"):
        with pytest.raises(KeyboardInterrupt):
            interrupted(key)
        assert names(tmp_path) == [f".data.{key}.partial"]
    with atomic_folder(tmp_path / "data", resume="two") as staging:
        assert names(staging) == ["two"]


def test_writers_at_work_keep_their_temporary_files(tmp_path):
    with atomic_folder(tmp_path / "model") as first, atomic_file(tmp_path / "a.json") as file:
        file.write_text("first")
        write(tmp_path / "model")
        write_json(tmp_path / "a.json", {})
        remove_partial(tmp_path)
        assert first.is_dir()
        assert file.is_file()
    assert names(tmp_path) == ["a.json", "model"]
    assert (tmp_path / "a.json").read_text() == "first"


@pytest.mark.parametrize(
    "failure",
    [
        OSError("5676 requested and 992 written"),
        OSError(errno.ENOSPC, "No space left on device"),
        type("SafetensorError", (Exception,), {})("I/O error: No space left on device (os error 28)"),
    ],
    ids=["numpy", "system", "safetensors"],
)
def test_full_disk_names_the_file_and_the_remedy(tmp_path, failure):
    for path, write in ((tmp_path / "model", atomic_folder), (tmp_path / "a.json", atomic_file)):
        with pytest.raises(WriteError) as error, write(path):
            raise failure
        assert str(error.value).startswith(f"{path}: cannot be written (No space left on device). Make room")
    assert not names(tmp_path)


def test_other_failures_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "model"):
        (tmp_path / "source.npy").read_bytes()
    with pytest.raises(ValueError, match="requested"), atomic_file(tmp_path / "model"):
        raise ValueError("5 requested")
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"model: cannot be written \((Not a directory|File exists)\)"):
        write(tmp_path / "file" / "model")


def test_full_disk_is_named_on_a_real_one(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", small], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        for save in (
            lambda path: np.save(path, np.zeros(100_000)),
            lambda path: save_file({"a": torch.zeros(100_000)}, path),
            lambda path: path.write_bytes(b"x" * 1_000_000),
        ):
            with (
                pytest.raises(WriteError, match=r"model: cannot be written \(No space left"),
                atomic_folder(small / "model") as staging,
            ):
                save(staging / "a.npy")
            assert not names(small)
    finally:
        subprocess.run(["umount", small], check=True)


def test_read_json_refuses_what_is_no_json_object(tmp_path):
    path = tmp_path / "a.json"
    for content, said in (
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("[1]", "expected a JSON object"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
        ("{", "not valid JSON"),
    ):
        path.write_text(content)
        with pytest.raises(FileError, match=said):
            read_json(path)
    path.write_bytes(b'{"\xff": 1}')
    with pytest.raises(FileError, match="not valid JSON"):
        read_json(path)


def test_read_bytes_refuses_pipes_devices_and_large_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_text(json.dumps(list(range(100))))
    for path, said in ((tmp_path / "pipe", "not a regular"), (Path("/dev/zero"), "not a regular"), (tmp_path, "not a")):
        with pytest.raises(FileError, match=said):
            read_bytes(path)
    with pytest.raises(FileError, match="more than 100 bytes"):
        read_bytes(tmp_path / "long", 100)
