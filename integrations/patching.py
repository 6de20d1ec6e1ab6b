"""Small edits of other projects' source files that can be undone: check, apply, revert.

An edit replaces one line by one line that ends with a mark and the original line. Therefore a file can be restored byte
by byte from itself, and other changes to it remain. A seam is recognised by the form of its line and by the file's use
of the names (from its syntax tree); a file that is not recognised stays unchanged.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from adaclip_integrations import SeamError, residues

from adaclip.files import PARTIAL, atomic_file

MARK = "  # adaclip replaces: "
# Start of a line: a byte order mark, which only the first line may have, and the indent.
_START = rb"(?<![^\r\n])((?:\xef\xbb\xbf)?[ \t\f]*)"

_UNKNOWN = "This version is unknown and nothing was changed; adaclip-run needs no edits."

State = Literal["original", "patched"]


@dataclass(frozen=True)
class Edit:
    """The replacement of one line of one file."""

    file: str  # path relative to the checkout
    line: str  # regular expression of the whole line, without its indent and its line break
    becomes: str  # new line; {weights} stands for a string literal
    looks_for: str  # description of the line, for messages
    misses: Callable[[ast.Module], str | None]  # what the unedited file lacks to be a known version; None: nothing

    @property
    def pattern(self) -> re.Pattern[bytes]:
        """Pattern of the line in a file; groups: the indent, and the rest."""
        return re.compile(_START + b"(" + self.line.encode() + rb")(?![^\r\n])")


class Patched(NamedTuple):
    """One file of a checkout."""

    state: State
    content: bytes
    original: bytes


@dataclass(frozen=True)
class Patch:
    """The edits of one codebase."""

    edits: tuple[Edit, ...]
    keeps: tuple[str, ...] = ()  # further files that load CLIP, which stays: evaluation networks

    def check(self, root: str | Path) -> dict[str, State]:
        """Return the state of each file, without writing; raise SeamError if one is not as expected."""
        return {file: found.state for file, found in self._read(Path(root)).items()}

    def apply(self, root: str | Path, weights: str) -> list[str]:
        """Edit all files of a checkout or none, and return those that changed; raise SeamError otherwise."""
        root = Path(root)
        found = self._read(root)
        wanted = {file: patched.original for file, patched in found.items()}
        for edit in self.edits:
            wanted[edit.file] = _edited(edit, wanted[edit.file], ascii(str(weights)).encode())
        return _write(root, {file: (found[file].content, content) for file, content in wanted.items()})

    def revert(self, root: str | Path) -> list[str]:
        """Restore every line that `apply` replaced, also in files that were renamed or copied afterwards.

        Returns the files that changed. Raises SeamError, after everything else was restored, if a line of the edited
        files without its mark still uses AdaCLIP.
        """
        root = Path(root)
        own = [edit.file for edit in self.edits if (root / edit.file).is_file()]
        wanted = {}
        for file in dict.fromkeys([*own, *residues.marked(root, MARK.strip().encode())]):
            content = (root / file).read_bytes()
            wanted[file] = (content, _restored(content))
        changed = _write(root, wanted)
        for file in dict.fromkeys(own):
            _refuse_unmarked(root / file, wanted[file][1])
        return changed

    def _read(self, root: Path) -> dict[str, Patched]:
        found = _read(root, self.edits)
        for file, line in residues.clip_loaders(root, {*found, *self.keeps}):
            raise SeamError(
                f"{root / file}:{line}: loads CLIP too, and these edits do not change it, so a network of that file "
                f"would keep the codebase's own CLIP. {_UNKNOWN}"
            )
        return found


def uses(tree: ast.Module, name: str) -> set[str]:
    """Return the attributes of a name that a file uses, import statements aside.

    Examples: 'load' for name.load, 'model.convert' for name.model.convert, '' for the name alone.
    """
    found: set[str] = set()

    def visit(node: ast.AST, trail: tuple[str, ...]) -> None:
        if isinstance(node, ast.Attribute):
            return visit(node.value, (node.attr, *trail))
        if isinstance(node, ast.Name) and node.id == name:
            found.add(".".join(trail))
        for child in ast.iter_child_nodes(node):
            visit(child, ())
        return None

    visit(tree, ())
    return found


def sets_attribute(tree: ast.Module, name: str) -> bool:
    """Tell whether a file assigns to `….name`."""
    return any(
        isinstance(node, ast.Attribute) and node.attr == name and isinstance(node.ctx, ast.Store)
        for node in ast.walk(tree)
    )


def sets_name(tree: ast.Module, name: str) -> bool:
    """Tell whether a file assigns to a variable."""
    stored = (node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    return any(node.id == name for node in stored)


def _read(root: Path, edits: Sequence[Edit]) -> dict[str, Patched]:
    if not root.is_dir():
        raise SeamError(f"{root}: no such folder. Give the folder of the checkout.")
    found: dict[str, Patched] = {}
    for edit in edits:
        path = root / edit.file
        if not path.is_file():
            raise SeamError(f"{path}: not there; looked for {edit.looks_for}. Is this the folder of the checkout?")
        content = path.read_bytes()
        original = _restored(content)
        _refuse_unmarked(path, original)
        marks = sum(MARK.encode() in line for line in content.splitlines())
        of_file = sum(other.file == edit.file for other in edits)
        if marks not in (0, of_file):
            raise SeamError(
                f"{path}: {marks} of {of_file} edits are there, so the file was changed in between. Run --revert."
            )
        lines = edit.pattern.findall(original)
        if len(lines) != 1:
            raise SeamError(f"{path}: looked for {edit.looks_for}, once, and found it {len(lines)} times. {_UNKNOWN}")
        try:
            missing = edit.misses(ast.parse(original))
        except (SyntaxError, ValueError) as error:
            missing = f"Python that can be read ({error})"
        if missing is not None:
            raise SeamError(f"{path}: looked for {missing}, and did not find it. {_UNKNOWN}")
        found[edit.file] = Patched("patched" if marks else "original", content, original)
    for file, patched in found.items():
        if patched.state == "patched":
            _refuse_reformatted(root / file, patched, [edit for edit in edits if edit.file == file])
    return found


def _edited(edit: Edit, content: bytes, literal: bytes) -> bytes:
    """Return a file with one edit applied."""
    match = edit.pattern.search(content)
    if match is None:
        raise SeamError(f"{edit.file}: looked for {edit.looks_for}, and did not find it. {_UNKNOWN}")
    new = edit.becomes.encode().replace(b"{weights}", literal) + MARK.encode()
    return content[: match.start(2)] + new + content[match.start(2) :]


def _refuse_reformatted(path: Path, patched: Patched, edits: Sequence[Edit]) -> None:
    """Raise SeamError unless the file is as `apply` leaves it, with whatever weights."""
    literal, expected = b"'\x00'", patched.original
    for edit in edits:
        expected = _edited(edit, expected, literal)
    pattern = re.escape(expected).replace(re.escape(literal), rb"[^\r\n]*")
    if re.fullmatch(pattern, patched.content) is None:
        lines = patched.content.splitlines()
        line = next((n for n, text in enumerate(lines, 1) if residues.PACKAGE in text or MARK.encode() in text), 0)
        raise SeamError(
            f"{path}:{line}: the edit was changed by a formatter or by hand. Run --revert, then apply the edits again."
        )


def _refuse_unmarked(path: Path, restored: bytes) -> None:
    """Raise SeamError if a file, with all marked lines restored, still uses AdaCLIP."""
    lines = residues.remaining(restored)
    if lines:
        text = restored.splitlines()[lines[0] - 1].decode("utf-8", "replace").strip()
        raise SeamError(
            f"{path}:{lines[0]}: still uses AdaCLIP, and the mark with the original line is gone: {text:.80} "
            "Put the original line back by hand, or restore the file with git checkout."
        )


def _restored(content: bytes) -> bytes:
    """Put the original lines back: what stands after the last mark of a line."""
    content = residues.rejoined(content, MARK.strip().encode())
    return re.sub(_START + rb"[^\r\n]*" + re.escape(MARK.lstrip()).encode(), rb"\1", content)


def _write(root: Path, contents: dict[str, tuple[bytes, bytes]]) -> list[str]:
    """Write new contents for (old, new) pairs; if anything stops it, all files get their old content back."""
    for path in (root / file for file in contents):
        for leftover in path.parent.glob(f".{path.name}.*{PARTIAL}"):  # of an interrupted run
            leftover.unlink()
    changes = {root / file: pair for file, pair in contents.items() if pair[0] != pair[1]}
    for path in changes:
        if not path.stat().st_mode & stat.S_IWUSR:
            raise SeamError(f"{path}: is read-only; nothing was changed. Make it writable (chmod u+w) and run again.")
    done: list[Path] = []
    try:
        for path, (_, new) in changes.items():
            done.append(path)
            _replace(path, new)
    except BaseException as error:
        for path in done:
            with contextlib.suppress(OSError):
                _replace(path, changes[path][0])
        if isinstance(error, OSError):
            raise SeamError(f"{done[-1]}: cannot be written ({error.strerror}); nothing was changed.") from error
        raise
    return [file for file in contents if root / file in changes]


def _replace(path: Path, content: bytes) -> None:
    """Replace the content atomically, even at a power failure; a symbolic link keeps its target."""
    with atomic_file(path.resolve()) as staging, staging.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
