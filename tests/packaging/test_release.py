"""The version of a release is that of its tag, and the changelog has a section of it."""

from __future__ import annotations

import re
import shutil
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def release() -> Any:
    spec = spec_from_file_location("release", Path(__file__).with_name("release.py"))
    assert spec is not None
    module = module_from_spec(spec)
    assert spec.loader is not None
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the files that have a version."""
    for name in ("python/hierpool/_version.py", "CITATION.cff", "CHANGELOG.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_version_of_a_tag_is_written(release: Any, tree: Path) -> None:
    changelog = tree / "CHANGELOG.md"
    text = changelog.read_text(encoding="utf-8")
    changelog.write_text(text.replace("## [Unreleased]", "## [Unreleased]\n\n## [9.8.7rc1] - 2031-02-03", 1))
    assert release.set_version("v9.8.7rc1", tree) == "9.8.7rc1"
    assert '\n__version__ = "9.8.7rc1"\n' in (tree / "python/hierpool/_version.py").read_text(
        encoding="utf-8"
    )
    assert "\nversion: 9.8.7rc1\n" in (tree / "CITATION.cff").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("9.8.7", "tag must be a version such as v1.2.3 or v1.2.3rc1, got '9.8.7'"),
        ("v9.8", "tag must be a version"),
        ("v9.8.7", r"CHANGELOG.md has no section '## \[9\.8\.7\] - YYYY-MM-DD'"),
    ],
)
def test_other_tags_are_refused(release: Any, tree: Path, tag: str, message: str) -> None:
    before = (tree / "CITATION.cff").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        release.set_version(tag, tree)
    assert (tree / "CITATION.cff").read_text(encoding="utf-8") == before


def test_the_changelog_has_sections_of_versions_newest_first() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    found = [
        re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\w*\] - \d{4}-\d\d-\d\d", heading) for heading in headings[1:]
    ]
    assert all(found), headings
    versions = [tuple(map(int, one.groups())) for one in found if one]
    assert versions == sorted(versions, reverse=True)
    body = text.split("## [Unreleased]\n", 1)[1].split("\n## ", 1)[0]
    assert body.strip(), "what changed since the last release"
