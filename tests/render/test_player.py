"""The player in a real browser: it plays, obeys mouse, touch and keyboard, and asks the network for nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaqf_train.render.page import write_page
from tests.render.test_page import scenes

pytestmark = pytest.mark.browser

INK = """(index) => {   // of a canvas: the share of pixels that are drawn on, and a number that changes when they do
  const canvas = document.querySelectorAll("canvas")[index];
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let [count, sum] = [0, 0];
  for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200) { count++; sum += data[i] * (i % 9973); }
  return [4 * count / data.length, sum];
}"""
PLAYER = "window.adaclipPlayer"
CAMERA = f"{PLAYER}.scenes[0].camera"


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("player") / "page.html"
    return write_page(path, scenes(8, frames=40), title="Walks", fps=20)


def until(page: Any, condition: str) -> None:
    """Waits for a condition; playwright's own waiting evaluates strings in the page, which its policy forbids."""
    page.evaluate(
        f"""() => new Promise((done, failed) => {{
          setTimeout(failed, 10000, new Error("never true"));
          const look = () => {{ ({condition}) ? done() : setTimeout(look, 20); }};
          look();
        }})"""
    )


def share(page: Any, index: int = 0) -> float:
    return page.evaluate(INK, index)[0]


def picture(page: Any, index: int = 0) -> float:
    """A number that stands for what a canvas shows, once it has been drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.evaluate(INK, index)[1]


def test_player_advances_without_requests(browse: Callable, page_path: Path) -> None:
    page = browse(page_path)
    assert page.evaluate(f"{PLAYER}.playing")
    before = picture(page)
    until(page, f"{PLAYER}.time > 0.3")
    assert picture(page) != before
    page.keyboard.press("Space")
    assert not page.evaluate(f"{PLAYER}.playing")
    still = picture(page)
    page.wait_for_timeout(150)
    assert picture(page) == still
    page.get_by_role("button", name="Play").click()
    page.wait_for_timeout(150)
    assert picture(page) != still
    assert page.requests == [page_path.as_uri()]  # the page itself and nothing else


def test_player_draws_only_takes_in_view(browse: Callable, page_path: Path) -> None:
    page = browse(page_path, at="#paused&t=0.5")
    picture(page)
    for index in range(3):
        assert 0.02 < share(page, index) < 0.5  # a body, not a blank and not a flood
    assert share(page, 23) == 0
    page.locator("canvas").nth(23).scroll_into_view_if_needed()
    page.wait_for_timeout(150)
    assert share(page, 23) > 0.02


def test_player_unpacks_the_motion(browse: Callable, page_path: Path) -> None:
    page = browse(page_path)
    poses = np.array(page.evaluate(f"{PLAYER}.scenes[0].takes[1].poses"))
    assert np.abs(poses - scenes(8, frames=40)[0].takes[1].joints).max() < 0.00051


def test_player_scrubs_and_steps_to_frames(browse: Callable, page_path: Path) -> None:
    page = browse(page_path, at="#paused")
    box = page.locator("#scrub").bounding_box()
    start = picture(page)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert page.evaluate(f"{PLAYER}.time") == pytest.approx(1.95 / 2, abs=0.03)
    assert picture(page) != start
    page.evaluate(f"{PLAYER}.seek(0.5)")
    middle = picture(page)
    assert page.locator("#clock").inner_text() == "0.50 / 1.95 s"
    page.keyboard.press("ArrowRight")
    assert page.evaluate(f"{PLAYER}.time") == pytest.approx(0.55)
    assert picture(page) != middle
    page.keyboard.press("ArrowLeft")
    assert picture(page) == middle
    page.keyboard.press("End")
    assert page.evaluate(f"{PLAYER}.time") == 1.95
    page.keyboard.press("Home")
    assert page.evaluate(f"{PLAYER}.time") == 0
    assert picture(page) == start
    page.keyboard.press("+")
    assert page.locator("#speed").input_value() == "1.5"


def test_player_interpolates_between_frames(browse: Callable, page_path: Path) -> None:
    page = browse(page_path, at="#paused&t=0.5")
    pictures = {picture(page)}
    for time in (0.51, 0.52, 0.53, 0.54):  # all within one frame of 0.05 s
        page.evaluate(f"{PLAYER}.seek({time})")
        pictures.add(picture(page))
    assert len(pictures) == 5


def test_player_mouse_orbits_and_zooms_one_scene(browse: Callable, page_path: Path) -> None:
    page = browse(page_path, at="#paused&t=0.5")
    first, yaw = picture(page), page.evaluate(f"{CAMERA}.yaw")
    other = page.evaluate(f"JSON.stringify({PLAYER}.scenes[1].camera)")
    box = page.locator("canvas").first.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.move(box["x"] + 130, box["y"] + 100)  # no button: nothing turns
    assert picture(page) == first
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 100, steps=3)
    assert page.evaluate(f"{CAMERA}.yaw") == pytest.approx(yaw - 30 / 150)
    assert picture(page) != first
    page.mouse.wheel(0, -200)
    until(page, f"{CAMERA}.zoom > 1.2")
    page.mouse.up()
    assert page.evaluate(f"JSON.stringify({PLAYER}.scenes[1].camera)") == other
    page.mouse.wheel(0, 200)  # no button: the page scrolls
    until(page, "scrollY > 100")
    page.evaluate("scrollTo(0, 0)")
    page.locator("canvas").first.dblclick()
    assert picture(page) == first


def test_player_keys_orbit_zoom_follow_and_change_the_theme(browse: Callable, page_path: Path) -> None:
    page = browse(page_path, at="#paused&t=0.5", color_scheme="light")
    first = picture(page)
    page.locator(".takes").first.focus()
    page.keyboard.press("Shift+ArrowRight")
    assert picture(page) != first
    assert page.evaluate(f"{PLAYER}.time") == 0.5
    page.locator("canvas").first.dblclick()
    page.keyboard.press("i")
    assert page.evaluate(f"{CAMERA}.zoom") > 1
    page.keyboard.press("o")
    assert page.evaluate(f"{CAMERA}.zoom") == pytest.approx(1)
    page.keyboard.press("f")
    assert picture(page) != first
    page.keyboard.press("f")
    assert picture(page) == first
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert picture(page) != first


def test_player_zooms_with_two_fingers(browse: Callable, page_path: Path) -> None:
    page = browse(page_path, at="#paused&t=0.5", viewport={"width": 390, "height": 844}, has_touch=True)
    touch = page.context.new_cdp_session(page)
    box = page.locator("canvas").first.bounding_box()
    middle_x, middle_y = box["x"] + box["width"] / 2, box["y"] + 60

    def fingers(kind: str, apart: float) -> None:
        points = [{"x": middle_x + side * apart, "y": middle_y, "id": n} for n, side in enumerate((-1, 1))]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points if kind != "touchEnd" else []})

    fingers("touchStart", 30)
    for apart in (40, 50, 60):
        fingers("touchMove", apart)
    fingers("touchEnd", 60)
    assert page.evaluate(f"{CAMERA}.zoom") == pytest.approx(2, abs=0.15)


def test_player_follows_the_preferences_of_the_browser(browse: Callable, page_path: Path) -> None:
    page = browse(page_path, color_scheme="dark", reduced_motion="reduce")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert not page.evaluate(f"{PLAYER}.playing")
    page.emulate_media(color_scheme="light")
    until(page, "document.documentElement.dataset.theme === 'light'")


@pytest.mark.parametrize("width", [320, 800, 1920])
def test_page_never_scrolls_sideways(browse: Callable, page_path: Path, width: int) -> None:
    page = browse(page_path, at="#paused", viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
