"""Imports point one way: the encoder knows nothing of motions, and each layer of the trainer only what is below it."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
# A layer may import itself and what stands before it.
LAYERS = (
    ("errors", "seeding", "philox", "config", "motion"),
    ("procedural", "data", "artefacts", "layers", "render"),
    ("training", "doctor", "files"),
    ("judges", "encoders"),
    ("generators",),
    ("evaluation", "ui"),
    ("runs", "userstudy"),
    ("studies",),
    ("cli",),
    ("run", "__main__"),
)
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
# Rooms on one floor that must not know each other.
SIDEWAYS = {
    ("motion", "config"),
    ("config", "motion"),
    ("procedural", "data"),
    ("procedural", "layers"),
    ("render", "data"),
    ("data", "render"),
    ("files", "doctor"),
    ("doctor", "training"),
    ("training", "doctor"),
}


def imported(path: Path, *, for_type_checkers: bool = True) -> Iterator[str]:
    """Absolute names of all modules a file imports, wherever in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not for_type_checkers:
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(path: Path) -> str:
    return path.relative_to(CHECKOUT / "adaqf_train").parts[0].removesuffix(".py")


@pytest.mark.parametrize("folder", ["adaclip", "integrations"])
def test_the_encoder_and_its_integrations_know_nothing_of_training(folder):
    files = list((CHECKOUT / folder).rglob("*.py"))
    assert files
    forbidden = {"adaqf_train"} | ({"adaclip_integrations"} if folder == "adaclip" else set())
    for path in files:
        tops = {name.split(".")[0] for name in imported(path)}
        assert not tops & forbidden, path


def test_the_encoder_names_no_codebase():
    for path in (CHECKOUT / "adaclip").rglob("*.py"):
        assert not re.search(r"\b(mdm|momask|salad)\b", path.read_text(encoding="utf-8"), re.IGNORECASE), path


def test_no_modules_of_the_encoder_and_its_integrations_import_each_other():
    """Imports inside functions count; imports for type checkers do not."""
    modules = {
        ".".join([package, *path.relative_to(CHECKOUT / folder).with_suffix("").parts]).removesuffix(".__init__"): path
        for folder, package in (("adaclip", "adaclip"), ("integrations", "adaclip_integrations"))
        for path in (CHECKOUT / folder).rglob("*.py")
    }
    graph = {}
    for module, path in modules.items():
        names = set(imported(path, for_type_checkers=False))
        found = {name if name in modules else name.rpartition(".")[0] for name in names} & modules.keys()
        graph[module] = found - {module}
    assert sum(map(len, graph.values())) > 60
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_the_trainers_layers_only_look_down():
    looked_at = 0
    for path in (CHECKOUT / "adaqf_train").rglob("*.py"):
        if path.name == "__init__.py" and path.parent.name == "adaqf_train":
            continue
        own = part_of(path)
        for name in imported(path):
            top, _, rest = name.partition(".")
            other = rest.split(".")[0]
            if top != "adaqf_train" or other == own or other not in RANK:
                continue
            looked_at += 1
            assert RANK[other] <= RANK[own], f"{path} imports {name}"
            assert (own, other) not in SIDEWAYS, f"{path} imports {name}"
    assert looked_at > 50


def test_every_part_of_the_trainer_has_a_layer():
    parts = {part_of(path) for path in (CHECKOUT / "adaqf_train").rglob("*.py")} - {"__init__"}
    assert parts == set(RANK)


def test_no_file_hides_a_module_when_run_as_a_script(monkeypatch):
    """run.py takes its own folder off the path, so `config`, `data` and the like stay other people's names."""
    import runpy
    import sys

    script = CHECKOUT / "adaqf_train" / "run.py"
    monkeypatch.setattr(sys, "path", [str(script.parent), *sys.path])
    runpy.run_path(str(script), run_name="not_main")
    assert str(script.parent) not in sys.path
