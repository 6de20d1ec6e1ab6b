"""The memory-mapped cache: faster than the files, and never different from them."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from adaqf_train.config import DataConfig
from adaqf_train.data import cache
from adaqf_train.data.batches import StepBatches
from adaqf_train.data.clips import ClipFiles, digest_of
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.errors import DataError
from tests.helpers import write_clips

LENGTHS = {"a": 50, "b": 60, "c": 44, "d": 199, "e": 250}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_clips(tmp_path / "data", LENGTHS)


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Names of the clips that were read from their files."""
    names: list[str] = []
    read = ClipFiles.read

    def counted(self: ClipFiles, name: str, features: int):
        names.append(name)
        return read(self, name, features)

    monkeypatch.setattr(ClipFiles, "read", counted)
    return names


def motion(data: Path, name: str) -> Path:
    return data / "new_joint_vecs" / f"{name}.npy"


def vectors_of(data: Path) -> Path:
    (path,) = (data / cache.HIDDEN).glob("vectors-*.npy")
    return path


def same(one: MotionDataset, other: MotionDataset) -> bool:
    return (
        [item.key for item in one.items] == [item.key for item in other.items]
        and all(np.array_equal(a.vectors, b.vectors) for a, b in zip(one.items, other.items, strict=True))
        and one.captions() == other.captions()
        and one.left_out == other.left_out
        and one.fingerprint() == other.fingerprint()
    )


def uncached(data: Path, monkeypatch) -> MotionDataset:
    """What the files say: read where no cache can be."""
    with monkeypatch.context() as patch:
        patch.setenv(cache.PLACE, str(data / "Mean.npy"))  # a file in the way
        with pytest.warns(UserWarning, match="cache of the motions cannot be written"):
            return MotionDataset(data, "train")


def test_dataset_opened_again_reads_no_clip(data, reads, monkeypatch):
    first = MotionDataset(data, "train")
    assert sorted(reads) == sorted(LENGTHS)
    reads.clear()
    second = MotionDataset(data, "train")
    assert reads == []
    assert same(first, second)
    assert same(second, uncached(data, monkeypatch))
    assert [item.key for item in second.items] == ["a", "b", "c", "d"]
    assert second.left_out == 1


def test_items_are_plain_read_only_views(data, monkeypatch):
    for dataset in (MotionDataset(data, "train"), uncached(data, monkeypatch)):
        for item in dataset.items:
            assert type(item.vectors) is np.ndarray
            assert item.vectors.dtype == np.float32
            with pytest.raises(ValueError, match="read-only"):
                item.vectors[0, 0] = 1
    assert not MotionDataset(data, "train").items[0].vectors.flags.owndata


def touched(data: Path) -> None:
    os.utime(motion(data, "b"))


def other_values_of_the_same_size(data: Path) -> None:
    np.save(motion(data, "b"), np.load(motion(data, "b")) + 1)


def other_values_under_the_old_times(data: Path) -> None:
    before = motion(data, "b").stat()
    other_values_of_the_same_size(data)
    os.utime(motion(data, "b"), ns=(before.st_atime_ns, before.st_mtime_ns))


def added(data: Path) -> None:
    np.save(motion(data, "new"), np.ones((70, 263), np.float32))
    (data / "texts" / "new.txt").write_text("jumps#jump/VERB#0.0#0.0\n")
    (data / "train.txt").write_text("a\nnew\n")


def removed(data: Path) -> None:
    motion(data, "b").unlink()
    (data / "texts" / "b.txt").unlink()
    (data / "train.txt").write_text("a\nc\n")


def another_caption(data: Path) -> None:
    (data / "texts" / "b.txt").write_text("b jumps#jump/VERB#0.0#0.0\n")


@pytest.mark.parametrize(
    "change",
    [touched, other_values_of_the_same_size, other_values_under_the_old_times, added, removed, another_caption],
)
def test_cache_is_rebuilt_after_a_change(data, reads, monkeypatch, change):
    before = MotionDataset(data, "train")
    reads.clear()
    change(data)
    after = MotionDataset(data, "train")
    assert reads
    assert same(after, uncached(data, monkeypatch))
    assert same(after, before) == (change is touched)
    reads.clear()
    assert same(MotionDataset(data, "train"), after)
    assert reads == []


def test_cache_detects_a_change_right_after_the_build(data):
    for value in range(5):  # as fast as the clock that stamps files allows
        np.save(motion(data, "a"), np.full((50, 263), value, np.float32))
        assert MotionDataset(data, "train").items[0].vectors[0, 0] == value


def test_build_waits_until_a_change_gets_another_stamp(data, monkeypatch):
    changed, waits = ClipFiles(data).last_change(), []
    monkeypatch.setattr(time, "sleep", waits.append)
    for age in (0.001, 1.0, -100.0):  # the last: files from a machine whose clock is ahead are not waited for
        shutil.rmtree(data / cache.HIDDEN, ignore_errors=True)
        monkeypatch.setattr(time, "time", lambda age=age: changed + age)
        MotionDataset(data, "train")
    assert waits == pytest.approx([cache.TICK - 0.001], abs=1e-4)


def test_cache_is_shared_by_lists_filters_and_statistics(data, reads):
    MotionDataset(data, "train")
    reads.clear()
    (data / "few.txt").write_text("c\na\n")
    np.save(data / "Mean.npy", np.ones(263, np.float32))
    few = MotionDataset(data, "few", DataConfig(min_frames=45))
    assert [item.key for item in few.items] == ["a"]
    assert (few.mean == 1).all()
    assert reads == []


def truncated_vectors(place: Path) -> None:
    path = next(place.glob("vectors-*"))
    path.write_bytes(path.read_bytes()[:-1000])


def a_flipped_byte(place: Path) -> None:
    with next(place.glob("vectors-*")).open("r+b") as file:
        file.seek(1000)
        file.write(b"\xff")


def lost_vectors(place: Path) -> None:
    next(place.glob("vectors-*")).unlink()


def truncated_index(place: Path) -> None:
    path = place / cache.INDEX
    path.write_bytes(path.read_bytes()[:-10])


def empty_index(place: Path) -> None:
    (place / cache.INDEX).write_bytes(b"")


def an_index_that_was_edited(place: Path) -> None:
    path = place / cache.INDEX
    head, content = path.read_bytes().split(b"\n")
    index = json.loads(content)
    index["clips"]["a"][0] += 1
    path.write_bytes(head + b"\n" + json.dumps(index).encode())


@pytest.mark.parametrize(
    "damage",
    [truncated_vectors, a_flipped_byte, lost_vectors, truncated_index, empty_index, an_index_that_was_edited],
)
def test_cache_is_rebuilt_when_damaged(data, reads, damage):
    fingerprint = MotionDataset(data, "train").fingerprint()
    time.sleep(cache.TICK)  # damage takes longer to come about than the clock's resolution
    damage(data / cache.HIDDEN)
    reads.clear()
    again = MotionDataset(data, "train")
    assert sorted(reads) == sorted(LENGTHS)
    assert all(np.array_equal(item.vectors, np.load(motion(data, item.key))) for item in again.items)
    assert again.fingerprint() == fingerprint
    assert len(list((data / cache.HIDDEN).glob("vectors-*"))) == 1


def test_cache_of_another_version_is_rebuilt(data, reads, monkeypatch):
    MotionDataset(data, "train")
    reads.clear()
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    MotionDataset(data, "train")
    assert reads


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_build_leaves_nothing_when_interrupted(data, monkeypatch, error):
    read = ClipFiles.read

    def interrupted(self: ClipFiles, name: str, features: int):
        if name == "c":
            raise error
        return read(self, name, features)

    with monkeypatch.context() as patch:
        patch.setattr(ClipFiles, "read", interrupted)
        with pytest.raises(error):
            MotionDataset(data, "train")
    assert {path.name for path in (data / cache.HIDDEN).iterdir()} <= {cache.LOCK}
    assert len(MotionDataset(data, "train")) == 4


def test_build_removes_the_remains_of_a_killed_one(data, reads):
    place = data / cache.HIDDEN
    place.mkdir()
    (place / ".vectors-0123456789abcdef.npy.x.partial").write_bytes(b"half")
    (place / ".index.json.x.partial").write_bytes(b"half")
    (place / "notes.txt").write_text("somebody else's")
    MotionDataset(data, "train")
    names = {path.name for path in place.iterdir()}
    assert names == {cache.INDEX, cache.LOCK, "notes.txt", vectors_of(data).name}


def test_cache_never_contains_a_bad_clip(data, reads):
    good = np.load(motion(data, "c"))
    np.save(motion(data, "c"), np.full((50, 263), np.nan, np.float32))
    for _ in range(2):
        with pytest.raises(DataError, match=r"c\.npy: NaN or infinite at frame 0"):
            MotionDataset(data, "train")
        assert not (data / cache.HIDDEN / cache.INDEX).exists()
        assert not list((data / cache.HIDDEN).glob("vectors-*"))
    np.save(motion(data, "c"), good)
    assert len(MotionDataset(data, "train")) == 4


def test_cache_omits_a_bad_clip_that_no_list_contains(data, reads):
    np.save(motion(data, "c"), np.zeros((50, 66), np.float32))
    (data / "texts" / "d.txt").write_text("no separators\n")
    (data / "train.txt").write_text("a\nb\n")
    (data / "test.txt").write_text("a\nc\n")
    (data / "val.txt").write_text("d\n")
    for _ in range(2):
        assert len(MotionDataset(data, "train")) == 2
    reads.clear()
    with pytest.raises(DataError, match=r"c\.npy: 66 features per frame"):
        MotionDataset(data, "test")
    with pytest.raises(DataError, match=r"d\.txt, line 1: expected caption"):
        MotionDataset(data, "val")
    assert reads == ["c", "d"]  # the others came from the cache
    (data / "val.txt").write_text("nobody\n")
    with pytest.raises(DataError, match=r"nobody\.npy: missing, though val.txt lists nobody"):
        MotionDataset(data, "val")


def test_cache_stores_any_float_type_as_float32(data, monkeypatch):
    for name, array in {
        "a": np.random.default_rng(1).standard_normal((50, 263)),
        "b": np.asfortranarray(np.load(motion(data, "b"))),
        "c": np.load(motion(data, "c")).astype(">f4"),
        "d": np.load(motion(data, "d")).astype(np.float16),
        "e": np.zeros((0, 263), np.float32),
    }.items():
        np.save(motion(data, name), array)
    (data / "texts" / "a.txt").write_text("geht zum Café — 走る#gehen/VERB#0.0#0.0\n", encoding="utf-8")
    MotionDataset(data, "train")
    dataset = MotionDataset(data, "train")
    assert same(dataset, uncached(data, monkeypatch))
    assert all(np.array_equal(i.vectors, np.load(motion(data, i.key)).astype(np.float32)) for i in dataset.items)
    np.save(motion(data, "a"), np.full((50, 263), 1e300))
    with pytest.raises(DataError, match="NaN or infinite at frame 0"):
        MotionDataset(data, "train")


def a_file_in_the_way(data: Path, patch: pytest.MonkeyPatch) -> None:
    (data / cache.HIDDEN).write_text("")


def a_read_only_folder(data: Path, patch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *args, **kwargs) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    patch.setattr(Path, "mkdir", refuse)


def a_full_disk(data: Path, patch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    patch.setattr(os, "fsync", full)


@pytest.mark.parametrize("obstacle", [a_file_in_the_way, a_read_only_folder, a_full_disk])
def test_dataset_works_without_a_cache(data, monkeypatch, obstacle):
    expected = uncached(data, monkeypatch)
    with monkeypatch.context() as patch:
        obstacle(data, patch)
        with pytest.warns(UserWarning, match="Set ADACLIP_CACHE to a folder") as caught:
            dataset = MotionDataset(data, "train")
    assert same(dataset, expected)
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    assert not list(data.glob(f"{cache.HIDDEN}/vectors-*"))


def test_cache_can_be_elsewhere(data, tmp_path, monkeypatch, reads):
    monkeypatch.setenv(cache.PLACE, str(tmp_path / "caches"))
    twin = write_clips(tmp_path / "twin" / "data", {"a": 77})
    before = {path.name for path in data.iterdir()}
    one, other = MotionDataset(data, "train"), MotionDataset(twin, "train")
    assert {path.name for path in data.iterdir()} == before
    assert (len(one), len(other)) == (4, 1)  # of the same name, and yet not mixed up
    assert len(list((tmp_path / "caches").iterdir())) == 2
    reads.clear()
    monkeypatch.chdir(data.parent)
    assert same(MotionDataset("data", "train"), one)
    assert reads == []


def test_build_runs_once_for_concurrent_processes(data, reads):
    with ThreadPoolExecutor(4) as pool:  # each with a lock of its own, as processes have
        opened = list(pool.map(lambda _: MotionDataset(data, "train"), range(4)))
    assert sorted(reads) == sorted(LENGTHS)
    assert all(same(dataset, opened[0]) for dataset in opened)


def test_dataset_pickles_as_the_place_of_its_motions(data, monkeypatch):
    dataset = MotionDataset(data, "train", DataConfig(min_frames=20))
    assert len(pickle.dumps(dataset)) < 10_000
    assert len(pickle.dumps(uncached(data, monkeypatch))) > 350_000  # control: one that holds its motions
    copy = pickle.loads(pickle.dumps(dataset))
    assert same(copy, dataset)
    assert not copy.items[0].vectors.flags.owndata
    one, other = StepBatches(dataset, 2, 0)[3], StepBatches(copy, 2, 0)[3]
    assert (one.motion == other.motion).all()


def test_dataset_pickles_segments(data):
    (data / "texts" / "d.txt").write_text("all#all/DET#0.0#0.0\npart#part/NOUN#1.0#6.5\n")
    dataset = MotionDataset(data, "train")
    copy = pickle.loads(pickle.dumps(dataset))
    assert [item.key for item in copy.items] == ["a", "b", "c", "d#1:20-130", "d"]
    assert same(copy, dataset)


def test_dataset_reports_a_cache_that_was_removed(data):
    pickled = pickle.dumps(MotionDataset(data, "train"))
    shutil.rmtree(data / cache.HIDDEN)
    with pytest.raises(DataError, match="Start the command again"):
        pickle.loads(pickled)


def last_value(data: Path) -> None:
    vectors = np.load(motion(data, "d"))
    vectors[-1, -1] = np.nextafter(vectors[-1, -1], np.float32(9))
    np.save(motion(data, "d"), vectors)


def an_unlisted_clip(data: Path) -> None:
    np.save(motion(data, "unlisted"), np.ones((50, 263), np.float32))


@pytest.mark.parametrize(("change", "differs"), [(last_value, True), (an_unlisted_clip, False), (touched, False)])
def test_fingerprint_covers_the_content_of_the_split(data, change: Callable[[Path], None], differs):
    before = MotionDataset(data, "train").fingerprint()
    change(data)
    assert (MotionDataset(data, "train").fingerprint() != before) == differs


def test_fingerprint_reads_no_features(data, monkeypatch):
    dataset = MotionDataset(data, "train")
    expected = dataset.fingerprint()
    assert all(item.digest == digest_of(np.load(motion(data, item.key))) for item in dataset.items)
    vectors_of(data).write_bytes(b"")  # a map of it can no longer be read
    assert dataset.fingerprint() == expected


@pytest.mark.parametrize("name", ["", cache.INDEX, cache.LOCK])
def test_cache_that_leads_out_of_the_data_folder_is_refused(data, tmp_path, name):
    victim = tmp_path / "victim"
    (victim / "sub").mkdir(parents=True)
    for file in ("vectors-0123456789abcdef.npy", cache.INDEX, cache.LOCK, ".x.y.partial"):
        (victim / file).write_text("somebody else's")
    link = data / cache.HIDDEN / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(victim / name)
    with pytest.raises(DataError, match=r"a symbolic link.*Delete it.*ADACLIP_CACHE"):
        MotionDataset(data, "train")
    assert {path.read_text() for path in victim.iterdir() if path.is_file()} == {"somebody else's"}
    assert len(list(victim.iterdir())) == 5


def test_cache_deletes_only_what_it_names(data, reads):
    place = data / cache.HIDDEN
    place.mkdir()
    for name in ("vectors-mine.npy", "vectors-0123456789abcdef.npy.bak", "notes.txt"):
        (place / name).write_text("somebody else's")
    (place / "vectors-0123456789abcdef.npy").symlink_to(data / "train.txt")
    MotionDataset(data, "train")
    left = {path.name for path in place.iterdir()}
    assert {"vectors-mine.npy", "vectors-0123456789abcdef.npy.bak", "notes.txt"} <= left
    assert (data / "train.txt").is_file()
