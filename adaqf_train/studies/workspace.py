"""The run folders of a study: one for each training, claimed by one process at a time, with stages that they share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from rich.console import Console

from adaqf_train.config import RunConfig, digest
from adaqf_train.errors import RunLocked
from adaqf_train.runs.folder import RunFolder
from adaqf_train.runs.stages import Pipeline
from adaqf_train.studies.schema import Arm
from adaqf_train.studies.transfer import Transfer, codec_of
from adaqf_train.studies.trial import Setup

PATIENCE = 5.0  # seconds between two looks at what another process is training
Decision = TypeVar("Decision")


@dataclass(frozen=True)
class Workspace:
    """Where the trainings of a study take place."""

    setup: Setup
    accelerator: Accelerator
    path: Path
    console: Console = field(default_factory=lambda: Console(stderr=True))

    def run(self, name: str) -> RunFolder:
        return RunFolder(self.path / name, self.accelerator)

    @contextmanager
    def claimed(self, run: RunFolder) -> Iterator[None]:
        """Lock a folder. If another launch has the lock, every process of this launch raises RunLocked."""
        with ExitStack() as stack:
            refused = None
            try:
                stack.enter_context(run.locked())
            except RunLocked as error:
                refused = str(error)
            if refused := agreed(refused):
                raise RunLocked(refused)
            yield

    def once(self, run: RunFolder, done: Callable[[], bool], make: Callable[[], None]) -> None:
        """Make something in a folder unless it is there, or wait for the process that is making it."""
        while not agreed(done()):
            try:
                with self.claimed(run):
                    make()
            except RunLocked:
                time.sleep(PATIENCE)

    def pipeline(self, run: RunFolder, label: str, arm: Arm, seed: int) -> Pipeline:
        """The run of an arm, with the stages that it shares with other trials."""
        run.borrow_from(shared := self._shared(label, arm))
        pipeline = self._opened(run, self.setup.at(label).arm_config(arm, seed), label)
        self._train_shared(pipeline, arm)
        if pipeline.config.alignment.steps and arm.kind == "mdm" and arm.encoder is None:
            run.borrow_from(self._aligned(label, pipeline, shared))
        return pipeline

    def _shared(self, label: str, arm: Arm) -> Path:
        """A run with the stages that the trials on a data set share, trained unless they are there."""
        setup = self.setup.at(label)
        parts = asdict(setup.config)
        common = {name: parts[name] for name in ("data", "pocket_clip", "extractors", "evaluator", "joint_evaluator")}
        common |= {"base": setup.base_key, "train": setup.fingerprint(label, "train")}
        run = self.run(f"{label}-shared-{digest(common)[:8]}")
        wanted = {"extractors"} if arm.kind == "extractors" else {"extractors", "evaluator", "joint_evaluator"}
        codec = codec_of(arm.kind)
        wanted |= {codec.stage} if codec else set()
        self.once(
            run,
            lambda: wanted <= run.stages().keys(),
            lambda: self._train_shared(self._opened(run, setup.config, label), arm),
        )
        return run.path

    def _aligned(self, label: str, like: Pipeline, shared: Path) -> Path:
        """A run with the encoder that a pipeline starts from, which other arms share, aligned unless it is there."""
        run = self.run(f"{label}-aligned-{like.key('aligned')[:8]}")

        def make() -> None:
            run.borrow_from(shared)
            self._opened(run, like.config, label).aligned()

        self.once(run, lambda: run.aligned.name in run.stages(), make)
        return run.path

    def _opened(self, run: RunFolder, config: RunConfig, label: str) -> Pipeline:
        pipeline = Pipeline(run, config, self.setup.data[label], base=self.setup.base)
        pipeline.check()
        run.write_config(config, pipeline.data, pipeline.base_revision())
        return pipeline

    def _train_shared(self, pipeline: Pipeline, arm: Arm) -> None:
        """Train or borrow what the trials of an arm's kind share."""
        pipeline.extractors()
        if arm.kind != "extractors":
            pipeline.evaluator()
            pipeline.joint_evaluator()
        if codec_of(arm.kind):
            Transfer(pipeline, self.setup.families).codec(arm.kind)


def agreed(decision: Decision) -> Decision:
    """The decision of the main process, on every process of the launch: their views of a changing disk may differ."""
    (decision,) = broadcast_object_list([decision])
    return decision
