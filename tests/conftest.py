"""Fixtures that several test files share: the shared data when present, and a tiny data set and configuration."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adaqf_train.cli import main
from adaqf_train.config import (
    DenoiserConfig,
    EncoderConfig,
    EvaluationConfig,
    EvaluatorConfig,
    ExtractorConfig,
    JointEvaluatorConfig,
    PocketClipConfig,
    RunConfig,
    SamplingConfig,
    TrainingConfig,
    recipes,
)
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.layout import Caption, CaptionedMotion, write_folder
from adaqf_train.procedural import generate
from tests.helpers import settings_of

CHECKOUT = Path(__file__).resolve().parent.parent
TINY_CLIPS = 80
LONGEST = (  # the files with the most processor time; pytest-xdist keeps this order with --no-loadscope-reorder
    "test_study_runner.py",
    "test_processes.py",
    "test_readme.py",
    "test_towers.py",
    "test_launch.py",
    "test_bench.py",
    "test_fit_adaqf.py",
    "test_benchmarks.py",
    "test_parity.py",
    "test_scoring.py",
    "test_official_evaluators.py",
    "test_fuzz.py",
    "test_integrity.py",
    "test_fit_moclip.py",
    "test_precision.py",
    "test_cli.py",
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def pytest_configure() -> None:
    """Give each worker of pytest-xdist one thread: workers with several threads each would compete for the cores."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` on machines without CUDA, and begin with the files that take longest.

    A file that begins last would keep one worker busy while the others have nothing to do.
    """
    items.sort(key=lambda item: next((i for i, name in enumerate(LONGEST) if item.path.name == name), len(LONGEST)))
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="module", autouse=True)
def frozen() -> None:
    """Leave what is loaded so far out of garbage collection.

    Half a million objects of torch and transformers make a collection take a quarter of a second, and every training
    ends with one. Objects that a test makes are collected as ever.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """shared(name): a folder of the shared motion data, or a skip that says where it was looked for."""
    root = Path(os.environ.get("ADACLIP_SHARED", CHECKOUT.parent / "shared"))

    def find(name: str) -> Path:
        for folder in (root / "data" / name, root / name):
            if folder.is_dir():
                return folder
        pytest.skip(f"{name} is not in {root} (set ADACLIP_SHARED to the folder of the shared data)")

    return find


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium driven by playwright, or a skip that says what is missing."""
    driver = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra dev")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser on this machine: none of {', '.join(BROWSERS)} is on the PATH")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def browse(chromium: Any) -> Iterator[Callable[..., Any]]:
    """browse(path, at="#…", **context): a page of its own, with `requests`, whose script must not fail."""
    opened, complaints = [], []

    def browse(path: Path, at: str = "", **context: Any) -> Any:
        opened.append(chromium.new_context(**{"viewport": {"width": 1200, "height": 900}} | context))
        page = opened[-1].new_page()
        page.requests = []
        page.on("request", lambda request: page.requests.append(request.url.partition("#")[0]))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        page.goto(path.as_uri() + at)
        return page

    yield browse
    for context in opened:
        context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A HumanML3D folder of a few procedural clips. Read it, do not write to it."""
    folder = tmp_path_factory.mktemp("tiny") / "data"
    clips = (
        CaptionedMotion(
            clip.name,
            clip.joints,
            tuple(map(Caption, clip.captions)),
            ("train", "train", "train", "val", "test")[index % 5],  # small splits that are never empty
        )
        for index, clip in enumerate(generate(TINY_CLIPS, seed=5))
    )
    write_folder(folder, clips)
    return folder


@pytest.fixture(scope="session")
def tiny_train(tiny_data: Path) -> MotionDataset:
    return MotionDataset(tiny_data, "train")


@pytest.fixture(scope="session")
def tiny_config() -> RunConfig:
    """The pocket recipe with networks of a few thousand parameters and a handful of steps."""
    return replace(
        recipes.load("pocket"),
        pocket_clip=PocketClipConfig(
            vocabulary=600, width=16, layers=2, heads=2, feedforward=32, projection=16, steps=3, batch=8
        ),
        encoder=EncoderConfig(base="pocket", rank=2, alpha=2),
        extractors=ExtractorConfig(movement=16, motion_hidden=8, text_hidden=8, embedding=8, steps=3, batch=8),
        evaluator=EvaluatorConfig(width=16, layers=1, heads=2, feedforward=16, embedding=4, steps=3, batch=8),
        joint_evaluator=JointEvaluatorConfig(width=16, layers=2, embedding=4, steps=3, batch=8),
        denoiser=DenoiserConfig(width=16, layers=2, heads=2, feedforward=16, frames_per_token=4),
        training=TrainingConfig(
            steps=6, batch=8, learning_rate=1e-3, drop_at=4, ema=0.9, workers=0, checkpoint_every=2, log_every=1
        ),
        sampling=SamplingConfig(scheduler="ddim", steps=2),
        evaluation=EvaluationConfig(
            replications=2, multimodality_texts=4, multimodality_repeats=3, multimodality_pairs=2
        ),
    )


@pytest.fixture(scope="session")
def tiny_run(tiny_data: Path, tiny_config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of `pipeline` on the tiny data set. Read it, do not write to it."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    command = ["pipeline", "--recipe", "pocket", "--data", str(tiny_data), "--out", str(out)]
    assert main([*command, *settings_of(tiny_config)]) == 0
    return out
