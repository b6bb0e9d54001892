"""The pins hold for every Python that the project says it supports."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CLASSIFIER = "Programming Language :: Python :: "
VERSIONS = [line.removeprefix(CLASSIFIER) for line in PROJECT["classifiers"]]


def pins(file: str, version: str) -> dict[str, str]:
    """Package -> the version that this Python gets on Linux. Fails where it would get two, or
    one without hashes."""
    there = {"python_version": version, "python_full_version": f"{version}.0"}
    there |= {"sys_platform": "linux", "platform_system": "Linux"}
    found: dict[str, str] = {}
    text = (ROOT / file).read_text().replace("\\\n", "")  # one line for each package
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            continue
        line, *hashes = line.split("--hash=sha256:")
        assert hashes and all(len(found.strip()) == 64 for found in hashes), line
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(there):
            (pin,) = requirement.specifier
            assert pin.operator == "==" and found.setdefault(requirement.name, pin.version)
            assert found[requirement.name] == pin.version, line
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_each_python_has_one_version_of_everything(version):
    pinned = pins("requirements.txt", version)
    for line in PROJECT["dependencies"]:
        wanted = Requirement(line)
        assert wanted.specifier.contains(pinned[canonicalize_name(wanted.name)]), line
    for file, extras in (("dev", ("dev",)), ("tpu", ("tpu", "bucket")), ("cuda", ("cuda",))):
        more = pins(f"requirements-{file}.txt", version)
        assert {name: more[name] for name in pinned} == pinned, file
        for line in sum((PROJECT["optional-dependencies"][extra] for extra in extras), []):
            wanted = Requirement(line)
            assert wanted.specifier.contains(more[canonicalize_name(wanted.name)]), line


def test_every_python_that_is_supported_is_said_to_be():
    assert VERSIONS == ["3.11", "3.12", "3.13"]
    said = f"Python {', '.join(VERSIONS[:-1])} and {VERSIONS[-1]}"
    assert f"pinned for {said}" in (ROOT / "README.md").read_text()
