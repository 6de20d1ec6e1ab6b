"""What is asked of a generator: segments and lengths as documented, and one clear error before anything is computed."""

from __future__ import annotations

import numpy as np
import pytest

from adaqf_train.errors import ConfigError
from adaqf_train.generators.requests import LONGEST, Limits, Request, requests_of

LIMITS = Limits(fps=20.0, unit_frames=4, max_frames=200)


def lengths(prompts, seconds):
    return [request.frames for request in requests_of(prompts, seconds, LIMITS)]


def test_a_prompt_is_one_segment_unless_it_has_bars_with_space_around():
    prompts = ["a person walks", "walk forward | turn left |  sit ", "a|b"]
    found = requests_of(prompts, 2.0, LIMITS)
    assert [request.texts for request in found] == [
        ("a person walks",),
        ("walk forward", "turn left", "sit"),
        ("a|b",),
    ]
    assert found[1] == Request(("walk forward", "turn left", "sit"), (40, 40, 40))


def test_seconds_are_for_all_for_each_prompt_or_for_each_segment():
    assert lengths(["a", "b | c"], 3) == [(60,), (60, 60)]
    assert lengths(["a", "b | c"], [2, 4.0]) == [(40,), (80, 80)]
    assert lengths(["a", "b | c"], [2, [1, 3]]) == [(40,), (20, 60)]
    assert lengths(["a", "b"], np.array([1.0, 2.0])) == [(20,), (40,)]
    assert lengths("a", 2.0) == [(40,)]
    assert lengths(["a", "b"], np.array(4.0)) == [(80,), (80,)]
    assert lengths(["a | b"], np.array([[1.0, 2.0]])) == [(20, 40)]


def test_a_single_string_takes_the_seconds_of_its_segments():
    assert lengths("a | b", [2, 3.0]) == lengths("a | b", np.array([2, 3])) == lengths("a | b", [[2, 3]]) == [(40, 60)]
    with pytest.raises(ConfigError, match="seconds has 2 values for 1 prompts"):
        lengths(["a | b"], [2, 3])  # of a list of prompts, the seconds are the prompts'


@pytest.mark.parametrize(("seconds", "frames"), [(0.2, 4), (0.39, 4), (4.6, 92), (9.8, 196), (9.99, 196)])
def test_lengths_are_whole_units_rounded_down(seconds, frames):
    assert lengths("a", seconds) == [(frames,)]


@pytest.mark.parametrize(
    "seconds",
    [
        *(0, 0.0, -1, 0.1, 10.0, 1e9, 1e308, float("nan"), float("inf"), -float("inf"), True, None, b"4"),
        pytest.param(10**400, id="10**400"),
        pytest.param(-(10**5000), id="-10**5000"),
    ],
)
def test_lengths_outside_of_the_limits_are_refused(seconds):
    with pytest.raises(ConfigError, match=r"seconds must lie between 0\.2 and 9\.8, got .* for 'walk'"):
        lengths(["walk"], seconds)


def test_a_length_that_is_no_number_is_refused():
    with pytest.raises(ConfigError, match="got '4'"):
        lengths(["walk"], "4")


def test_too_long_names_the_way_to_go_longer_and_too_short_does_not():
    with pytest.raises(ConfigError, match=r"walk forward \| turn left"):
        lengths(["walk"], 20)
    with pytest.raises(ConfigError) as short:
        lengths(["walk"], 0)
    assert "segments" not in str(short.value)


def test_a_segments_window_must_fit_the_model():
    assert lengths(["a | b"], 8.6) == [(172, 172)]
    with pytest.raises(ConfigError, match=r"a segment's seconds must lie between 0\.2 and 8\.6, got 9 for 'a'"):
        lengths(["a | b"], 9)


@pytest.mark.parametrize(
    ("prompts", "seconds", "message"),
    [
        ([], 4.0, "There is no prompt"),
        ([""], 4.0, "The prompt '' is blank"),
        (["walk", " \n\t"], 4.0, "is blank"),
        (["&nbsp;"], 4.0, "is blank"),
        (["walk | "], 4.0, r"Segment 2 of 'walk \| ' is blank"),
        (["walk |  | sit"], 4.0, "Segment 2"),
        (["|"], 4.0, "Segment 1"),
        (["walk", "sit"], [4.0], "seconds has 1 values for 2 prompts"),
        (["walk"], [], "seconds has 0 values for 1 prompts"),
        (["walk | sit"], [[1, 2, 3]], r"seconds has 3 values for 2 segments of 'walk \| sit'"),
    ],
)
def test_what_cannot_be_made_is_named(prompts, seconds, message):
    with pytest.raises(ConfigError, match=message):
        requests_of(prompts, seconds, LIMITS)


@pytest.mark.parametrize("prompt", ["{}", "walk | {}"])
def test_a_text_that_is_no_sentence_is_refused_by_its_length(prompt):
    requests_of(prompt.format("a" * LONGEST), 4.0, LIMITS)
    with pytest.raises(ConfigError, match="has 10000 characters, more than 2000") as refusal:
        requests_of(prompt.format("a" * 10_000), 4.0, LIMITS)
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize("prompts", [[3], ["walk", None], [b"walk"], 3, {"walk"}, None])
def test_only_strings_are_prompts(prompts):
    with pytest.raises(TypeError, match="rompt"):
        requests_of(prompts, 4.0, LIMITS)
