"""Full disks and folders without rights: one line that names the file, and the same bytes once that is mended."""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from adaclip import AdaCLIP, AdaCLIPError
from adaclip import cli as adaclip_cli
from adaclip.files import atomic_folder
from adaqf_train.cli import main
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.errors import AdaQFError
from adaqf_train.generators.base import MotionGenerator
from tests.cli.test_cli import error_of
from tests.helpers import settings_of
from tests.kills import tree, watched
from tests.test_kills import joints_source, stable

OTHER_USER = 65534  # nobody


class Full:
    """Fails one file operation as a full disk does."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, event: str, path: str) -> None:
        takes_room = event in ("open", "os.mkdir", "os.rename")
        self.left -= takes_room
        if takes_room and self.left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def test_prepare_names_a_full_disk_at_every_file_and_continues_with_space(tmp_path, capsys):
    root, command = tmp_path / "root", ["prepare", "joints", str(tmp_path / "root/source"), str(tmp_path / "root/out")]
    joints_source(root)
    assert main(command) == 0
    expected = tree(root)
    for number in itertools.count(1):
        shutil.rmtree(root)
        joints_source(root)
        capsys.readouterr()
        with watched(root, Full(number)):
            failed = main(command)
        if not failed:
            break
        (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error"))
        assert re.search(rf"{root}/\.?out\S*: cannot be written \(No space left on device\)\. Make room", line), line
        assert main(command) == 0
        assert tree(root) == expected, number
    assert number > 5


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Callable[[int], None]]:
    """A disk of that many bytes at `folder`, and a function that gives it another size; a skip without root."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")

    def resize(size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
@pytest.mark.skipif("ADACLIP_LONG" not in os.environ, reason="takes minutes: set ADACLIP_LONG=1")
def test_pipeline_continues_with_space_until_it_equals_an_uninterrupted_one(tiny_data, tiny_config, tmp_path, capsys):
    """The disk grows by a little after each failure, so that it is full at writes of every stage."""
    disk = tmp_path / "disk"
    command = ["pipeline", "--recipe", "pocket", "--data", str(tiny_data), *settings_of(tiny_config), "--out"]
    with small_disk(disk, 100 << 20):
        assert main([*command, str(disk / "run")]) == 0
        expected = stable(tree(disk / "run"))
    disk.rmdir()
    size, failures = 32 << 10, []
    with small_disk(disk, size) as resize:
        while True:
            capsys.readouterr()
            if main([*command, str(disk / "run")]) == 0:
                break
            lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
            failures += lines
            assert len(lines) == 1
            assert str(disk / "run") in lines[0], lines
            assert "No space left on device" in lines[0], lines
            size += 48 << 10
            resize(size)
        found = stable(tree(disk / "run"))
    assert len(failures) > 20
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


@contextmanager
def without_rights() -> Iterator[None]:
    """As another user, if root runs the tests; file modes do not apply to root."""
    if os.geteuid():
        yield
        return
    os.setegid(OTHER_USER)
    os.seteuid(OTHER_USER)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's are for their owner alone."""
    folder = Path(tempfile.mkdtemp(prefix="adaclip-rights-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_commands_without_rights_name_the_file_in_a_line(tiny_run, tiny_data, open_folder, capsys):
    run, data = open_folder / "run", open_folder / "data"
    shutil.copytree(tiny_run, run, ignore=shutil.ignore_patterns("checkpoints"))
    shutil.copytree(tiny_data, data)
    joints_source(open_folder / "joints")
    secret = open_folder / "secret"
    shutil.copytree(tiny_run / "adaqf", secret)
    with suppress(FileNotFoundError):
        shutil.rmtree(data / ".adaclip_cache")
    secret.chmod(0o700)
    commands = {
        "evaluate": ["evaluate", "--run", str(run), "--data", str(data)],
        "train": ["train", "--data", str(data), "--out", str(open_folder / "new")],
        "prepare": ["prepare", "joints", str(open_folder / "joints" / "source"), str(open_folder / "out")],
        "push": ["push", str(run), "me/adapter", "--dry-run"],
        "sample": ["sample", "--model", str(run / "adaqf"), "--prompt", "a", "--out", str(open_folder / "a.npy")],
        "sample from": ["sample", "--model", str(secret), "--prompt", "a", "--out", "a.npy"],
        "compare": ["compare", str(secret / "report.json"), str(run)],
        "doctor": ["doctor", str(secret)],
    }
    AdaCLIP.from_pretrained(run / "adaclip")  # imports, some of which another user may not read
    before = tree(open_folder)
    with without_rights():
        for name, command in commands.items():
            line = error_of(capsys, command)
            assert str(open_folder) in line, name
            assert "cannot be written" in line or "Permission denied" in line, (name, line)
        assert adaclip_cli.main(["encode", str(run / "adaclip"), "a", "--out", str(open_folder / "a.npy")]) == 1
        assert "a.npy: cannot be written (Permission denied)" in capsys.readouterr().err
    assert tree(open_folder) == before


def test_readers_without_rights_name_the_file(tiny_data, tiny_run, open_folder):
    data = Path(shutil.copytree(tiny_data, open_folder / "data"))
    shutil.rmtree(data / ".adaclip_cache", ignore_errors=True)
    clip = next((data / "new_joint_vecs").iterdir())
    with without_rights(), pytest.warns(UserWarning, match="the cache of the motions cannot be written"):
        assert len(MotionDataset(data, "train"))
    for path, read in (
        (clip, lambda: [MotionDataset(data, split) for split in ("train", "val", "test")]),
        (data / "train.txt", lambda: MotionDataset(data, "train")),
        (data / "Mean.npy", lambda: MotionDataset(data, "train")),
    ):
        mode = path.stat().st_mode
        path.chmod(0)
        with without_rights(), pytest.raises((AdaQFError, AdaCLIPError, PermissionError), match=path.name):
            read()
        path.chmod(mode)
    adapter = Path(shutil.copytree(tiny_run / "adaqf", open_folder / "adaqf"))
    (adapter / "model.safetensors").chmod(0)
    with without_rights(), pytest.raises((AdaQFError, AdaCLIPError, OSError), match=r"model\.safetensors"):
        MotionGenerator.from_pretrained(adapter)
    with (
        without_rights(),
        pytest.raises(OSError, match="cannot be written"),
        atomic_folder(open_folder / "x") as staging,
    ):
        np.save(staging / "a.npy", np.zeros(3))
