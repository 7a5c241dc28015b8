"""A finished run and pictures of one's own: where it looks, and what it says."""

import csv
import os

from conftest import ROOT, clean

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

NAME = "LeNet"
EXAMPLES = ROOT / "some_branches" / "images" / "data" / "examples"
WORDS = ("--epochs", 1, "--limit", 100)
FOLDER = "laptop-epochs-1-limit-100-seed0"
LAST = {  # of each branch a small network, and the positions of the maps that are looked at
    "LeNet": ("LeNet5", {}, 32, 5),
    "ReLU": ("LeNet5", {}, 32, 5),
    "AlexNet": ("AlexNet", {"image_size": 64, "width": 0.125}, 64, 3),
    "VGG": ("VGG", {"image_size": 32, "width": 0.125, "config": "A"}, 32, 4),
    "GoogLeNet": ("GoogLeNet", {"image_size": 64, "width": 0.125}, 64, 4),
    "BatchNorm": ("GoogLeNet", {"image_size": 64, "width": 0.125}, 64, 4),
    "ResNet": ("CifarResNet", {"depth": 8}, 28, 7),
}


# Where it looks


class Tiny(torch.nn.Module):
    """Two feature maps and what comes after them, in float64."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.convolution = torch.nn.Conv2d(1, 2, 3).double()
        self.first = torch.nn.Linear(2 * 4 * 5, 6).double()
        self.second = torch.nn.Linear(6, 3).double()

    def maps(self, images):
        return torch.tanh(self.convolution(images))

    def scores(self, maps):
        return self.second(torch.tanh(self.first(maps.flatten(1))))

    def forward(self, images):
        return self.scores(self.maps(images))


def test_grad_cam_is_what_finite_differences_and_loops_come_to(branch):
    """Of two images, each with a class of its own."""
    model, step = Tiny(), 1e-6
    images, classes = torch.randn(2, 1, 6, 7, dtype=torch.double), [2, 0]
    found = branch.gradcam.grad_cam(model, images, torch.tensor(classes))
    with torch.no_grad():
        for number, chosen in enumerate(classes):
            maps = model.maps(images[number : number + 1])
            total = torch.zeros(4, 5, dtype=torch.double)
            for k in range(2):
                slopes = []
                for i in range(4):
                    for j in range(5):
                        moved = maps.clone()
                        moved[0, k, i, j] += step
                        slope = (model.scores(moved) - model.scores(maps))[0, chosen] / step
                        slopes.append(slope.item())
                total += sum(slopes) / 20 * maps[0, k]
            expected = total.clamp(min=0).float()
            assert expected.any()
            torch.testing.assert_close(found[number], expected, rtol=1e-4, atol=1e-7)
    assert not images.requires_grad


@pytest.mark.parametrize("name", LAST)
def test_it_looks_at_the_last_feature_maps_that_have_positions(every_branch, name):
    """Whatever forward() makes of layers; in micro-batches, too."""
    branch = every_branch[name]
    network, knobs, side, positions = LAST[name]
    torch.manual_seed(0)
    model = getattr(branch.model, network)(in_channels=1, num_classes=10, **knobs).eval()
    images, classes = torch.randn(2, 1, side, side), torch.tensor([3, 5])
    found = branch.gradcam.grad_cam(model, images, classes)
    assert found.shape == (2, positions, positions)
    branch.device.adapt(model, "cpu", 1)
    torch.testing.assert_close(branch.gradcam.grad_cam(model, images[:1], classes[:1]), found[:1])


# What it says


def table(folder):
    with open(folder / "predict.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def finished(branch, small):
    """The folder of a finished run."""
    small(branch)
    branch.train.fit(branch.parse(*WORDS))
    return branch.home / "checkpoints" / NAME / FOLDER


def test_what_is_said_of_a_picture_is_the_softmax_of_its_scores(branch, finished):
    before = {path.name: path.read_bytes() for path in finished.glob("[!.]*")}
    picture = EXAMPLES / "bag.png"
    done = branch("train.py", *WORDS, "--predict", picture)
    assert done.code == 0 and not done.err, done.err
    first, said, last = done.out.splitlines()
    assert str(finished) in first and last == f"{finished / 'predict-bag.png'}: drawn"
    model = branch.model.LeNet5().eval()
    model.load_state_dict(torch.load(finished / "weights.pt", weights_only=True)["weights"])
    inputs = F.pad(torch.tensor(branch.pixels.centered(picture, 28, 28)), [2] * 4)
    with torch.no_grad():
        chances = model(inputs[None].float() * (1.275 / 255) - 0.1).softmax(1)[0]
    with branch.imported():
        classes = branch.sets.FASHION_MNIST_CLASSES
    best = [f"{classes[i]} {chances[i]:.1%}" for i in chances.argsort(descending=True)[:5]]
    assert said == f"{picture}: {', '.join(best)}"
    after = {path.name: path.read_bytes() for path in finished.glob("[!.]*")}
    drawn = after.pop("predict-bag.png")
    assert drawn.startswith(b"\x89PNG") and after == before


def test_the_picture_shows_what_was_given_seen_and_looked_at(branch, tmp_path, monkeypatch):
    """Of three images, the last without anything that speaks for its class; and an empty place."""
    figures = []
    monkeypatch.setattr(branch.plots, "save", lambda figure, path: figures.append(figure))
    shown = []
    for number, shape in enumerate(((1, 4, 4), (3, 4, 4), (1, 4, 4))):
        path = tmp_path / f"{number} $.png"
        Image.new("RGB", (30, 20), (9, 8, 7)).save(path)
        view = torch.arange(shape[0] * 16.0).view(shape) - 5
        cam = torch.eye(2) * (number < 2)
        guesses = [("cat", 0.75), ("a $dog$", 0.25)]
        shown.append(branch.predicting.Shown(path, view, guesses, cam))
    branch.predicted.draw(tmp_path / "x.png", shown, "Title")
    (figure,) = figures
    rows = [figure.axes[place : place + 4] for place in range(0, 16, 4)]
    for number, (given, seen, where, classes) in enumerate(rows[:3]):
        assert given.get_title() == f"{number} $.png" and seen.get_title().endswith("4 × 4")
        assert given.images[0].get_array().shape == (20, 30, 3)
        pixels = seen.images[0].get_array()
        assert pixels.shape[:2] == (4, 4) and (pixels.min(), pixels.max()) == (0, 1)
        about = "2 × 2 positions" if number < 2 else "nothing speaks for it"
        assert where.get_title() == f"Grad-CAM: cat\n{about}"
        strength = where.images[1].get_array()
        assert strength.shape == (4, 4) and strength.max() == (number < 2)
        assert [text.get_text() for text in classes.texts] == ["cat  75.0%", "a $dog$  25.0%"]
        assert [bar.get_width() for bar in classes.patches] == [0.75, 0.25]
    assert not any(axes.axison for axes in rows[3])


def test_a_folder_is_a_table_and_a_dozen_is_drawn(branch, finished, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(branch.predicted, "draw", lambda path, few, title: shown.extend(few))
    for number in range(14):
        Image.new("RGB", (9, 9), (0, 0, 9 * number)).save(tmp_path / f"{number:02}.png")
    for other in (".hidden.png", "notes.txt"):
        (tmp_path / other).write_text("no image")
    done = branch("train.py", *WORDS, "--predict", EXAMPLES / "bag.png", tmp_path)
    assert done.code == 0, done.err
    rows = table(finished)
    assert [row["file"].split("/")[-1] for row in rows[:2]] == ["bag.png", "00.png"]
    assert len(rows) == 15 and len(shown) == 12
    for row in rows:
        chances = [float(row[f"probability_{place}"]) for place in range(1, 6)]
        assert chances == sorted(chances, reverse=True) and sum(chances) <= 1.001
        assert len({row[f"class_{place}"] for place in range(1, 6)}) == 5


def test_what_cannot_be_written_is_a_warning(branch, finished, monkeypatch):
    """The table, and the picture; what is printed is there all the same."""
    for module, name in ((branch.predicting, "write_csv"), (branch.predicted, "draw")):
        monkeypatch.setattr(module, name, lambda *_: open(finished / "no" / "file"))
    done = branch("train.py", *WORDS, "--predict", EXAMPLES)
    assert done.code == 0 and "bag.png: " in done.out
    assert [line.split(": ")[1] for line in done.err.splitlines()] == [
        "no predict.csv",
        "no predict-ankle-boot.png",
    ]


def test_which_run_it_is(branch, finished, tmp_path, monkeypatch):
    """That of the same command; without flags, the newest; or the one that --run names."""
    monkeypatch.setattr(branch.predicted, "draw", lambda *_: None)
    picture = ("--predict", EXAMPLES / "bag.png")

    def run(*words):
        done = branch("train.py", *words, *picture)
        assert done.code == 0, done.err
        return done.out.splitlines()[0].removeprefix("With the weights in ").removesuffix(":")

    other = finished.with_name("laptop-epochs-1-limit-100-activation-tanh-seed1")
    branch.train.fit(branch.parse(*WORDS, "--activation", "tanh", "--seed", 1))
    for path, moment in ((finished, 2_000), (other, 1_000)):
        os.utime(path / "weights.pt", (moment, moment))
    assert run() == str(finished) and run("--device", "cpu") == str(finished)
    os.utime(other / "weights.pt", (3_000, 3_000))
    assert run() == str(other)  # of other settings than the recipe's
    assert run(*WORDS) == str(finished) and run("--run", finished) == str(finished)
    branch.lock.held.clear()
    moved = tmp_path / "elsewhere"
    other.rename(moved)
    assert run("--run", moved) == str(moved)
    stranger = torch.load(moved / "weights.pt", weights_only=True)
    stranger["provenance"]["code"]["model.py"] = "another branch's"
    other.mkdir()
    torch.save(stranger, other / "weights.pt")
    experiment = finished.with_name("laptop-experiment-shifts-seed0")
    experiment.mkdir()
    (experiment / "weights.pt").write_bytes((moved / "weights.pt").read_bytes())
    (finished.with_name("broken")).mkdir()
    (finished.with_name("broken") / "weights.pt").write_text("broken")
    assert run() == str(finished)
    plain = finished.with_name("laptop-seed0")  # what the command itself would train goes first
    plain.mkdir()
    (plain / "weights.pt").write_bytes((finished / "weights.pt").read_bytes())
    os.utime(plain / "weights.pt", (1_000, 1_000))
    assert run() == str(plain)


def test_what_cannot_be_is_one_line_and_nothing_is_written(branch, finished, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes((EXAMPLES / "bag.png").read_bytes()[:999])
    (tmp_path / "empty").mkdir()
    before = sorted((branch.home / "checkpoints").rglob("*"))

    def refused(*words, command=("train.py",)):
        done = branch(*command, *words[:-1])
        assert done.code == 2 and len(done.err.splitlines()) == 1, done
        assert words[-1] in done.err and sorted((branch.home / "checkpoints").rglob("*")) == before

    bag = EXAMPLES / "bag.png"
    for name in ("nowhere.png", "text.png", "cut.png", "empty"):
        refused(*WORDS, "--predict", bag, tmp_path / name, str(tmp_path / name))
    refused(*WORDS, "--seed", 9, "--predict", bag, "holds no finished run")
    refused(*WORDS, "--fresh", "--predict", bag, "--fresh")
    refused(*WORDS, "--dry-run", "--predict", bag, "--dry-run")
    refused("--run", finished, "--run would do nothing")
    refused("--run", finished, "--seed", 1, "--predict", bag, "leave out")
    refused("--run", tmp_path, "--predict", bag, str(tmp_path / "weights.pt"))
    refused("--predict", "expected at least one argument")
    refused("--predict", bag, "for train.py", command=("experiments.py", "shifts"))
    saved = torch.load(finished / "weights.pt", weights_only=True)
    for place, value in (("recipe", "feast"), ("model", "VGG"), ("epochs", "many")):
        changed = saved | {"settings": saved["settings"] | {place: value}}
        torch.save(changed, tmp_path / "weights.pt")
        refused("--run", tmp_path, "--predict", bag, value)
        (tmp_path / ".lock").unlink(missing_ok=True)


def test_several_processes_are_refused(branch, monkeypatch):
    monkeypatch.setattr(branch.ranks, "WORLD", 2)
    with pytest.raises(branch.errors.Refusal, match="torchrun"):
        branch.predicting.predict(None, None, None)


@pytest.mark.parametrize("name, recipe", [("LeNet", "laptop"), ("ResNet", "paper")])
def test_images_of_ones_own_folder_are_what_the_run_took_them_for(
    every_branch, photographs, monkeypatch, name, recipe
):
    """The validation images, in the order of the run; the paper's recipe takes any shape."""
    branch = every_branch[name]
    monkeypatch.setattr(branch.predicted, "draw", lambda *_: None)
    words = ["--recipe", recipe, "--data", photographs, "--workers", 0, "--epochs", 1]
    words += ["--batch-size", 8]
    if recipe == "paper":
        words += ["--limit", 8, "--width", 0.125, "--side", 80, "--image-size", 64]
        words += ["--scales", 64, 80, "--test-scales", 64, 80, "--depth", 18]
    run = branch.train.fit(branch.parse(*words))
    with open(run.folder / "predictions.csv", encoding="utf-8") as file:
        taken, named = zip(*((row["predicted"], row["file"]) for row in csv.DictReader(file)))
    files = [path for path, _ in branch.folder.find(photographs)[1]["validation"]]
    assert [*named] == files
    done = branch("train.py", *words, "--predict", *files)
    lines = [line for line in done.out.splitlines() if line.startswith(tuple(files))]
    assert done.code == 0 and len(lines) == 10, done.err
    assert [line.split(": ")[-1].split()[0] for line in lines] == [*taken]
    assert all({"cat", "dog"} <= {*line.replace(":", "").split()} for line in lines)
    clean(branch)


def test_paths_come_in_any_order_and_are_no_part_of_a_run(harness):
    chosen = harness.parse("--seed", 1, "--predict", "b.png", "a.png")
    assert chosen.predict == ("b.png", "a.png") and chosen.title() == "laptop-seed1"
    assert not {"predict", "run"} & chosen.identity().keys()
