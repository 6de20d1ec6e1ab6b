"""What edits leave in a source file that was changed afterwards, and what else in a checkout loads CLIP.

A formatter splits a marked line into several, and people remove marks. Both are found by the syntax tree of the file.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from adaclip_integrations.places import EVALUATOR

PACKAGE = b"adaclip_integrations"
# Start of a line that an edit wrote; formatters leave it, or split it off.
_EDITED = re.compile(rb"[ \t\f]*(?:import adaclip_integrations|from adaclip_integrations|pass  #)")
# Folders of a checkout that hold no code of it.
_SKIPPED = frozenset({"__pycache__", "build", "dist", "env", "node_modules", "site-packages", "venv"})
_LOADERS = ("clip", "clip.clip", "open_clip")
_LOADING = re.compile(r"load$|create_model")
_CLIP_CLASSES = re.compile(r"CLIP\w*Model\w*|Auto(?:Model|ModelForTextEncoding)")


def parsed(content: bytes) -> ast.Module | None:
    """Return the syntax tree of a file, or None if it has none."""
    try:
        return ast.parse(content)
    except (SyntaxError, ValueError):
        return None


def rejoined(content: bytes, mark: bytes) -> bytes:
    """Put the statements of a mark on one line again, and remove imports that were split off."""
    tree = parsed(content)
    if tree is None or mark not in content:
        return content
    lines = content.splitlines(keepends=True)
    marked = {number for number, line in enumerate(lines, 1) if mark in line}
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    for node in statements:
        span = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        inside = marked.intersection(span)
        if inside and len(span) > 1 and not hasattr(node, "body") and _of_ours(node):
            indent = re.match(rb"[ \t\f]*", lines[node.lineno - 1])
            kept = lines[max(inside) - 1].lstrip()
            for number in span:
                lines[number - 1] = b""
            lines[max(inside) - 1] = (indent.group() if indent else b"") + kept
    for node in statements:
        alone = sum(other.lineno == node.lineno for other in statements) == 1
        if alone and _only_imports_ours(node) and node.lineno not in marked:
            lines[node.lineno - 1] = b""
            following = node.lineno
            if following < len(lines) and not lines[following].strip() and _next_is_marked(lines, following, mark):
                lines[following] = b""
    return b"".join(lines)


def remaining(content: bytes) -> list[int]:
    """Return the numbers of the lines that still use this package."""
    tree = parsed(content)
    if tree is None:
        lines = enumerate(content.splitlines(), 1)
        return [number for number, line in lines if PACKAGE in line.partition(b"#")[0]]
    return sorted({node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt) and _of_ours(node, own=True)})


def clip_loaders(root: Path, known: set[str]) -> Iterator[tuple[str, int]]:
    """Yield files of a checkout, besides the known ones and evaluation networks, that load CLIP, with the line."""
    for file, content in _sources(root):
        if file not in known and not EVALUATOR.search(Path(file).stem) and b"clip" in content.lower():
            for line in _loads(content):
                yield file, line


def marked(root: Path, mark: bytes) -> Iterator[str]:
    """Yield edited files of a checkout, also under another name, and copies of them; not those of nested checkouts."""
    for file, content in _sources(root, nested=False):
        if any(mark in line and _EDITED.match(line) for line in content.splitlines()):
            yield file


def _sources(root: Path, *, nested: bool = True) -> Iterator[tuple[str, bytes]]:
    """Yield the Python files of a checkout with their content; `nested`: of checkouts inside it too."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED)
        if not nested:
            folders[:] = [name for name in folders if not os.path.exists(os.path.join(folder, name, ".git"))]
        for path in (Path(folder) / name for name in sorted(names) if name.endswith(".py")):
            with contextlib.suppress(OSError):
                yield path.relative_to(root).as_posix(), path.read_bytes()


def _loads(content: bytes) -> Iterator[int]:
    tree = parsed(content)
    nodes = list(ast.walk(tree)) if tree is not None else []
    packages = set(_LOADERS) | {
        alias.asname
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if alias.asname and alias.name in _LOADERS
    }
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module in _LOADERS:
            if any(_LOADING.match(alias.name) for alias in node.names):
                yield node.lineno
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value)
            if _LOADING.match(node.func.attr) and owner in packages:
                yield node.lineno
            elif node.func.attr == "from_pretrained" and _CLIP_CLASSES.fullmatch(owner.rpartition(".")[2]):
                arguments = " ".join(map(ast.unparse, node.args)).lower()
                if "CLIP" in owner or "clip-vit" in arguments:
                    yield node.lineno


def _only_imports_ours(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import) and [alias.name.partition(".")[0] for alias in node.names] == [PACKAGE.decode()]


def _of_ours(node: ast.stmt, *, own: bool = False) -> bool:
    """Tell whether a statement uses this package; `own`: in parts of it that are no statements themselves."""
    nodes = _without_statements(node) if own else ast.walk(node)
    for part in nodes:
        if isinstance(part, ast.Name) and part.id == PACKAGE.decode():
            return True
        names = [alias.name for alias in part.names] if isinstance(part, ast.Import) else []
        names += [part.module or ""] if isinstance(part, ast.ImportFrom) else []
        if any(name.partition(".")[0] == PACKAGE.decode() for name in names):
            return True
    return False


def _without_statements(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.stmt):
            yield from _without_statements(child)


def _next_is_marked(lines: list[bytes], after: int, mark: bytes) -> bool:
    following = [line for line in lines[after:] if line.strip()]
    return bool(following) and (mark in following[0] or PACKAGE in following[0])
