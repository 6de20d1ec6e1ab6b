"""Build sdist and wheel into dist/, check them, and try the wheel in fresh environments: `make release-check`.

`python .ci/release.py --python 3.12 --versions lowest` adds environments of one Python and one choice of versions; both
options may be repeated. uv creates the environments. `--build-only` tries no environment.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
LARGEST = 12 * 2**20  # bytes of the wheel
UV = Path(sys.executable).with_name("uv")  # of the same environment, which need not be activated
# How uv chooses versions; `tested` are those of constraints.txt.
VERSIONS = {"lowest": ["--resolution", "lowest-direct"], "newest": [], "tested": ["--constraint", "constraints.txt"]}
WITHOUT_TORCH = ("numpy", "tyro", "tqdm", "ftfy", "regex", "filelock", "jinja2", "rich", "scipy", "pillow")


def run(*words: str | Path, quiet: bool = False, **options: object) -> None:
    """Run a command in the checkout and stop if it fails; a quiet one prints only when it fails."""
    print("$", *words, flush=True)
    done = subprocess.run([str(word) for word in words], cwd=CHECKOUT, text=True, capture_output=quiet, **options)
    if done.returncode:
        sys.exit(f"{done.stdout or ''}{done.stderr or ''}\nerror: {words[0]} failed.")


def content(wheel: Path) -> dict[str, str]:
    """SHA-256 of each file of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


def build(dist: Path) -> Path:
    """Build the sdist, the wheel from the sdist, and for comparison the wheel from the checkout; the wheel."""
    shutil.rmtree(dist, ignore_errors=True)
    python = [sys.executable, "-m", "build", "--outdir"]
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder)
        # setuptools would add files of earlier builds.
        for left in (CHECKOUT / "build" / "lib", CHECKOUT / "adaclip.egg-info"):
            shutil.rmtree(left, ignore_errors=True)
        run(*python, other, "--wheel", ".", quiet=True)
        run(*python, dist, ".", quiet=True)
        (wheel,), (direct,) = dist.glob("*.whl"), other.glob("*.whl")
        if content(wheel) != content(direct):
            different = sorted(dict(content(wheel).items() ^ content(direct).items()))
            sys.exit(f"error: the sdist builds another wheel than the checkout: {', '.join(different[:9])}")
    return wheel


def check(wheel: Path) -> None:
    """Size, metadata and long description of what was built; the version is the same everywhere."""
    size = wheel.stat().st_size
    if size > LARGEST:
        sys.exit(f"error: {wheel.name} has {size / 2**20:.1f} MiB, at most {LARGEST / 2**20:.0f} are allowed.")
    (sdist,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    if missing := {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml"} - names:
        sys.exit(f"error: {sdist.name} lacks {', '.join(sorted(missing))}.")
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    version = wheel.name.split("-")[1]
    for name in ("CITATION.cff", "CHANGELOG.md"):
        if version not in (CHECKOUT / name).read_text(encoding="utf-8"):
            sys.exit(f"error: {name} does not mention version {version}.")
    if "urls" not in tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]:
        print("note: pyproject.toml has no [project.urls]: docs/releasing.md says where to put the address.")
    print(f"{wheel.name}: {size / 2**20:.2f} MiB; {sdist.name}: {sdist.stat().st_size / 2**20:.2f} MiB")


def try_wheel(wheel: Path, python: str, versions: str, light: bool) -> None:
    """Install the wheel into a fresh environment and run the smoke test there."""
    with tempfile.TemporaryDirectory() as folder:
        run(UV, "venv", "--quiet", "--python", python, folder)
        inside = Path(folder) / "bin" / "python"
        install = [UV, "pip", "install", "--quiet", "--no-build", "--python", inside, *VERSIONS[versions]]
        project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        direct = [*project["dependencies"], *project["optional-dependencies"]["train"]]
        if light:
            run(*install, "--no-deps", wheel)
            run(*install, *(line for line in direct if line.partition(">")[0] in WITHOUT_TORCH))
        else:  # the wheel's requirements by themselves, because uv lowers the versions of direct ones only
            run(*install, *os.environ.get("RELEASE_PINS", "").split(), *direct, f"adaclip[train] @ {wheel.as_uri()}")
            run(UV, "pip", "check", "--python", inside)
        smoke = CHECKOUT / "tests" / "release" / "smoke.py"
        run(inside, "-P", smoke, *(["--light"] if light else []), env=_plain_environment())


def _plain_environment() -> dict[str, str]:
    """The environment without the variables that would reach packages outside."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def main() -> None:
    """Build, check, and try the wheel as the options ask."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", action="append", help="version of Python; repeatable (default: this one)")
    parser.add_argument("--versions", action="append", choices=VERSIONS, help="repeatable (default: tested)")
    parser.add_argument("--light", action="store_true", help="without torch and everything that needs it")
    parser.add_argument("--build-only", action="store_true", help="try no environment")
    options = parser.parse_args()
    wheel = build(CHECKOUT / "dist")
    check(wheel)
    if options.build_only:
        return
    for python in options.python or [f"{sys.version_info.major}.{sys.version_info.minor}"]:
        for versions in options.versions or ["tested"]:
            print(f"== Python {python}, {versions} versions", flush=True)
            try_wheel(wheel, python, versions, options.light)


if __name__ == "__main__":
    main()
