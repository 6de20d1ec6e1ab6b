"""Pages of the documentation that no file under docs/ holds: guides from elsewhere in the repository, the reference."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

CHECKOUT = Path(__file__).resolve().parent.parent
# Page of the site -> file of the repository; every other page lies in docs/ under the same name.
COPIES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "integrations/index.md": "integrations/README.md",
} | {
    f"integrations/{path.name}": f"integrations/{path.name}"
    for path in sorted((CHECKOUT / "integrations").glob("*.md"))
    if path.name != "README.md"
}
PAGES = {source: page for page, source in COPIES.items()}


def on_config(config: Any) -> None:
    """Make integrations/ importable under its installed name."""
    packages = CHECKOUT / "build" / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    link = packages / "adaclip_integrations"
    if not link.is_symlink():
        link.symlink_to(CHECKOUT / "integrations")


def on_files(files: Files, config: Any) -> Files:
    """Add the copies, and for each `reference/MODULE.md` of the navigation a page generated from MODULE."""
    for page, source in COPIES.items():
        files.append(File.generated(config, page, content=(CHECKOUT / source).read_text(encoding="utf-8")))
    for module in re.findall(r"'reference/([\w.]+)\.md'", str(config.nav)):
        files.append(File.generated(config, f"reference/{module}.md", content=f"::: {module}\n"))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point the links between files of the repository at the site's pages; links to code become plain text."""
    here = page.file.src_uri
    folder = posixpath.dirname(COPIES.get(here, f"docs/{here}"))

    def moved(target: str) -> str | None:
        target = posixpath.normpath(posixpath.join(folder, target))
        if target not in PAGES and not target.startswith("docs/"):
            return None
        return posixpath.relpath(PAGES.get(target, target.removeprefix("docs/")), posixpath.dirname(here) or ".")

    def link(found: re.Match) -> str:
        target = moved(found["target"])
        return f"[{found['text']}]({target}{found['anchor'] or ''})" if target else found["text"]

    def source(found: re.Match) -> str:
        return moved(found[0]) or found[0]

    markdown = re.sub(r"\[(?P<text>[^]]*)\]\((?P<target>[^)#:\s]+)(?P<anchor>#[^)]*)?\)", link, markdown)
    return re.sub(r'(?<=src=")[^":]+|(?<=srcset=")[^":]+', source, markdown)  # of pictures in HTML
