"""The web page of the course: what its script writes, and, where Sphinx is installed, all of it."""

import html
import json
import re
import sys

import branches
import results
from branches import Refusal
from conftest import MODELS, NAMES, PARENTS, ROOT

import pytest

sys.path.insert(0, str(ROOT / "site"))

import changes
import home
import links
import listing
import notebook
import pages
import picture
import plot
import vendor

import build

PAIRS = [(parent, name) for name in NAMES for parent in PARENTS[name]]


def code_in(made):
    """The lines of code in some HTML."""
    return [html.unescape(re.sub("<.*?>", "", c)) for c in re.findall("<code>(.*?)\n</code>", made)]


# The code, and the lines of it that lessons quote


CODE = """\
\"\"\"python model.py: a command

    F.relu(x)
\"\"\"
def forward(self, x):
    x = F.dropout(f(self.fc6(x)), 0.5)
    y = x + 1
    y = x + 1
    return self.attention(
        query, key
    )
"""


@pytest.mark.parametrize(
    "quote, line",
    [
        ("x = F.dropout(f(self.fc6(x)), 0.5)", 6),
        ("F.dropout(..., 0.5)", 6),
        ("self.attention(query, key)", 9),  # broken otherwise
        ("forward", 5),  # where it is defined
        ("y = x + 1", None),  # twice
        ("self.fc", None),  # a part of a name
        ("(x)", None),  # too short
        ("F.relu(x)", None),  # in the text at its head
    ],
)
def test_a_quote_is_found_where_it_stands_once(quote, line):
    assert listing.find(quote, {"model.py": CODE}) == (line and ("model.py", line))


def test_a_file_is_found_by_its_name_and_the_first_file_leads():
    files = {"model.py": "unique_words = 1\n", "train.py": "\nunique_words = 1\n"}
    assert listing.find("train.py", files) == ("train.py", 1)
    assert listing.find("unique_words = 1", files) == ("model.py", 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_listing_is_the_file_line_by_line(name):
    text = branches.text_of(f"models/{name}/train.py")
    made = listing.listing(text)
    assert code_in(made) == text.splitlines()
    assert re.findall(r'id="L(\d+)"', made) == [
        str(n) for n, _ in enumerate(text.splitlines(), start=1)
    ]


# What changed


def compared(parent, child, file):
    old, new = (ROOT / "models" / name / file for name in (parent, child))
    return changes.comparison(old, new, f"../{parent}/", "", "page.html")


def test_the_changes_are_those_that_git_counts():
    for parent, child, file, stay, go, come in branches.diffs(MODELS):
        made = compared(parent, child, file)
        gone, came, same = (
            code_in("".join(re.findall(f"<{tag}>(.*?)</{tag}>", made, re.S)))
            for tag in ("del", "ins", "div")
        )
        assert (len(gone), len(came), len(same)) == (go, come, 2 * stay), (parent, child, file)


def test_the_changes_hold_both_files_whole():
    made = compared("AlexNet", "VGG", "model.py")
    halves = re.findall(r"<(del|ins|div)>(.*?)</\1>", made, re.S)
    for side, name in enumerate(("AlexNet", "VGG")):
        lines = [one for _, half in halves[side::2] for one in code_in(half)]
        assert lines == branches.text_of(f"models/{name}/model.py").splitlines()


def test_long_stretches_that_stay_are_folded():
    assert changes.fold(50, False, False) == (3, 44, 3)
    assert changes.fold(50, True, False) == (0, 47, 3)
    assert changes.fold(50, False, True) == (3, 47, 0)
    assert changes.fold(12, False, False) == (12, 0, 0)
    made = compared("VGG", "ResNet", "train.py")
    folded = sum(map(int, re.findall(r"<summary>(\d+) lines stay</summary>", made)))
    inside = "".join(re.findall("<details>(.*?)</details>", made, re.S))
    assert folded and len(code_in(inside)) == 2 * folded


def test_equal_files_have_no_changes(tmp_path):
    for name in ("old.py", "new.py"):
        (tmp_path / name).write_text("x = 1\n" * 20, encoding="utf-8")
    made = changes.comparison(tmp_path / "old.py", tmp_path / "new.py", "", "", "page.html")
    assert "<del>" not in made and len(code_in(made)) == 40


# The pages


@pytest.mark.parametrize("name", NAMES)
def test_the_lesson_leads_to_lines_of_its_code(name):
    folder = ROOT / "models" / name
    files = {file: branches.text_of(folder / file) for file in branches.COMPARED}
    lesson = branches.text_of(folder / "summary.md")
    blocks = re.findall("^```[a-z]*\n(.*?)^```", lesson, flags=re.M | re.S)
    found = {listing.find(it, files) for it in [*re.findall("`([^`\n]+)`", lesson), *blocks]}
    assert len([place for place in found if place and place[1] > 1]) >= 2


def test_a_block_of_changed_lines_says_that_it_is_one():
    source = "# Title\n\n```\n-a\n+b\n...\n```\n\n```\nstage  output\nconv1  96\n```\n"
    made = pages.text(source + "[it](summary.md)\n", "NAV")
    assert made.startswith("# Title\nNAV\n")
    assert "```diff\n-a\n" in made and "```\nstage" in made and "[it](index.md)" in made


def test_the_links_around_a_model_follow_the_line_of_descent():
    for model in MODELS:
        before, after = pages.around(model, MODELS).split("</div><div>")
        children = [name for name in NAMES if model["name"] in PARENTS[name]]
        assert re.findall(r"\.\./([\w-]+)/", before) == sorted(
            PARENTS[model["name"]], key=NAMES.index
        )
        if children:
            assert re.findall(r"\.\./([\w-]+)/", after) == children


def test_home_shows_every_model_in_the_graph_the_tables_and_the_navigation(tmp_path):
    home.write(tmp_path, MODELS, "https://host.invalid/repository")
    made = (tmp_path / "index.md").read_text(encoding="utf-8")
    assert "git clone https://host.invalid/repository" in made
    for model in MODELS:
        name = model["name"]
        assert f'click {name} href "{name}/index.html"' in made
        assert all(f"{parent} --> {name}" in made for parent in PARENTS[name])
        assert made.count(f"[{name}]({name}/index.md)") >= 2  # of models, and of results
        assert f"{name}, {model['date'].year} <{name}/index>" in made
    assert "models/" not in made and "summary.md" not in made


def test_the_plot_has_a_point_a_model_and_a_line_a_descent():
    models = [model for model in MODELS if model["task"] == "classification"]
    rows = results.read_rows()
    made = plot.plot("classification", models, rows)
    known = plot.measured("classification", models, rows)
    assert re.findall(r'href="([\w-]+)/index', made) == list(known)
    pairs = [pair for pair in PAIRS if set(pair) <= set(known)]
    assert made.count("line-of-descent") == len(pairs)
    for x, y in re.findall(r'cx="(.*?)" cy="(.*?)"', made):
        assert plot.LEFT < float(x) < plot.RIGHT and plot.TOP < float(y) < plot.BOTTOM
    assert plot.plot("classification", models[:2], rows) == ""


@pytest.mark.parametrize("name", NAMES)
def test_the_notebook_is_of_its_branch(name):
    model = next(model for model in MODELS if model["name"] == name)
    book = json.loads(notebook.notebook(model, "https://host.invalid/repository"))
    source = "".join("".join(cell["source"]) for cell in book["cells"])
    assert f"git checkout --quiet {name}" in source and "--limit" in source
    assert 'git clone --quiet "https://host.invalid/repository" DeepLearning' in source
    assert not re.search(r"\{\w+\}", source)
    assert all(("outputs" in cell) == (cell["cell_type"] == "code") for cell in book["cells"])


# What holds the finished site together


@pytest.mark.parametrize(
    "name, text, what",
    [
        ("a.html", '<a href="b.html">', "b.html is not there"),
        ("a.html", '<p id="x"><a href="#y">', "no such anchor"),
        ("a.html", '<script src="https://host.invalid/x.js">', "from another host"),
        ("a.html", '<link href="//host.invalid/x.css">', "from another host"),
        ("a.html", '<img src="a.html">', "no text"),
        ("a.css", "b { background: url('https://host.invalid/x') }", "from another host"),
        ("a.css", '@import "https://host.invalid/x";', "from another host"),
        ("a.css", "b { src: url(x.woff2) }", "x.woff2 is not there"),
    ],
)
def test_a_fault_of_the_site_is_found(tmp_path, name, text, what):
    (tmp_path / name).write_text(text, encoding="utf-8")
    (fault,) = links.problems(tmp_path)
    assert what in fault


def test_a_whole_site_has_no_faults(tmp_path):
    text = (
        '<p id="x"><a href="#x"><a href="a.html#x"><a href="https://host.invalid/">'
        '<img src="a.css" alt="a">'
    )
    (tmp_path / "a.html").write_text(text, encoding="utf-8")
    (tmp_path / "a.css").write_text("b { src: url(data:x) } /* url(y) */", encoding="utf-8")
    assert links.problems(tmp_path) == []


def test_another_package_than_the_one_that_is_known_is_refused(tmp_path, monkeypatch):
    def download(package, folder, archive):
        folder.mkdir(exist_ok=True)
        archive.write_bytes(b"another")
        return archive

    monkeypatch.setattr(vendor, "download", download)
    with pytest.raises(Refusal, match="is not the package"):
        vendor.fetch(tmp_path / "vendor")


def test_the_site_is_whole():
    """Sphinx without a warning, every link and anchor, and nothing from another host."""
    for module in ("sphinx", "myst_parser", "furo", "sphinx_copybutton"):
        pytest.importorskip(module)
    try:
        vendor.fetch(build.SITE / "vendor")
    except Refusal as refusal:
        pytest.skip(str(refusal))
    folder = build.build("https://host.invalid/repository")
    for name in NAMES:
        lesson = (folder / name / "index.html").read_text(encoding="utf-8")
        assert len(re.findall(r'"line-of-code[^>]*href="\w+\.html#L\d\d+"', lesson)) >= 2
        assert f'{name}.ipynb"' in lesson
    made = (folder / "VGG" / "since-AlexNet.html").read_text(encoding="utf-8")
    assert "<ins>" in made and "<del>" in made and "lines stay" in made


def test_readme_opens_with_todays_results():
    drawn = picture.picture(branches.todays_models(), results.read_rows())
    told = "family.svg is of other results: python site/picture.py"
    assert (ROOT / "family.svg").read_text(encoding="utf-8") == drawn + "\n", told
    assert "(family.svg)" in (ROOT / "README.md").read_text(encoding="utf-8")[:1000]
