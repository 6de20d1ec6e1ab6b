"""Pages of the documentation that no file under docs/ holds: guides from elsewhere in the repository, the reference."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

CHECKOUT = Path(__file__).resolve().parent.parent
# Page of the site -> file of the repository.
COPIES = {
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "integrations/index.md": "integrations/README.md",
    "integrations/mdm.md": "integrations/mdm.md",
    "integrations/momask.md": "integrations/momask.md",
    "integrations/salad.md": "integrations/salad.md",
}
# Links as they work in the repository -> the same pages on the site.
LINKS = {
    "../integrations/README.md": "integrations/index.md",
    "../docs/adding-a-codebase.md": "../adding-a-codebase.md",
    "../README.md": "index.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../CHANGELOG.md": "changelog.md",
    "README.md": "index.md",
}


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


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Point the links between files of the repository at the site's pages."""
    pattern = r"(?<=\]\()([^)#:]+)(?=[#)])"
    return re.sub(pattern, lambda link: LINKS.get(link[1], link[1].removeprefix("docs/")), markdown)
