"""results.py, on a small repository that trains by copying; and the tables of README."""

import re
import shutil

import branches
import results
from conftest import MODELS, ROOT, run_python
from repos import MAIN, Repo, entry, listing

import pytest
import torch

TRAIN = """
import shutil, sys
from pathlib import Path

name, seed = Path.cwd().name, sys.argv[2]
prepared = Path(__file__).resolve().parents[2] / "prepared"
with open(prepared / "log", "a") as file:
    print(name, *sys.argv[1:], file=file)
folder = Path("checkpoints", name, f"laptop-seed{seed}")
folder.mkdir(parents=True, exist_ok=True)
if not (prepared / f"{name}-{seed}.pt").exists():
    sys.exit(2)
shutil.copyfile(prepared / f"{name}-{seed}.pt", folder / "weights.pt")
"""
README = "# Here\n<!-- made by results.py --readme -->\n<!-- end -->\nThe end.\n"
MADE_BY = {"python": "3.11.7", "torch": "2.14.1", "processor": "An Abacus"}
HEAD = ["| Branch | Parameters | Multiply-accumulates | Test accuracy, % | Minutes |"]
HEAD += ["|---|--:|--:|--:|--:|"]


def weights(name, seed, accuracy=0.9, split="test", **made_by):
    """What weights.pt of a run of today's files holds, as far as results.py reads it."""
    home = branches.ROOT / "models" / name
    code = {file: results.digest(home / file) for file in ("model.py", "train.py")}
    return {
        "settings": {"recipe": "laptop", "seed": seed, "data": "fashion-mnist"},
        "provenance": {**MADE_BY, "code": code, "device": "cpu", "threads": 2, **made_by},
        "result": {
            "metrics": {"accuracy": accuracy, "loss": 1 / 3},
            "split": split,
            **{"epoch": 7, "epochs": 9, "seconds": 90.04, "parameters": 1234, "macs": 56789},
        },
    }


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A main with the models Old and New, whose trainings with seeds 0 and 1 will succeed."""
    repo = Repo(tmp_path / "main")
    repo.folder.mkdir()
    repo.write({path: text for path, text in MAIN.items() if "Middle" not in path})
    fields = {"task": "classification", "row": "small"}
    old, new = entry("Old", **fields), entry("New", ["Old"], task="classification")
    repo.write({"models/Old/train.py": TRAIN, "models/New/train.py": TRAIN, **listing(old + new)})
    repo.write({"README.md": README, "results.csv": ",".join(results.COLUMNS) + "\n"})
    repo.write({".gitignore": ".branches\nprepared\n", "prepared/log": ""})
    repo.git("init", "-q", "-b", "main")
    monkeypatch.setattr(branches, "ROOT", repo.folder)
    prepare(repo.folder)
    return repo.folder


def prepare(home):
    for name, accuracy in (("Old", 0.9), ("New", 0.95)):
        for seed in (0, 1):
            saved = weights(name, seed, accuracy + seed / 100)
            torch.save(saved, home / "prepared" / f"{name}-{seed}.pt")


def finished(home, name, run, **more):
    """The folder of a run that finished elsewhere."""
    folder = home / "checkpoints" / name / run
    folder.mkdir(parents=True)
    torch.save(weights(name, 3, **more), folder / "weights.pt")
    return folder


def log(home):
    """How often train.py was called, and how, since this was asked last."""
    lines = (home / "prepared/log").read_text().splitlines()
    (home / "prepared/log").write_text("")
    return lines


def table(home):
    return (home / "README.md").read_text(encoding="utf-8").split("-->\n")[1].splitlines()[:-1]


def test_what_is_missing_is_trained_and_stands_in_csv_and_readme(home, capfd):
    assert results.main(["--seeds", "0", "1"]) == 0
    assert log(home) == [f"{name} --seed {seed}" for name in ("Old", "New") for seed in (0, 1)]
    rows = results.read_rows()
    assert [results.key(row) for row in rows] == [
        *(("Old", "laptop", "0"), ("Old", "laptop", "1")),
        *(("New", "laptop", "0"), ("New", "laptop", "1")),
    ]
    assert list(rows[0].values())[:-1] == [
        *("Old", "laptop", "0", "test", "accuracy=0.9 loss=0.333333", "7", "9", "90.0"),
        *("1234", "56789", "An Abacus", "2", "3.11.7", "2.14.1"),
    ]
    assert re.fullmatch("[0-9a-f]{12}", rows[0]["code"]) and rows[0]["code"] != rows[2]["code"]
    assert table(home) == [
        *HEAD,
        "| Old (small) | 1,234 | 56,789 | 90.50 ± 0.71 (2 seeds) | 1.5 |",
        "| New | 1,234 | 56,789 | 95.50 ± 0.71 (2 seeds) | 1.5 |",
        "",
        "Measured on An Abacus (2 threads), PyTorch 2.14.1, Python 3.11.7.",
    ]
    printed = capfd.readouterr().out
    assert "Old, seed 0: run 1 of 4\n" in printed
    assert "Old, seed 1: run 2 of 4, more than 2 min left\n" in printed
    assert "New, seed 1: run 4 of 4, about 2 min left\n" in printed
    assert "\n".join(table(home)) in printed

    before = (home / "results.csv").read_bytes()
    assert results.main(["--seeds", "0", "1"]) == 0
    assert log(home) == [] and (home / "results.csv").read_bytes() == before


def test_a_training_that_fails_stops_no_other_and_is_made_up_for(home, capfd):
    torch_file = home / "prepared/Old-1.pt"
    torch_file.rename(home / "prepared/later")
    assert results.main(["--seeds", "0", "1"]) == 1
    assert "python train.py --seed 1 in .branches/Old" in capfd.readouterr().err
    assert len(results.read_rows()) == 3 and len(log(home)) == 4
    checkpoint = home / ".branches/Old/checkpoints/Old/laptop-seed1/state.pt"
    checkpoint.write_text("half way")
    (home / "models/Old/summary.md").write_text("new\n")
    (home / "prepared/later").rename(torch_file)
    assert results.main(["--seeds", "0", "1"]) == 0
    assert log(home) == ["Old --seed 1"] and len(results.read_rows()) == 4
    assert checkpoint.read_text() == "half way", "what a run left behind stays"
    assert (home / ".branches/Old/summary.md").read_text() == "new\n"


def test_a_row_of_other_code_is_marked_and_trained_again_on_request(home):
    results.main(["--seeds", "0"])
    (home / "models/Old/model.py").write_text("better\n")
    prepare(home)
    assert results.main(["--readme"]) == 0
    assert table(home)[2:4] == [
        "| Old (small) | 1,234 | 56,789 | 90.00 (1 seed) † | 1.5 |",
        "| New | 1,234 | 56,789 | 95.00 (1 seed) | 1.5 |",
    ]
    assert "† Measured with an earlier version of model.py or train.py." in table(home)
    log(home)
    assert results.main(["--seeds", "0"]) == 0 and log(home) == []
    assert results.main(["--seeds", "0", "--again"]) == 0
    assert log(home) == ["Old --seed 0 --fresh"]
    assert [row["branch"] for row in results.read_rows()] == ["Old", "New"]
    assert "†" not in "".join(table(home))
    with open(home / "models/New/train.py", "a") as file:
        file.write("changed = 1\n")
    assert results.main(["--readme"]) == 0
    assert [line.count("†") for line in table(home)[2:4]] == [0, 1]


def test_what_is_missing_can_be_chosen_and_listed(home, capsys):
    assert results.main(["--models", "New", "--seeds", "1", "4", "--dry-run"]) == 0
    assert capsys.readouterr().out == "New, seed 1\nNew, seed 4\n2 to train\n"
    assert log(home) == [] and results.read_rows() == []
    assert results.time_left([("New", 1)] * 3, {"New": [40, 80]}) == ", about 3 min left"
    assert results.main(["--models", "Nobody"]) == 2
    assert capsys.readouterr().err == "results.py: path.toml lists no Nobody\n"


def test_a_finished_run_is_taken_in(home, capsys):
    folder = finished(home, "New", "paper-lr-0.1-seed3", split="validation", device="A GPU")
    assert results.main(["--add", str(folder)]) == 0
    assert table(home) == [
        *HEAD,
        "| Old (small) | | | not run yet | |",
        "| New | | | not run yet | |",
        "| New, `paper-lr-0.1` | 1,234 | 56,789 | 90.00 (validation, 1 seed) | 1.5 |",
        "",
        "Measured on An Abacus, A GPU (2 threads), PyTorch 2.14.1, Python 3.11.7.",
    ]
    assert results.main(["--add", str(folder)]) == 2
    assert "New, paper-lr-0.1, 3 already; --again replaces it" in capsys.readouterr().err
    assert results.main(["--models", "New", "--seeds", "0", "--dry-run"]) == 0
    assert capsys.readouterr().out == "New, seed 0\n1 to train\n", "another recipe tells no time"
    torch.save(weights("New", 3, 0.91), folder / "weights.pt")
    assert results.main(["--add", str(folder), "--again"]) == 0
    assert [row["metrics"][:13] for row in results.read_rows()] == ["accuracy=0.91"]


def test_what_is_no_finished_run_is_refused(home, capsys):
    before = (home / "results.csv").read_bytes(), (home / "README.md").read_bytes()
    broken = finished(home, "Old", "laptop-seed8") / "weights.pt"
    broken.write_bytes(broken.read_bytes()[:100])
    stranger = shutil.copytree(finished(home, "New", "laptop-seed3"), home / "Nobody/laptop-seed3")
    nothing = finished(home, "Old", "laptop-seed5")
    (nothing / "weights.pt").unlink()
    digits = finished(home, "New", "paper-seed3")
    saved = torch.load(digits / "weights.pt", weights_only=True)
    saved["settings"]["data"] = "mnist"
    torch.save(saved, digits / "weights.pt")
    for folder in (broken.parent, stranger, nothing, home, digits):
        assert results.main(["--add", str(folder)]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("results.py: ")
    assert "was trained on mnist; README's table is of fashion-mnist" in lines[0]
    assert ((home / "results.csv").read_bytes(), (home / "README.md").read_bytes()) == before


def test_a_baseline_comes_first_and_machines_are_told_apart(home):
    results.main(["--models", "Old", "--seeds", "0"])
    (row,) = results.read_rows()
    baseline = {"branch": results.TASKS["classification"].baselines[0], "code": "", "threads": "1"}
    results.add({**row, **baseline, "metrics": "accuracy=0.845 loss=1"})
    assert table(home)[2:] == [
        "| *baseline: linear classifier* | 1,234 | 56,789 | 84.50 (1 seed) | 1.5 |",
        "| Old (small) | 1,234 | 56,789 | 90.00 (1 seed) | 1.5 |",
        "| New | | | not run yet | |",
        "",
        "Measured on:",
        "",
        "- Old: An Abacus (2 threads), PyTorch 2.14.1, Python 3.11.7",
        "- baseline: linear classifier: An Abacus (1 thread), PyTorch 2.14.1, Python 3.11.7",
    ]


def test_a_model_that_only_counts_has_no_seeds_and_no_machine(home):
    row = dict.fromkeys(results.COLUMNS, "") | {"split": "test", "metrics": "accuracy=0.7"}
    results.add({**row, "branch": results.TASKS["classification"].baselines[0], "run": "laptop"})
    assert table(home)[2] == "| *baseline: linear classifier* |  |  | 70.00 |"
    assert "Measured" not in "".join(table(home))


def test_each_task_has_its_table(home, monkeypatch, capsys):
    toml = (home / "path.toml").read_text(encoding="utf-8").split("[[model]]")
    toml[2] = toml[2].replace("classification", "telling")
    (home / "path.toml").write_text("[[model]]".join(toml), encoding="utf-8")
    assert results.main(["--readme"]) == 2
    assert "yardstick for the task telling" in capsys.readouterr().err
    metrics = {"bits": (1, "Bits"), "chrf": (1, "chrF")}
    yardstick = results.Yardstick("words", metrics, ("baseline: silence",))
    monkeypatch.setitem(results.TASKS, "telling", yardstick)
    assert results.main(["--readme"]) == 0
    row = dict.fromkeys(results.COLUMNS, "") | {"split": "test", "metrics": "chrf=17"}
    results.add({**row, "branch": "baseline: silence"})
    heading, rule = HEAD[0].removesuffix(" Minutes |"), HEAD[1].removesuffix("--:|")  # no times
    assert table(home) == [
        *("### Classification", "", heading, rule, "| Old (small) | | | not run yet |", ""),
        *("### Telling", "", heading.replace("Test accuracy, %", "Bits | chrF"), rule + "--:|"),
        "| *baseline: silence* |  |  |  | 17.00 |",
        "| New | | | not run yet | |",
    ]


def test_a_run_that_is_half_way_by_other_code_is_trained_afresh(home):
    """A fault of one run, such as a broken file, keeps no other from being trained."""
    for name, code in (("Old", {"model.py": "1", "train.py": "2"}), ("New", None)):
        folder = home / ".branches" / name / "checkpoints" / name / "laptop-seed0"
        folder.mkdir(parents=True)
        torch.save({"provenance": {"code": code}}, folder / "state.pt")
    (home / ".branches/New/gone.py").touch()
    assert results.main(["--seeds", "0"]) == 0 and not (home / ".branches/New/gone.py").exists()
    assert log(home) == ["Old --seed 0 --fresh", "New --seed 0"]


def spoiled(*lines):
    return "\n".join([",".join(results.COLUMNS), *lines, ""])


ROW = "Old,laptop,0,test,accuracy=0.9,7,9,90,1,2,x,2,3,2,c"


@pytest.mark.parametrize(
    "text, words",
    [
        ("branch,run\n", "its first line should be branch,run,seed"),
        (spoiled(ROW, ROW), "two rows for Old, laptop, 0"),
        (spoiled(ROW, "Old,laptop"), "line 3 should have 15 values"),
        (spoiled(ROW + ",more"), "line 2 should have 15 values"),
        (spoiled(ROW.replace("Old", "Nobody")), "Nobody is neither"),
        (spoiled(ROW.replace("accuracy", "loss")), "a value is missing"),
    ],
)
def test_a_spoiled_csv_is_refused(home, capsys, text, words):
    (home / "results.csv").write_text(text)
    before = (home / "README.md").read_bytes()
    assert results.main(["--readme"]) == 2
    assert words in capsys.readouterr().err
    assert (home / "README.md").read_bytes() == before


def test_neither_program_waits_for_pytorch():
    code = "import branches, results, sys; sys.exit('torch' in sys.modules)"
    assert run_python("-c", code, cwd=ROOT).returncode == 0


def test_the_readme_agrees_with_path_toml_and_results_csv():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert branches.with_models(text, MODELS) == text, "run python branches.py --readme"
    rows = results.read_rows()
    assert results.with_tables(text, MODELS, rows) == text, "run python results.py --readme"
