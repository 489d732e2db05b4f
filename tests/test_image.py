"""The Dockerfile, read but not built: it installs what the program needs and names what exists."""

import fnmatch
import re
import shlex
import tomllib
from pathlib import Path

from picopose.rendering.context import PACKAGES
from tests.shared import ROOT


def instructions() -> list[tuple[str, str]]:
    """Words and the rest of their lines, with comments left out and lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M)
    lines = text.replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def of(word: str) -> list[str]:
    return [rest for first, rest in instructions() if first == word]


def ignored(path: str) -> bool:
    """Whether .dockerignore leaves a file out, by the last pattern that fits it or a folder of it."""
    above = [path, *map(str, Path(path).parents)]
    left_out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").strip("/").removeprefix("**/")
        if line and not line.startswith("#") and any(fnmatch.fnmatch(one, pattern) for one in above):
            left_out = not line.startswith("!")
    return left_out


def test_opengl_and_python_are_installed():
    (line,) = (run for run in of("RUN") if "apt-get install" in run)
    installed = set(shlex.split(line.split("apt-get install")[1].split("&&")[0])) - {"-y"}
    assert installed == {"--no-install-recommends", *PACKAGES, "python3", "python3-venv"}


def test_what_it_copies_or_mounts_exists():
    sources = [source for run in of("RUN") for source in re.findall(r"--mount=\S*source=([^,\s]+)", run)]
    sources += [source for line in of("COPY") for source in shlex.split(line)[:-1]]
    assert "requirements.txt" in sources
    for source in sources:
        assert (ROOT / source).exists() and not ignored(source), source


def test_all_of_the_package_is_sent_and_no_data_set_is():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for path in [*wheel["only-include"], *wheel["force-include"], "pyproject.toml", "README.md", "LICENSE"]:
        assert (ROOT / path).exists() and not ignored(path), path
    for path in (".git/config", ".venv/bin/python", "data/lmo/test/000002/rgb/000003.png", "log/features/a"):
        assert ignored(path), path


def test_it_runs_the_program_as_an_ordinary_user():
    assert of("USER") == ["picopose"] and any("useradd" in run and "picopose" in run for run in of("RUN"))
    assert of("ENTRYPOINT") == ['["picopose"]'] and of("CMD") == ['["--help"]']
    words = [word for word, _ in instructions()]
    assert words.index("USER") > max(i for i, word in enumerate(words) if word == "RUN")
