"""What no committed file may say (hosts, machine paths, unfinished work), and what files must say alike (commands)."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.tidy.repository import ROOT, files, text_of

# Written in pieces so that this file passes its own test.
REGISTRY_HOSTS = re.compile(
    "|".join(
        re.escape(host)
        for host in ("pypi" + ".org", "python" + "hosted.org", "npm" + "js.", "yarn" + "pkg.com", "npm" + "mirror")
    )
)
MACHINE_PATHS = re.compile(r"(?<![\w.~$}\-])/" + r"(?:work|root|tmp/lab)(?![\w-])")
UNFINISHED = re.compile(r"\b(?:" + "TO" + "DO|FIX" + "ME|XX" + r"X)\b")
MAKE_COMMAND = re.compile(r"\bmake ((?:[A-Z_]+=\S+ )*)([a-z][a-z-]*)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE_SPAN = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
# Files that a tool writes whole: hashes and bytecode are not prose.
WRITTEN_BY_TOOLS = ("requirements.lock", "package-lock.json", "contracts/artifacts/", "tests/golden/")


def test_no_registry_host() -> None:
    assert _lines_with(REGISTRY_HOSTS, files()) == []


def test_no_path_of_a_build_machine() -> None:
    assert _lines_with(MACHINE_PATHS, files()) == []


def test_nothing_unfinished() -> None:
    assert _lines_with(UNFINISHED, [name for name in files() if not name.startswith(WRITTEN_BY_TOOLS)]) == []


def test_links_lead_to_files_that_exist() -> None:
    pages = [name for name in files() if name.endswith(".md")]
    assert "README.md" in pages
    assert [f"{name}: {target}" for name in pages for target in _broken_links(name, text_of(name) or "")] == []


def test_a_broken_link_is_found() -> None:
    text = "[a](architecture.md) [b](#here) [c](https://example.org/x.md) [d](../README.md#find-your-way)"
    assert _broken_links("docs/x.md", text) == ["architecture.md"]


def test_readme_commands_exist_in_the_makefile() -> None:
    spans = "\n".join(CODE_SPAN.findall((ROOT / "README.md").read_text(encoding="utf-8")))
    used = {target for _, target in MAKE_COMMAND.findall(spans)}
    assert "bench" in used
    assert "test" in used
    assert sorted(used - _make_targets()) == []


def test_ci_runs_the_readmes_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "make --no-print-directory test" in script
    assert "make --no-print-directory check" in script


def test_every_make_target_is_explained() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    helpers = {"check-stubs", "check-contracts"}
    explained = set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE))
    assert set(phony.split()) - helpers == explained


def test_lock_holds_every_declared_package() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[^A-Za-z0-9_.-]", requirement, maxsplit=1)[0].lower() for requirement in declared}
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = set(re.findall(r"^([a-z0-9_.-]+)==", lock, re.MULTILINE))
    assert sorted(names - locked) == [], "run: make lock"


@pytest.mark.parametrize(
    ("pattern", "bad", "good"),
    [
        (REGISTRY_HOSTS, "https://" + "pypi" + ".org/simple", "the package index"),
        (MACHINE_PATHS, "see /" + "work/main/x", "a net/" + "work/x and ~/" + "work/x"),
        (MACHINE_PATHS, "cd /" + "root", "/" + "rootless"),
        (MACHINE_PATHS, "'/" + "tmp/lab/x'", "/" + "tmp/labour"),
        (UNFINISHED, "# TO" + "DO: later", "mastodon"),
    ],
)
def test_the_patterns_find_what_they_forbid(pattern: re.Pattern[str], bad: str, good: str) -> None:
    assert pattern.search(bad)
    assert not pattern.search(good)


def _lines_with(pattern: re.Pattern[str], names: list[str] | tuple[str, ...]) -> list[str]:
    found = []
    for name in names:
        text = text_of(name) or ""
        if pattern.search(text):
            found += [
                f"{name}:{i}: {line[:120]}" for i, line in enumerate(text.splitlines(), 1) if pattern.search(line)
            ]
    return found


def _broken_links(name: str, text: str) -> list[str]:
    """Targets of a page's links that lead nowhere in the repository; addresses elsewhere are not asked for."""
    folder = (ROOT / name).parent
    targets = [target for target in LINK.findall(text) if "://" not in target and not target.startswith("#")]
    return [target for target in targets if not (folder / target.partition("#")[0]).exists()]


def _make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
