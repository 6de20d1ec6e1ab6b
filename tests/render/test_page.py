"""The page: complete in one file, faithful to the motions, small, and safe with any text."""

from __future__ import annotations

import base64
import json
import math
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError

from adaqf_train.motion.skeleton import HUMANML3D, KIT, Skeleton
from adaqf_train.procedural import generate
from adaqf_train.render import camera, flesh, html, payload
from adaqf_train.render.page import Scene, Take, figures, write_page

NASTY = (
    "a person </script><script>alert('x')</script> & \"waves\" <!-- \u2028 <b>twice</b> {title} {{ title }} {% raw %}"
)


def walk(skeleton: Skeleton = HUMANML3D, frames: int = 40, speed: float = 1.0, seed: int = 0) -> np.ndarray:
    """A rest pose (feet on the floor) that slides along +Z at `speed` m/s while it sways: (T, J, 3), metres."""
    joints = np.zeros((len(skeleton), 3))
    for joint, parent in enumerate(skeleton.parents):
        if parent >= 0:
            joints[joint] = joints[parent] + 0.2 * np.array(skeleton.rest_directions[joint])
    joints[:, 1] -= joints[:, 1].min() - 0.02
    time = np.arange(frames)[:, None, None] / 20
    sway = (
        0.1 * np.sin(3 * time + np.random.default_rng(seed).uniform(0, 6, (1, len(skeleton), 3))) * joints[None, :, 1:2]
    )
    return joints + sway + time * speed * np.array((0.0, 0.0, 1.0))


def scenes(count: int = 1, **options: float) -> list[Scene]:
    names = ("ground truth", "baseline", "AdaQF")
    return [
        Scene(f"a person walks, {index}", tuple(Take(name, walk(seed=k, **options)) for k, name in enumerate(names)))
        for index in range(count)
    ]


class Reader(HTMLParser):
    """Collects what a browser would see: the texts by element, every attribute, the scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        self.texts.setdefault(tag, []).append("")
        self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while tag in self.stack and self.stack.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.stack:
            self.texts[self.stack[-1]][-1] += data


def payload_of(path: Path) -> dict:
    return json.loads(Reader(path.read_text(encoding="utf-8")).texts["script"][0])


def decoded(take: dict, step: float) -> np.ndarray:
    """(T, J, 3) in metres from a packed take; written from the format's description, not from its encoder."""
    values, value, shift = [], 0, 0
    for byte in base64.b64decode(take["data"]):
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            values.append(value // 2 if value % 2 == 0 else -(value + 1) // 2)
            value = shift = 0
    changes = np.reshape(values, (take["frames"], take["joints"], 3))
    return np.cumsum(np.cumsum(changes, axis=0), axis=0) * step


def projected(points: np.ndarray, view: dict) -> np.ndarray:
    """Points (..., 3) as a camera sees them: (..., 2), the canvas reaching from -1 to 1."""
    sin, cos, rise, level = (f(view[k]) for k in ("yaw", "pitch") for f in (math.sin, math.cos))
    offset = points - np.array(view["target"])
    depth = view["distance"] - offset @ np.array((sin * level, rise, cos * level))
    assert (depth > 0).all()
    x, y = offset @ np.array((cos, 0, -sin)), offset @ np.array((-sin * rise, level, -cos * rise))
    return np.stack((x / camera.ASPECT, y), axis=-1) / depth[..., None] / math.tan(camera.FIELD_OF_VIEW / 2)


# Content ----------------------------------------------------------------------------------------------------------


def test_page_is_one_file_without_requests(tmp_path: Path) -> None:
    text = write_page(tmp_path / "page.html", scenes(), title="Walks", fps=20).read_text(encoding="utf-8")
    assert not re.search(r"https?:|//\w+\.\w|\bsrc=|@import|url\(|fetch\(|XMLHttp", text)
    assert {value for name, value in Reader(text).attributes if name == "href"} == {"data:,"}
    assert "default-src 'none'" in text  # a browser would refuse to load anything else


@pytest.mark.parametrize("speed", [1.0, 7.0])
def test_page_of_twelve_scenes_stays_under_a_megabyte(tmp_path: Path, speed: float) -> None:
    path = write_page(tmp_path / "page.html", scenes(12, frames=196, speed=speed), title="Walks", fps=20)
    assert 300_000 < path.stat().st_size < 750_000  # whatever the speed: a sprint is 35 cm a frame


@pytest.mark.parametrize("skeleton", [HUMANML3D, KIT], ids=lambda skeleton: skeleton.name)
def test_payload_is_the_motion(tmp_path: Path, skeleton: Skeleton) -> None:
    motions = [walk(skeleton), walk(skeleton, frames=1), walk(skeleton, frames=90, speed=-7.0, seed=4)]
    given = [Scene("it walks", tuple(Take(str(k), joints) for k, joints in enumerate(motions)))]
    written = payload_of(write_page(tmp_path / "page.html", given, title="Walks", fps=20))
    for joints, take in zip(motions, written["scenes"][0]["takes"], strict=True):
        assert np.abs(decoded(take, written["step"]) - joints).max() <= 0.00051
    body = written["bodies"][str(len(skeleton))]
    for part in body["parts"]:
        for ball in part["balls"]:
            assert sum(weight for _, weight in ball["of"]) == pytest.approx(1)
    tones = [part["tone"] for part in body["parts"]]
    assert tones.count("left") == tones.count("right") >= 6
    assert [side for *_, side in body["feet"]] == ["left", "right"]


def test_body_limbs_use_joints_of_their_side() -> None:
    for skeleton in (HUMANML3D, KIT):
        for part in flesh.body(skeleton)["parts"]:
            names = {skeleton.joints[joint] for ball in part["balls"] for joint, _ in ball["of"]}
            if part["tone"] != "body":
                assert all(name.startswith(part["tone"]) for name in names)


@pytest.mark.parametrize("speed", [0.0, 1.5, 6.0])
def test_camera_sees_every_joint_of_every_take(speed: float) -> None:
    clips = [walk(frames=80, speed=speed), walk(frames=60, speed=speed, seed=1)[..., [2, 1, 0]]]
    view = camera.camera(clips)
    seen = np.concatenate([projected(clip, view).reshape(-1, 2) for clip in clips])
    assert np.abs(seen).max() < 1  # all of it is in view …
    assert np.ptp(seen, axis=0).max() > 1.4  # … and fills most of the canvas
    nearer = view | {"distance": view["distance"] / 1.5}
    assert max(np.abs(projected(clip, nearer)).max() for clip in clips) > 1


def test_camera_sees_the_crown_of_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    head = HUMANML3D.joints.index("head")
    _, skull = next(p["balls"] for p in flesh.body(HUMANML3D)["parts"] if p["balls"][0]["of"][0] == [head, 1.08])

    def highest(view: dict, joints: np.ndarray) -> float:
        crown = sum(weight * joints[:, joint] for joint, weight in skull["of"]) + np.array((0, skull["radius"], 0))
        return projected(crown, view)[:, 1].max()

    standing = [clip.joints for clip in generate(6, seed=5)]
    assert all(highest(camera.camera([joints]), joints) < 1 for joints in standing)
    monkeypatch.setattr(camera, "ROOM", 0.05)
    assert max(highest(camera.camera([joints]), joints) for joints in standing) > 1


def test_contacts_are_where_a_low_toe_is_slow() -> None:
    joints = np.tile(walk(frames=1), (30, 1, 1))
    left, right = HUMANML3D.left_foot[1], HUMANML3D.right_foot[1]
    joints[:, left, 1], joints[:, right, 1] = 0.02, 0.02
    joints[10:20, left, 1] = 0.2  # lifted
    joints[:, right, 2] = np.arange(30) / 20  # slides at 1 m/s: no contact
    assert payload.contacts(joints, HUMANML3D, fps=20) == [[0, 0, 8], [0, 21, 29]]
    assert payload.contacts(joints[:1], HUMANML3D, fps=20) == [[0, 0, 0], [1, 0, 0]]


def test_page_escapes_text(tmp_path: Path) -> None:
    nasty = [Scene(NASTY, (Take(NASTY, walk(), note=NASTY),))]
    path = write_page(tmp_path / "page.html", nasty, title=NASTY, fps=20, summary=[{NASTY: NASTY, "FID": "0.1"}])
    reader = Reader(path.read_text(encoding="utf-8"))
    for tag in ("title", "h1", "h2", "strong", "small"):
        assert reader.texts[tag] == [NASTY]
    assert reader.texts["th"] == [NASTY, "FID", NASTY]
    assert reader.texts["td"] == ["0.1"]
    assert len(reader.texts["script"]) == 2
    assert "b" not in reader.texts


def test_document_data_cannot_close_its_script() -> None:
    text = html.document("base.html", title=NASTY, motions={"text": NASTY})
    data, _ = Reader(text).texts["script"]
    assert data.count("<") == 0
    assert json.loads(data) == {"text": NASTY}
    with pytest.raises(UndefinedError, match="title"):
        html.document("base.html", motions={})


def test_page_shows_figures_of_every_take(tmp_path: Path) -> None:
    still, moving = Take("still", walk(speed=0)), Take("walks", walk(speed=2), metrics={"R@1 <": "0.5 & more"})
    path = write_page(tmp_path / "page.html", [Scene("a person", (still, moving))], title="Walks", fps=20)
    reader = Reader(path.read_text(encoding="utf-8"))
    assert reader.texts["dt"] == ["length", "path", "skating"] * 2 + ["R@1 <"]
    assert reader.texts["dd"][3:] == ["2.0 s", "3.9 m", "100 %", "0.5 & more"]  # on straight legs, all the way
    assert reader.texts["dd"][2] == "0 %"
    assert figures(walk(frames=1), fps=20) == {"length": "0.1 s"}  # one frame: it has no path


def test_page_folds_further_tables_so_that_motions_come_first(tmp_path: Path) -> None:
    more = {"Curve": [{"model": "AdaQF", "FID": "1"}], "Empty": []}
    path = write_page(
        tmp_path / "page.html", scenes(), title="Walks", fps=20, summary=[{"model": "AdaQF", "FID": "2"}], more=more
    )
    before, _, folded = path.read_text().partition('<details class="figures"><summary>Curve</summary>')
    assert before.count("<table>") == folded.partition("</details>")[0].count("<table>") == 1


def test_page_summary_row_may_lack_a_column(tmp_path: Path) -> None:
    rows = [{"method": "ground truth", "FID": "0.0"}, {"method": "AdaQF", "R-precision": "0.7"}]
    path = write_page(tmp_path / "page.html", scenes(), title="Walks", fps=20, summary=rows)
    reader = Reader(path.read_text(encoding="utf-8"))
    assert reader.texts["th"] == ["method", "FID", "R-precision", "ground truth", "AdaQF"]
    assert reader.texts["td"] == ["0.0", "", "", "0.7"]


# Errors -----------------------------------------------------------------------------------------------------------


def with_nan() -> np.ndarray:
    joints = walk()
    joints[7, 3] = np.nan
    return joints


@pytest.mark.parametrize(
    ("joints", "says"),
    [
        (with_nan(), "1 of 40 frames hold NaN or infinity, the first is frame 7"),
        (walk() * np.inf, "NaN or infinity"),
        (walk()[:, :20], "20 joints: expected 22"),
        (walk()[0], "shape (22, 3), expected (T, J, 3)"),
        (walk()[:0], "at least one frame"),
        (np.zeros((40, 263)), "features.decode"),
        (walk() * 1000, "Divide by 1000"),
        ([["a"]], "not an array of numbers"),
    ],
)
def test_page_names_a_bad_take_and_writes_nothing(tmp_path: Path, joints: np.ndarray, says: str) -> None:
    bad = [*scenes(), Scene("it jumps", (Take("ground truth", walk()), Take("baseline", joints)))]
    with pytest.raises(ValueError, match=re.escape(says)) as error:
        write_page(tmp_path / "new" / "page.html", bad, title="Walks", fps=20)
    assert str(error.value).startswith("Scene 1 ('it jumps'), take 1 ('baseline'): ")
    assert list(tmp_path.iterdir()) == []


def test_page_rejects_empty_scenes(tmp_path: Path) -> None:
    for given, fps, says in (
        ([], 20, "No scenes"),
        ([Scene("nobody", ())], 20, r"Scene 0 \('nobody'\) has no takes"),
        (scenes(), 0, "fps is 0"),
        (scenes(), math.nan, "fps is nan"),
    ):
        with pytest.raises(ValueError, match=says):
            write_page(tmp_path / "page.html", given, title="Walks", fps=fps)
    assert list(tmp_path.iterdir()) == []


def test_page_survives_an_interrupted_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_page(tmp_path / "page.html", scenes(), title="Old", fps=20)
    old = path.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full_disk)
        with pytest.raises(OSError, match="No space left"):
            write_page(path, scenes(), title="New", fps=20)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]
    write_page(path, scenes(), title="New", fps=20)
    assert path.read_bytes() != old
    assert list(tmp_path.iterdir()) == [path]
