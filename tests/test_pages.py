"""Every page: its links, the commands it shows, and the files, settings and options it names exist."""

from __future__ import annotations

import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path

import pytest
import tyro
from adaclip_integrations.__main__ import CODEBASES
from adaclip_integrations.launch import _parse

from adaclip import cli as adaclip_cli
from adaqf_train.cli import VERBS, parse
from adaqf_train.config import RunConfig
from tests.helpers import blocks

CHECKOUT = Path(__file__).resolve().parent.parent
PLACES = ("*.md", "docs/*.md", "docs/guides/*.md", "docs/studies/*.md", "integrations/*.md")
PAGES = {str(path.relative_to(CHECKOUT)): path for place in PLACES for path in sorted(CHECKOUT.glob(place))}
# What was renamed or left stays in the changelog.
CURRENT = [name for name in PAGES if name != "CHANGELOG.md"]
# Programs that are not this project's, and words of the shell.
OTHERS = {"cd", "git", "bash", "hf", "kill", "source", "srun", "tensorboard", "pre-commit"}
SCRIPTS = ("python benchmarks/", "python examples/", "python .ci/", "python tests/")
FILE = r"(?:adaclip|adaqf_train|integrations|tests|docs|benchmarks|examples|\.ci)/[\w./-]*"
LONG = re.compile(r"(?<![\w-])--([a-z][\w.-]+)")


@cache
def text(name: str) -> str:
    return PAGES[name].read_text(encoding="utf-8")


@cache
def prose(name: str) -> str:
    """A page without its code blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", text(name), flags=re.DOTALL | re.MULTILINE)


@cache
def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    page = re.sub(r"^ *```.*?^ *```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", line) for line in re.findall(r"^#+ (.*)$", page, re.MULTILINE)]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def dead_links(path: Path, page: str) -> Iterator[str]:
    """The links and pictures of a page that lead nowhere."""
    pictures = re.findall(r'(?:src|srcset)="([^"]+)"', page)
    for link in [*re.findall(r"\]\(([^)\s]+)\)", page), *pictures]:
        if re.match(r"\w+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("name", PAGES)
def test_links_and_pictures_lead_somewhere(name):
    assert list(dead_links(PAGES[name], prose(name))) == []


def test_dead_links_are_noticed():
    page = "[a](docs/none.md) [b](docs/train.md#none) [c](docs/train.md#1-data) ![d](docs/images/none.png)"
    found = list(dead_links(CHECKOUT / "README.md", page + '<img src="none.jpg">'))
    assert found == ["docs/none.md", "docs/train.md#none", "docs/images/none.png", "none.jpg"]


def commands(name: str) -> list[str]:
    """The commands of a page's shell blocks, without what a shell sets before them."""
    lines = [line for block in blocks("sh", text(name)) for line in block.splitlines()]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found = (re.sub(r"^\s*(?:[A-Z_]+=\S*\s+)+", "", line).strip() for line in joined.splitlines())
    return [line for line in found if line and not re.match(r"[A-Z]=|#", line)]


def check_command(line: str, run: Path) -> None:
    """Parse a command as its program would; fail if that program or its options do not exist."""
    words = shlex.split(line, comments=True)
    if words[0] == "adaqf" or "adaqf_train" in words:
        arguments = words[words.index("adaqf_train") + 1 :] if "adaqf_train" in words else words[1:]
        if "--run" in arguments and arguments[0] in ("evaluate", "retrieval"):  # which read the run's settings
            arguments[arguments.index("--run") + 1] = str(run)
        assert arguments[0] in VERBS, line
        if "NAME" not in arguments:
            assert callable(parse(arguments)), line
    elif words[0] == "adaclip":
        tyro.extras.subcommand_cli_from_dict(adaclip_cli.VERBS, prog="adaclip", args=words[1:])
    elif words[0] == "adaclip-run":
        assert _parse([word for word in words[1:] if word != "…"]).target, line
    elif "adaclip_integrations" in words:
        assert words[words.index("adaclip_integrations") + 1] in CODEBASES, line
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (CHECKOUT / "Makefile").read_text(), flags=re.MULTILINE), line
    elif words[:2] == ["pip", "install"] or words[:3] == ["python", "-m", "pip"]:
        project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
        for extras in re.findall(r"(?:adaclip|\.)\[([\w,]+)\]", line):
            assert set(extras.split(",")) <= project["optional-dependencies"].keys(), line
    elif line.startswith(SCRIPTS):
        source = (CHECKOUT / words[1]).read_text(encoding="utf-8")
        options = [option.replace("-", "_") for option in LONG.findall(" ".join(words))]
        assert all(re.search(rf"\b{option}\b", source) for option in options), line
    elif line.startswith("python -m pytest"):
        assert all((CHECKOUT / word).exists() for word in words if word.startswith("tests/")), line
    else:
        assert words[0] in OTHERS, f"{line}: add {words[0]} to OTHERS if it is another program"


# Of other codebases' checkouts: what a script of theirs receives.
FOREIGN = {name for name in PAGES if name.startswith("integrations/") and name != "integrations/README.md"}


@pytest.mark.parametrize("name", [name for name in CURRENT if name not in FOREIGN and commands(name)])
def test_commands_are_understood(name, tiny_run):
    for line in commands(name):
        check_command(line, tiny_run)


@pytest.mark.parametrize(
    "line",
    [
        "adaqf train --data x --out y --wings 2",
        "accelerate launch -m adaqf_train fly --data x",
        "adaclip encode ADAPTER --wings",
        "make cake",
        "pip install '.[wings]'",
        "python benchmarks/encoder.py --wings",
        "flyctl deploy",
    ],
)
def test_commands_that_do_not_exist_are_noticed(line, tmp_path):
    with pytest.raises((SystemExit, AssertionError)):
        check_command(line, tmp_path)


SETTINGS = {
    group.name: {setting.name for setting in fields(getattr(RunConfig(), group.name))}
    for group in fields(RunConfig)
    if is_dataclass(getattr(RunConfig(), group.name))
}


@cache
def sources() -> str:
    """Everything that the packages, benchmarks and scripts contain."""
    folders = ("adaclip", "adaqf_train", "integrations", "benchmarks", ".ci", "tests/release")
    return "\n".join(path.read_text(encoding="utf-8") for top in folders for path in (CHECKOUT / top).rglob("*.py"))


def unknown(page: str) -> Iterator[str]:
    """Files, settings and verbs in a page's inline code that do not exist; NAME stands for any."""
    for span in re.findall(r"`([^`\n]+)`", page):
        if found := re.match(r"(adaqf|adaclip) ([a-z]+)", span):
            exists = found[2] in (VERBS if found[1] == "adaqf" else adaclip_cli.VERBS)
        elif (found := re.fullmatch(r"(\w+)\.(\w+)(?:[=*].*)?", span)) and found[1] in SETTINGS:
            # `encoder` and `physics` are also names of objects in Python.
            exists = found[2] in SETTINGS[found[1]] or (
                found[1] in ("encoder", "physics") and re.search(rf"\b{found[2]}\b", sources())
            )
        else:
            path = re.fullmatch(FILE, span)
            exists = not path or "NAME" in span or (CHECKOUT / span).exists()
        if not exists:
            yield span


@pytest.mark.parametrize("name", [name for name in CURRENT if name not in FOREIGN])
def test_files_settings_and_verbs_in_pages_exist(name):
    made = {"adaqf_train/generators/regression/"}  # by the reader of docs/adding-a-family.md
    assert set(unknown(prose(name))) - made == set()


@pytest.mark.parametrize("name", [name for name in CURRENT if name not in FOREIGN])
def test_options_in_pages_exist(name):
    named = {option for span in re.findall(r"`([^`\n]+)`", prose(name)) for option in LONG.findall(span)}
    missing = {option for option in named if not any(_spelled(option))}
    assert missing == set()


def _spelled(option: str) -> Iterator[bool]:
    """Whether an option of the command line is a setting, or a name in the code."""
    group, _, rest = option.replace("-", "_").partition(".")
    yield bool(rest) and rest.partition("=")[0] in SETTINGS.get(group, ())
    yield bool(re.search(rf"\b{re.escape(group)}\b", sources())) or f"--{option}" in sources()


def test_unknown_names_are_noticed():
    page = "`adaqf fly`, `training.wings=3`, `docs/none.md`, `adaqf study x`, `training.steps=3`, `docs/train.md`"
    assert list(unknown(page)) == ["adaqf fly", "training.wings=3", "docs/none.md"]


def test_claims_of_the_readme_are_those_of_the_results():
    """Each figure of the README's table of claims stands in docs/results.md."""
    rows = re.findall(r"^\| .+ \| (.+) \| .*(?:\*\*|undecided|not shown).* \|$", text("README.md"), re.MULTILINE)
    assert len(rows) >= 8
    assert [figure for figure in rows if figure not in text("docs/results.md")] == []


def test_drawings_are_those_of_the_script():
    draw = runpy.run_path(str(CHECKOUT / ".ci" / "draw.py"))
    for name in ("method", "features"):
        assert (CHECKOUT / "docs" / "images" / f"{name}.svg").read_text(encoding="utf-8") == draw[name]()
