"""The Markdown files: what they point to and quote exists, and a lesson is read in one sitting."""

import re
import runpy
import subprocess

import results
from conftest import NAMES, PARENTS, ROOT

import pytest

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def links(path):
    """(is it a picture, its text, its target) of every link outside of code."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.S)
    return [(bang == "!", words, target) for bang, words, target in LINK.findall(text)]


def check(path):
    for is_picture, words, target in links(path):
        if target.startswith(("https://", "#", "../../actions/")):  # the last are GitHub's own
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
    shown = {
        target
        for text in folder.glob("*.md")
        for is_picture, _, target in links(text)
        if is_picture
    }
    there = {f"figures/{path.name}" for path in folder.glob("figures/*.png")}
    assert shown == there


@pytest.mark.parametrize("name", NAMES)
def test_the_summarys_layer_table_is_the_codes(name, every_branch):
    """The table that `python model.py` prints stands in the summary, line by line."""
    summary = (ROOT / "models" / name / "summary.md").read_text(encoding="utf-8")
    assert every_branch[name].layers.out in summary


def prose(text):
    """The words of a lesson without code, tables, pictures, captions, exercises and references."""
    text = re.split(r"^## (?:\d+\. )?(?:Exercises|References)\b", text, flags=re.M)[0]
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    left_out = re.compile(r"\s*(\||!\[|    |\*[^*].*\*$|#)")
    return " ".join(line for line in text.splitlines() if not left_out.match(line)).split()


@pytest.mark.parametrize("name", NAMES)
def test_a_lesson_is_read_in_one_sitting(name):
    words = prose((ROOT / "models" / name / "summary.md").read_text(encoding="utf-8"))
    assert 1_200 <= len(words) <= 2_000


@pytest.mark.parametrize("name", NAMES)
def test_the_answers_of_exercises_are_folded_away(name):
    """Three to five exercises, numbered from 1, each with an answer that a reader has to open."""
    summary = (ROOT / "models" / name / "summary.md").read_text(encoding="utf-8")
    exercises = summary.split("\n## Exercises\n")[1].split("\n## ")[0]
    assert f"\nStart a branch of your own first: `git switch -c my-{name.lower()}`" in exercises
    _, *each = re.split(r"^\*\*(?=\d\. )", exercises, flags=re.M)
    assert 3 <= len(each) <= 5
    for number, exercise in enumerate(each, start=1):
        assert exercise.startswith(f"{number}. ")
        assert exercise.count("<details><summary>Answer</summary>\n\n") == 1
        assert exercise.rstrip().endswith("\n\n</details>")


def test_what_counts_as_prose():
    text = (
        "# A\n\nOne *two*.\n*a caption*\n![alt text](b.png)\n\n    code\n| table |\n\n```\nx\n```\n"
    )
    assert prose(text + "three\n## 9. Exercises\nfour") == ["One", "*two*.", "three"]


@pytest.mark.parametrize("path", sorted(ROOT.glob("models/*/*.md")), ids=str)
def test_github_shows_the_mathematics(path):
    """Markdown takes the backslash from a backslash and a comma, and the comma stays."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.S)
    for formula in re.findall(r"\$\$.+?\$\$|\$[^$\n]+\$", text, flags=re.S):
        assert not re.search(r"\\[,;:!]", formula), formula


@pytest.mark.parametrize("name", [name for name in NAMES if PARENTS[name]])
def test_every_hunk_that_a_lesson_quotes_is_in_the_diff(name, laid_out):
    summary = (ROOT / "models" / name / "summary.md").read_text(encoding="utf-8")
    asked = set(re.findall(rf"git diff (\w+) {name} -- model.py train.py", summary))
    assert asked and asked <= {*NAMES}
    changed = set()
    for parent in asked:
        for file in ("model.py", "train.py"):
            old, new = (laid_out / branch / file for branch in (parent, name))
            command = ["git", "diff", "--no-index", old, new]
            done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
            changed |= {line.rstrip() for line in done.stdout.splitlines()}
    quoted = re.findall(r"^(?:    )?([+-](?! ).*\S|[+-]  .*\S)$", code(summary), flags=re.M)
    for line in quoted:
        assert line in changed, line


def test_the_plot_of_accuracy_against_cost_has_the_figures_of_results_csv(every_branch):
    branch = every_branch["GoogLeNet"]
    with branch.imported():
        drawn = runpy.run_path(str(branch.home / "figures" / "draw.py"))["RESULTS"]
    rows = [row for row in results.read_rows() if row["run"] == "laptop"]
    for name, (parameters, macs, accuracies) in drawn.items():
        own = [row for row in rows if row["branch"] == name]
        assert {(row["parameters"], row["macs"]) for row in own} == {(str(parameters), str(macs))}
        found = [row["metrics"].split("accuracy=")[1].split()[0] for row in own]
        assert sorted(map(float, found)) == pytest.approx(sorted(a / 100 for a in accuracies))


def code(text):
    """The fenced and the indented lines of a text."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.S | re.M)
    return "\n".join([*fenced, *re.findall(r"^    .*", text, flags=re.M)])
