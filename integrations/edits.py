"""The edits of files that say `import clip`."""

from __future__ import annotations

import ast

from adaclip_integrations.patching import Edit, sets_attribute, sets_name, uses

SERVED = {"load", "tokenize", "model.convert_weights"}  # what `openai_seam.Clip` offers
IMPORT = r"import[ \t]+clip[ \t]*(#[^\r\n]*)?"


def import_edit(
    file: str, served: str = "adaclip_integrations.openai_seam.Clip({weights})", holder: str = "clip_model"
) -> Edit:
    """Return the edit of a file that loads CLIP and keeps the encoder as `holder`, an attribute or a variable."""

    def misses(tree: ast.Module) -> str | None:
        used = uses(tree, "clip")
        if "load" not in used:
            return "a call of clip.load"
        if not used <= SERVED:
            return f"no use of clip but {', '.join(sorted(SERVED))} (it uses clip.{min(used - SERVED)})"
        return None if sets_attribute(tree, holder) or sets_name(tree, holder) else f"the encoder kept as {holder}"

    return Edit(file, IMPORT, _importing(served), "the line import clip", misses)


def tokenizing_edit(file: str, served: str = "adaclip_integrations.openai_seam.Clip({weights})") -> Edit:
    """Return the edit of a file that tokenises for an encoder that another file loads."""

    def misses(tree: ast.Module) -> str | None:
        return None if uses(tree, "clip") == {"tokenize"} else "calls of clip.tokenize, and no other use of clip"

    return Edit(file, IMPORT, _importing(served), "the line import clip", misses)


def unused_import_edit(file: str) -> Edit:
    """Return the edit of a file that imports CLIP and does not use it."""

    def misses(tree: ast.Module) -> str | None:
        return "no use of the imported clip" if uses(tree, "clip") else None

    return Edit(file, IMPORT, "pass", "the line import clip", misses)


def _importing(served: str) -> str:
    module = served.partition("(")[0].rpartition(".")[0]
    return f"import {module}; clip = {served}"
