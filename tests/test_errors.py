"""The trainer's errors have one root, and the command line prints every one of them as a line."""

from __future__ import annotations

import ast
import errno
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest
import torch

import adaqf_train
from adaclip import AdaCLIPError
from adaclip import cli as adaclip_cli
from adaqf_train import cli, errors

PACKAGE = Path(adaqf_train.__file__).parent
ERRORS = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, errors.AdaQFError)]


def test_errors_of_the_trainer_are_all_defined_in_one_module():
    """All classes of the package that are exceptions, in every module of it."""
    found = set()
    for module in pkgutil.walk_packages([str(PACKAGE)], "adaqf_train."):
        if module.name.endswith(("__main__", ".run")) and module.name.count(".") == 1:
            continue  # scripts
        for kind in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__.startswith("adaqf_train"):
                found.add(kind)
    # A fault of a file is a finding of the examination: it and private signals are caught in the room that raises them.
    found = {kind for kind in found if kind.__qualname__ != "Fault" and not kind.__qualname__.startswith("_")}
    assert found == {*ERRORS, errors.TrainingStopped}
    assert not any(issubclass(kind, AdaCLIPError) for kind in found)
    assert len(found) > 10


def test_errors_of_the_encoder_are_not_raised_by_the_trainer():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and node.exc is not None:
                raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                assert getattr(raised, "id", "") not in ("AdaCLIPError", "FileError"), f"{path}:{node.lineno}"


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_errors_are_one_line_on_the_command_line(kind, monkeypatch, capsys):
    text = "data.npy: broken.\n  Restore it."

    def fail(self) -> None:
        raise kind([text] if kind is errors.FilesError else text)

    monkeypatch.setattr(cli.Demo, "__call__", fail)
    assert cli.main([]) == 1
    assert capsys.readouterr().err == "error: data.npy: broken. Restore it.\n"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/b.json"), "a/b.json: No space left on device. Make room"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), "a: Permission denied. Change its permissions"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a"), "a: No such file or directory. Check the"),
        (MemoryError(), "The memory is full (MemoryError). Lower batch sizes"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory:\n 8 bytes"), "The memory is full (DefaultCPU"),
        (torch.OutOfMemoryError("CUDA out of memory."), "The memory is full (CUDA out of memory.). Lower batch sizes"),
    ],
)
def test_errors_of_the_system_are_one_line_on_the_command_line(error, says, monkeypatch, capsys):
    def fail(self: object) -> None:
        raise error

    monkeypatch.setattr(cli.Demo, "__call__", fail)
    monkeypatch.setattr(adaclip_cli.Info, "__call__", fail)
    for main, arguments, start in ((cli.main, [], "error: "), (adaclip_cli.main, ["info", "a"], "adaclip: ")):
        assert main(arguments) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(start + says)


def test_faults_of_the_program_keep_their_traceback(monkeypatch):
    def fail(self: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(cli.Demo, "__call__", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        cli.main([])
