"""Python processes that start within a second: a server imports the heavy packages once and forks for each of them.

They are real processes, with their own memory, streams, signals and exit code. Tests of what a fresh interpreter
imports, or of variables that are read while packages are imported, start `sys.executable` instead.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

PRELOADED = (
    "torch",
    "accelerate",
    "peft",
    "diffusers.schedulers.scheduling_dpmsolver_multistep",
    "transformers.models.clip.modeling_clip",
    "transformers.models.clip.tokenization_clip",
    "adaclip.model",
    "adaqf_train.cli",
    "adaqf_train.runs.stages",
    "adaqf_train.runs.scoring",
    "tests.frozen",
)
# Networks of the tests' sizes run fastest on one thread, and a busy machine punishes a second one.
AT_START = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
TIMEOUT = 240  # seconds


class Python:
    """A running `python COMMAND…`: -c CODE, -m MODULE or a script, and its arguments."""

    def __init__(self, *command: str, folder: Path | None = None, **variables: str) -> None:
        """Start it in a folder, with changed environment variables."""
        self.command, self._streams = command, Path(tempfile.mkdtemp())
        arguments = (command, str(self._streams), str(folder or Path.cwd()), os.environ | AT_START | variables)
        self.process: ForkServerProcess = _server().Process(target=_run, args=arguments)
        self.process.start()
        self.pid: int = self.process.pid

    @property
    def running(self) -> bool:
        return self.process.is_alive()

    def read(self, stream: str) -> str:
        """What it wrote to `stdout` or `stderr` so far."""
        path = self._streams / stream
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    def done(self, timeout: float = TIMEOUT) -> subprocess.CompletedProcess:
        """Wait for its end; kill it after `timeout` seconds."""
        self.process.join(timeout)
        if self.running:
            self.process.kill()
            self.process.join()
            raise subprocess.TimeoutExpired(self.command, timeout, self.read("stdout"), self.read("stderr"))
        output = self.read("stdout"), self.read("stderr")
        shutil.rmtree(self._streams)
        return subprocess.CompletedProcess(self.command, self.process.exitcode, *output)


def run(*command: str, folder: Path | None = None, **variables: str) -> str:
    """Run `python COMMAND…`, which must succeed; return its standard output."""
    done = Python(*command, folder=folder, **variables).done()
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def _server() -> multiprocessing.context.ForkServerContext:
    """The server; the first call starts it."""
    from multiprocessing import forkserver

    context, before = multiprocessing.get_context("forkserver"), dict(os.environ)
    os.environ.update(AT_START)
    context.set_forkserver_preload(list(PRELOADED))
    forkserver.ensure_running()
    os.environ.clear()
    os.environ.update(before)
    return context


def _run(command: Sequence[str], streams: str, folder: str, variables: Mapping[str, str]) -> None:
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(Path(streams) / name, os.O_WRONLY | os.O_CREAT), stream)
    sys.stdout.reconfigure(line_buffering=True)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    script, *arguments = command
    if script in ("-c", "-m"):
        sys.path.insert(0, folder)
        subject, *arguments = arguments
    sys.argv = [script, *arguments]
    if script == "-c":
        exec(compile(subject, "<string>", "exec"), {"__name__": "__main__"})
    elif script == "-m":
        runpy.run_module(subject, run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(script).parent))
        runpy.run_path(script, run_name="__main__")
