"""The Markdown files: what they point to exists, and their pictures can be seen by everyone."""

import re
import subprocess

from conftest import NAMES, ROOT

import pytest

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def links(path):
    """(is it a picture, its text, its target) of every link outside of code."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.S)
    return [(bang == "!", words, target) for bang, words, target in LINK.findall(text)]


def check(path):
    for is_picture, words, target in links(path):
        if target.startswith(("https://", "#")):
            continue
        file = path.parent / target.split("#")[0]
        assert file.exists(), f"{path.name}: {target} is not there"
        if is_picture:
            assert len(words) > 20, f"{path.name}: {target} needs a text that says what it shows"
            assert file.stat().st_size < 300_000, f"{target} is over 300 kB"


def test_the_links_of_main_lead_somewhere():
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        encoding="utf-8",
    ).stdout.splitlines()
    assert "README.md" in listed
    for path in listed:
        if (ROOT / path).exists() and not path.startswith(
            ("models/", "every_branch/", "some_branches/")
        ):
            check(ROOT / path)


@pytest.mark.parametrize("name", NAMES)
def test_the_links_of_a_branch_lead_somewhere(laid_out, name):
    assert links(laid_out / name / "README.md")
    for path in laid_out.joinpath(name).rglob("*.md"):
        check(path)


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_of_a_branch_is_shown(name):
    folder = ROOT / "models" / name
    shown = {target for is_picture, _, target in links(folder / "summary.md") if is_picture}
    there = {f"figures/{path.name}" for path in folder.glob("figures/*.png")}
    assert shown == there


@pytest.mark.parametrize("name", NAMES)
def test_the_summarys_layer_table_is_the_codes(name, every_branch):
    """The table that `python model.py` prints stands in the summary, line by line."""
    summary = (ROOT / "models" / name / "summary.md").read_text(encoding="utf-8")
    assert every_branch[name].layers.out in summary
