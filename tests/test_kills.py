"""Killed commands: the same command again ends in the same bytes, nothing is lost, and nothing is left over."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from adaclip import cli as adaclip_cli
from adaclip.files import atomic_folder
from adaqf_train.cli import main
from tests.helpers import bvh_body, settings_of
from tests.kills import forked, points, tree, watched

CLIPS = ("walk", "run", "jump")


@dataclass(frozen=True)
class Work:
    """A command that writes below a folder, and the state of the folder before it."""

    start: Callable[[Path], object]
    do: Callable[[Path], object]


def joints_source(root: Path) -> None:
    source = root / "source"
    source.mkdir(parents=True)
    from adaqf_train.procedural import generate

    for name, clip in zip(CLIPS, generate(3, seed=2), strict=True):
        np.save(source / f"{name}.npy", clip.joints)
        (source / f"{name}.txt").write_text(f"a person {name}s\n")
    lists(source)


def bvh_source(root: Path) -> None:
    source = root / "source"
    source.mkdir(parents=True)
    for seed, name in enumerate(CLIPS):
        (source / f"{name}.bvh").write_text(bvh_body(frames=60, seed=seed))
        (source / f"{name}.txt").write_text(f"a person {name}s\n")
    lists(source)


def lists(source: Path) -> None:
    for split, name in zip(("train", "val", "test"), CLIPS, strict=True):
        (source / f"{split}.txt").write_text(f"{name}\n")


def prepare(kind: str) -> Callable[[Path], object]:
    def do(root: Path) -> None:
        if not (root / "out").exists():  # a command that was killed after its last step is done
            assert main(["prepare", kind, str(root / "source"), str(root / "out")]) == 0

    return do


def folder_before(root: Path) -> None:
    (root / "out").mkdir(parents=True)
    (root / "out" / "a").write_text("old")


def replace_folder(root: Path) -> None:
    with atomic_folder(root / "out") as staging:
        for name in "abcdef":
            (staging / name).write_text(name * 1000)


def stable(files: dict[str, bytes]) -> dict[str, bytes]:
    """The same without what differs between two uninterrupted runs: seconds, moments, and seals over them."""

    def kept(content: object) -> object:
        if isinstance(content, dict):
            return {key: kept(value) for key, value in content.items() if key not in ("seconds", "sha256", "date")}
        return [kept(value) for value in content] if isinstance(content, list) else content

    def plain(name: str, content: bytes) -> bytes:
        if name.endswith(".json"):
            return json.dumps(kept(json.loads(content))).encode()
        return re.sub(rb"\b\d+(\.\d+)? (s|min|h)\b", b"TIME", content) if name.endswith((".md", ".html")) else content

    # TensorBoard names its files by moment and process.
    return {name: plain(name, content) for name, content in files.items() if "/events.out.tfevents." not in name}


@pytest.fixture
def works(request: pytest.FixtureRequest) -> Callable[[str], Work]:
    """Work by name; only the chosen one's fixtures are made."""

    def work(name: str) -> Work:
        if name in ("prepare joints", "prepare bvh"):
            return Work(joints_source if "joints" in name else bvh_source, prepare(name.split()[1]))
        if name == "replacement":
            return Work(folder_before, replace_folder)
        run: Path = request.getfixturevalue("tiny_run")
        if name == "export":
            adapter = str(run / "adaclip")
            return Work(folder_before_export(adapter), lambda root: export(adapter, root))
        if name == "study":
            data, config = (request.getfixturevalue(fixture) for fixture in ("tiny_data", "tiny_config"))
            return Work(lambda root: root.mkdir(), lambda root: study(root, data, settings_of(config)))
        scored = ("report.json", "report.md", "motions.html", "evaluation") if name == "evaluate" else ()
        ignored = shutil.ignore_patterns("checkpoints", *scored)

        def start(root: Path) -> None:
            shutil.copytree(run, root / "run", ignore=ignored)

        commands = {
            "evaluate": lambda root: ["evaluate", "--run", str(root / "run")],
            "push": lambda root: ["push", str(root / "run"), "me/adapter", "--dry-run"],
        }
        return Work(start, lambda root: exited(main(commands[name](root))))

    return work


def exited(code: int) -> None:
    assert code == 0


def folder_before_export(adapter: str) -> Callable[[Path], object]:
    def start(root: Path) -> None:
        root.mkdir()
        export(adapter, root)

    return start


def export(adapter: str, root: Path) -> None:
    exited(adaclip_cli.main(["export", adapter, str(root / "out")]))


def study(root: Path, data: Path, settings: list[str]) -> None:
    places = ["--out", str(root / "runs"), "--results", str(root / "results"), "--pages", str(root / "pages")]
    command = ["study", "components", "--data", f"procedural={data}", "--seeds", "1", "--arms", "baseline", *places]
    exited(main([*command, *settings]))


def check_kills(work: Work, folder: Path, count: int) -> None:
    """Kill the work at `count` points, each in a fresh folder, and do it again after each."""
    whole = folder / "root"
    work.start(whole)
    before = tree(whole)
    touched: list[str] = []
    with watched(whole, lambda event, path: touched.append(path)):
        work.do(whole)  # here, so that the forks find everything imported
    assert len(touched) > 3
    expected = stable(tree(whole))
    assert not [name for name in expected if name.endswith((".partial", ".previous"))]
    for number, point in enumerate(points(len(touched), count)):
        shutil.rmtree(whole)  # the same place: some files hold it
        work.start(whole)
        assert forked(lambda: work.do(whole), whole, point) == point
        left = tree(whole)
        lost = [name for name in before if name.startswith(("source", "run/adaqf", "run/adaclip")) and name not in left]
        assert not lost, (number, point, lost)
        assert forked(lambda: work.do(whole), whole) >= 0, (number, point)
        found = stable(tree(whole))
        assert found.keys() == expected.keys(), (number, point)
        assert [name for name in expected if found[name] != expected[name]] == [], (number, point)


@pytest.mark.parametrize(
    ("name", "count"), [("prepare joints", 2), ("prepare bvh", 2), ("export", 2), ("push", 2), ("replacement", 6)]
)
def test_killed_command_ends_in_the_same_bytes(works, tmp_path, name, count):
    check_kills(works(name), tmp_path, count)


@pytest.mark.slow
@pytest.mark.skipif("ADACLIP_LONG" not in os.environ, reason="takes minutes: set ADACLIP_LONG=1")
@pytest.mark.parametrize(
    "name", ["prepare joints", "prepare bvh", "evaluate", "study", "export", "push", "replacement"]
)
def test_command_killed_twenty_times_ends_in_the_same_bytes(works, tmp_path, name):
    check_kills(works(name), tmp_path, 20)
