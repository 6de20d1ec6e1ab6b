"""Edits of other people's files: small, all or none, and undone to the byte, whatever the files are like."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess

import pytest
from adaclip_integrations import patching
from adaclip_integrations.__main__ import located, main
from adaclip_integrations.codebases import codebase as codebase_of
from adaclip_integrations.codebases import recognised
from adaclip_integrations.patching import MARK, SeamError

from adaclip.files import PARTIAL
from tests.integrations.stand_ins import CODEBASES, SEAM, TABLE, contents, write

codebases = pytest.mark.parametrize("codebase", CODEBASES)
NOWHERE = "nobody/has-this-adapter"


def module(codebase: str):
    return importlib.import_module(f"adaclip_integrations.{codebase}")


@codebases
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_edits_are_small_and_undone_to_the_byte(codebase, end, tmp_path):
    write(codebase, tmp_path, end)
    before, edits = contents(tmp_path), module(codebase).EDITS
    assert set(module(codebase).check(tmp_path).values()) == {"original"}
    assert module(codebase).apply(tmp_path, NOWHERE) == list(before)
    after = contents(tmp_path)
    assert after.keys() == before.keys()
    changed = [
        (old, new)
        for name in before
        for old, new in zip(before[name].split(end.encode()), after[name].split(end.encode()), strict=True)
        if old != new
    ]
    assert len(changed) == len(edits)
    assert all(new.endswith(MARK.encode() + old) for old, new in changed)
    assert set(module(codebase).check(tmp_path).values()) == {"patched"}
    assert module(codebase).apply(tmp_path, NOWHERE) == []
    assert contents(tmp_path) == after
    assert module(codebase).revert(tmp_path) == list(before)
    assert contents(tmp_path) == before
    assert module(codebase).revert(tmp_path) == []


@codebases
def test_git_sees_nothing_after_a_revert(codebase, tmp_path):
    write(codebase, tmp_path, "\r\n")

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "core.autocrlf=false"]
        return subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "theirs")
    module(codebase).apply(tmp_path, NOWHERE)
    assert len(git("status", "--short").splitlines()) == len(CODEBASES[codebase])
    module(codebase).revert(tmp_path)
    assert git("status", "--short") == ""


@codebases
def test_another_adapter_replaces_the_first(codebase, tmp_path):
    before = contents(write(codebase, tmp_path))
    module(codebase).apply(tmp_path, NOWHERE)
    odd = 'C:\\models\\it\'s "ours"  # adaclip replaces: ünï'
    assert module(codebase).apply(tmp_path, odd) == [SEAM[codebase]]
    text = contents(tmp_path)[SEAM[codebase]].decode()
    assert ascii(odd) in text
    assert NOWHERE not in text
    compile(text, "patched", "exec")
    module(codebase).revert(tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "around",
    [
        (b"\xef\xbb\xbf", b""),
        (b"# -*- coding: latin-1 -*-\n# caf\xe9\n", b"\nTEXT = 'caf\xe9'\n"),
        (b"", b"\r\nmixed = 1\r\nends = 2\n"),
        (b"\n\n", b"\nlast = 'line without an end'"),
    ],
    ids=["byte order mark", "latin-1", "mixed ends", "no last end"],
)
@codebases
def test_odd_files_keep_their_bytes(codebase, around, tmp_path):
    write(codebase, tmp_path)
    path = tmp_path / SEAM[codebase]
    path.write_bytes(around[0] + path.read_bytes() + around[1])
    before = contents(tmp_path)
    module(codebase).apply(tmp_path, NOWHERE)
    patched = path.read_bytes()
    assert patched.startswith(around[0])
    assert patched.endswith(around[1])
    compile(patched, "patched", "exec")
    module(codebase).revert(tmp_path)
    assert contents(tmp_path) == before


@codebases
def test_what_was_changed_in_the_meantime_stays(codebase, tmp_path):
    write(codebase, tmp_path)
    module(codebase).apply(tmp_path, NOWHERE)
    path = tmp_path / SEAM[codebase]
    path.write_bytes(path.read_bytes().replace(b"Linear(512, 4)", b"Linear(512, 5)") + b"MINE = 1\n")
    module(codebase).apply(tmp_path, "another/adapter")
    module(codebase).revert(tmp_path)
    expected = CODEBASES[codebase][SEAM[codebase]].replace("Linear(512, 4)", "Linear(512, 5)") + "MINE = 1\n"
    assert path.read_text() == expected


UNKNOWN = {
    "mdm": [
        ("import clip  # OpenAI's\n", "from clip import load\n"),
        ("import clip  # OpenAI's\n", "import clip as c\n"),
        ("import torch\n", "import torch\nimport clip\n"),
        ("clip.load(", "clip.fetch("),
        ("clip.tokenize", "clip.simple_tokenizer.tokenize"),
        ("clip_model", "text_model"),
        ("def forward(", "def forward(("),
    ],
    "momask": [("return model.eval()", "return model.eval(), clip.available_models()")],
    "salad": [
        ("AutoModel, AutoTokenizer\n", "AutoTokenizer, CLIPModel\n"),
        ("AutoModel.from_pretrained", "AutoModel.from_config"),
        ("last_hidden_state", "pooler_output"),
        ("from transformers.utils import move_cache\n", "move_cache = print\n"),
    ],
}


@pytest.mark.parametrize(("codebase", "old", "new"), [(c, *pair) for c, pairs in UNKNOWN.items() for pair in pairs])
def test_unknown_versions_are_refused_with_nothing_changed(codebase, old, new, tmp_path, capsys):
    write(codebase, tmp_path)
    path = tmp_path / SEAM[codebase]
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    before = contents(tmp_path)
    for action in (module(codebase).check, lambda root: module(codebase).apply(root, NOWHERE)):
        with pytest.raises(SeamError, match=r"looked for .*") as caught:
            action(tmp_path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert main([codebase, str(tmp_path), "--check"]) == 1
    assert main([codebase, str(tmp_path), "--weights", NOWHERE]) == 1
    assert capsys.readouterr().err.count("adaclip_integrations: ") == 2
    assert contents(tmp_path) == before


def test_the_second_file_decides_too(tmp_path):
    write("momask", tmp_path)
    other = tmp_path / "utils" / "eval_t2m.py"
    for content in (other.read_text() + "clip.load('RN50')\n", None):
        if content is None:
            other.unlink()
        else:
            other.write_text(content)
        before = contents(tmp_path)
        with pytest.raises(SeamError, match=r"eval_t2m\.py"):
            module("momask").apply(tmp_path, NOWHERE)
        assert contents(tmp_path) == before
    with pytest.raises(SeamError, match="no such folder"):
        module("momask").apply(tmp_path / "nothing", NOWHERE)


@codebases
def test_read_only_files_are_refused_by_name(codebase, tmp_path):
    write(codebase, tmp_path)
    last = tmp_path / list(CODEBASES[codebase])[-1]
    last.chmod(0o444)
    before = contents(tmp_path)
    assert set(module(codebase).check(tmp_path).values()) == {"original"}
    with pytest.raises(SeamError, match=rf"{last.name}: is read-only.*chmod"):
        module(codebase).apply(tmp_path, NOWHERE)
    assert contents(tmp_path) == before
    last.chmod(0o750)
    module(codebase).apply(tmp_path, NOWHERE)
    assert last.stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, OSError])
def test_a_stop_at_the_second_file_undoes_the_first(stop, tmp_path, monkeypatch):
    write("momask", tmp_path)
    before, replace, calls = contents(tmp_path), os.replace, []

    def stopping(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise stop(5, "stopped")
        replace(source, target)

    monkeypatch.setattr(os, "replace", stopping)
    with pytest.raises(SeamError if stop is OSError else stop):
        module("momask").apply(tmp_path, NOWHERE)
    assert len(calls) == 4  # both were restored
    assert contents(tmp_path) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the child writes files only
@pytest.mark.parametrize("then", ["apply", "revert"])
def test_a_kill_between_two_files_leaves_whole_files_and_no_dead_end(then, tmp_path):
    write("momask", tmp_path)
    before = contents(tmp_path)
    whole = write("momask", tmp_path.with_name("whole"))
    module("momask").apply(whole, NOWHERE)
    replace = os.replace

    def once(source, target):
        if target.name == "eval_t2m.py":
            os._exit(9)  # no handler, no finally: as a kill
        replace(source, target)

    child = os.fork()
    if child == 0:
        os.replace = once
        try:
            module("momask").apply(tmp_path, NOWHERE)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = contents(tmp_path)
    partial = [name for name in left if name.endswith(PARTIAL)]
    assert len(partial) == 1
    for name in before:
        assert left[name] in (before[name], contents(whole)[name])
    assert sorted(module("momask").check(tmp_path).values()) == ["original", "patched"]
    if then == "apply":
        module("momask").apply(tmp_path, NOWHERE)
        assert contents(tmp_path) == contents(whole)
    else:
        module("momask").revert(tmp_path)
        assert contents(tmp_path) == before


def test_a_mark_that_was_removed_by_hand_is_said(tmp_path):
    write("salad", tmp_path)
    module("salad").apply(tmp_path, NOWHERE)
    path = tmp_path / SEAM["salad"]
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if MARK not in line or "move_cache" not in line))
    with pytest.raises(SeamError, match=r"1 of 2 edits.*--revert"):
        module("salad").apply(tmp_path, NOWHERE)
    module("salad").revert(tmp_path)
    assert MARK not in path.read_text()


def by_a_formatter(line: str) -> str:
    """An edited line as ruff and black leave it: one statement a line, long calls wrapped."""
    code, mark, original = line.rpartition(MARK)
    first, _, second = code.partition("; ")
    call, _, argument = second.partition("(")
    return f"{first}\n\n{call}(\n    {argument[:-1]}\n){mark}{original}"


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize(
    "split",
    [
        by_a_formatter,
        lambda line: line.replace("; ", "\n\n", 1),
        lambda line: line.replace("; ", "\n", 1),
        lambda line: line.replace(repr(NOWHERE), f'"{NOWHERE}"'),
    ],
    ids=["wrapped", "split", "split closely", "quotes"],
)
@codebases
def test_what_a_formatter_split_is_undone_to_the_byte(codebase, split, end, tmp_path, capsys):
    write(codebase, tmp_path, end)
    before = contents(tmp_path)
    module(codebase).apply(tmp_path, NOWHERE)
    path = tmp_path / SEAM[codebase]
    line = next(line for line in path.read_bytes().decode().split(end) if MARK in line and "; " in line)
    path.write_bytes(path.read_bytes().replace(line.encode(), split(line).replace("\n", end).encode()))
    compile(path.read_bytes(), "split", "exec")
    if "\n" in split(line):
        for arguments in (["--check"], ["--weights", NOWHERE]):
            assert main([codebase, str(tmp_path), *arguments]) == 1
            assert "changed by a formatter or by hand. Run --revert" in capsys.readouterr().err
    else:
        assert set(module(codebase).check(tmp_path).values()) == {"patched"}
    assert main([codebase, str(tmp_path), "--revert"]) == 0
    assert contents(tmp_path) == before


@codebases
def test_a_line_without_its_mark_is_named(codebase, tmp_path, capsys):
    write(codebase, tmp_path)
    module(codebase).apply(tmp_path, NOWHERE)
    path = tmp_path / SEAM[codebase]
    lines = path.read_text().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if MARK in line and "; " in line)
    lines[number - 1] = lines[number - 1].partition(MARK)[0]
    path.write_text("\n".join(lines) + "\n")
    for action in ("--revert", "--check", "--revert"):
        assert main([codebase, str(tmp_path), action]) == 1
        said = capsys.readouterr().err
        assert f"{path}:{number}: still uses AdaCLIP" in said
        assert said.count("\n") == 1
    assert MARK not in path.read_text()  # what has its mark was restored


@codebases
def test_edited_files_that_were_renamed_or_copied_come_back_too(codebase, tmp_path, capsys):
    write(codebase, tmp_path)
    original = (tmp_path / SEAM[codebase]).read_bytes()
    module(codebase).apply(tmp_path, NOWHERE)
    edited = tmp_path / SEAM[codebase]
    renamed, copied, nested = (tmp_path / name for name in ("renamed.py", "deep/copied.py", "nested/of_its_own.py"))
    for path in (copied, nested):
        path.parent.mkdir()
        path.write_bytes(edited.read_bytes())
    (nested.parent / ".git").mkdir()
    edited.rename(renamed)
    tools = tmp_path / "tools.py"
    tools.write_text(f"MARK = {MARK!r}\nimport adaclip_integrations\n")
    assert main([codebase, str(tmp_path), "--revert"]) == 0
    assert "renamed.py: reverted" in capsys.readouterr().out
    assert renamed.read_bytes() == copied.read_bytes() == original
    assert MARK in nested.read_text()
    assert MARK in tools.read_text()


LOADERS = {
    "import": "import clip\n\n\ndef load():\n    return clip.load('ViT-B/32')\n",
    "from": "from clip import load as their_load\n",
    "other name": "import clip as openai\nM, _ = openai.load('ViT-B/32')\n",
    "open_clip": "import open_clip\nM = open_clip.create_model('ViT-B-32', pretrained='openai')\n",
    "transformers": "from transformers import CLIPTextModel\nM = CLIPTextModel.from_pretrained(PATH)\n",
    "auto": "import transformers\nM = transformers.AutoModel.from_pretrained('openai/clip-vit-base-patch32')\n",
}


@codebases
@pytest.mark.parametrize("loader", LOADERS)
def test_other_files_that_load_clip_make_it_refuse(codebase, loader, tmp_path, capsys):
    write(codebase, tmp_path)
    (tmp_path / "model").mkdir(exist_ok=True)
    other = tmp_path / "model" / "mdm_unet.py"
    other.write_text(LOADERS[loader])
    before = contents(tmp_path)
    for arguments in (["--check"], ["--weights", NOWHERE]):
        assert main([codebase, str(tmp_path), *arguments]) == 1
        assert f"{other}:{len(LOADERS[loader].splitlines())}: loads CLIP too" in capsys.readouterr().err
    assert contents(tmp_path) == before
    for name in ("utils/evaluators.py", "venv/clip_user.py", ".git/x.py"):  # those keep it, or are no part of it
        (tmp_path / name).parent.mkdir(exist_ok=True)
        other = other.rename(tmp_path / name)
        assert main([codebase, str(tmp_path), "--check"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize("name", TABLE)
def test_codebases_of_the_table(name, tmp_path, capsys):
    write(name, tmp_path)
    before, edited = contents(tmp_path), {edit.file for edit in codebase_of(name).EDITS}
    kept = set(before) - edited
    assert main([name, str(tmp_path), "--check"]) == 0
    assert main([name, str(tmp_path), "--weights", NOWHERE]) == 0
    after = contents(tmp_path)
    assert {file for file in before if after[file] != before[file]} == edited
    assert kept == set(codebase_of(name).keeps)
    assert name in recognised(tmp_path)
    assert main([name, str(tmp_path), "--revert"]) == 0
    assert contents(tmp_path) == before
    capsys.readouterr()


def test_the_edits_of_mdm_do_not_fit_a_descendant_with_three_networks(tmp_path, capsys):
    write("guided-motion-diffusion", tmp_path)
    before = contents(tmp_path)
    assert main(["mdm", str(tmp_path), "--weights", NOWHERE]) == 1
    said = capsys.readouterr().err
    assert "loads CLIP too" in said
    assert "This looks like a checkout of guided-motion-diffusion." in said
    assert contents(tmp_path) == before


def test_the_right_codebase_is_named(tmp_path, capsys):
    write("mdm", tmp_path)
    assert main(["momask", str(tmp_path), "--check"]) == 1
    assert capsys.readouterr().err.strip().endswith("This looks like a checkout of mdm.")


def test_a_linked_file_stays_a_link(tmp_path):
    write("mdm", tmp_path / "there")
    shutil.copytree(tmp_path / "there", tmp_path / "here")
    link = tmp_path / "here" / SEAM["mdm"]
    link.unlink()
    link.symlink_to(tmp_path / "there" / SEAM["mdm"])
    module("mdm").apply(tmp_path / "here", NOWHERE)
    assert link.is_symlink()
    assert module("mdm").check(tmp_path / "there") == {SEAM["mdm"]: "patched"}


@codebases
def test_the_command(codebase, tmp_path, capsys, monkeypatch):
    write(codebase, tmp_path)
    before = contents(tmp_path)
    assert main([codebase, str(tmp_path), "--check"]) == 0
    assert capsys.readouterr().out.count(": original") == len(before)
    assert main([codebase, str(tmp_path), "--weights", NOWHERE]) == 0
    said = capsys.readouterr().out
    assert said.count(": edited") == len(before)
    assert "ADACLIP_WEIGHTS=vanilla" in said
    assert main([codebase, str(tmp_path), "--weights", NOWHERE]) == 0
    assert "the edits are there already" in capsys.readouterr().out
    assert main([codebase, str(tmp_path), "--revert"]) == 0
    assert contents(tmp_path) == before
    for wrong in ([codebase, str(tmp_path)], [codebase, str(tmp_path), "--check", "--revert"], ["gmd", str(tmp_path)]):
        with pytest.raises(SystemExit) as caught:
            main(wrong)
        assert caught.value.code == 2


def test_folders_are_recorded_by_their_whole_path_and_hub_ids_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert located("runs") == str(tmp_path / "runs")
    assert located("./not/yet") == str(tmp_path / "not" / "yet")
    assert located("runs/demo/adaclip") == str(tmp_path / "runs" / "demo" / "adaclip")
    assert located("~/adapter") == os.path.expanduser("~/adapter")
    assert located("owner/adapter") == "owner/adapter"
    assert located("vanilla") == "vanilla"


@pytest.mark.parametrize("typo", ["typo", "adpater"])
def test_a_name_that_is_neither_a_folder_nor_a_hub_id_is_refused(typo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(write("mdm", tmp_path))
    before = contents(tmp_path)
    assert main(["mdm", ".", "--weights", typo]) == 1
    assert f"--weights {typo}: there is no such folder, and a Hub id has the form OWNER/NAME" in capsys.readouterr().err
    assert contents(tmp_path) == before
    assert main(["mdm", ".", "--weights", "runs/typo"]) == 0
    assert "runs/typo is taken for a Hub id, because there is no such folder here" in capsys.readouterr().out


def test_names_are_found_wherever_they_are_used():
    import ast

    tree = ast.parse("import clip\nclip.load(clip.model.convert(1))[0].clip\nx.clip.y = [clip]\n")
    assert patching.uses(tree, "clip") == {"load", "model.convert", ""}
    assert patching.sets_attribute(tree, "y")
    assert not patching.sets_attribute(tree, "load")
