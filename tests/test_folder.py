"""Folders of images: every kind of file, every kind of disorder."""

import pytest
import torch
from PIL import Image

from conftest import run_python

COLORS = {"blue": (0, 0, 255), "green": (0, 160, 0), "red": (255, 0, 0)}


def save(path, color="red", size=(60, 40), mode="RGB", **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, COLORS[color]).convert(mode).save(path, **how)


@pytest.fixture
def folder(tmp_path):
    """Three classes; the training images are in two parts, in files of several sizes and kinds."""
    home = tmp_path / "my images"
    for color in COLORS:
        for n in range(8):
            save(home / "train.X1" / color / f"{n}.png", color, (30 + n, 50 - n))
            save(home / "train.X2" / color / "deeper" / f"{n}.JPEG", color, (90, 45 + n))
            save(home / "val" / color / f"{n}.jpg", color)
        (home / "val" / color / "notes.txt").write_text("no image")
    return home


def batch(loader):
    images, labels = zip(*loader)
    return torch.cat(images), torch.cat(labels)


def test_classes_are_numbered_by_name_and_parts_are_one(harness, folder, capsys):
    loaded = harness.data.load(str(folder), None, size=8)
    assert loaded.classes == ("blue", "green", "red") and loaded.channels == 3
    assert (len(loaded.train), len(loaded.validation), loaded.test) == (48, 24, None)
    for path, label in loaded.train.files + loaded.validation.files:
        assert f"/{loaded.classes[label]}/" in path
    assert capsys.readouterr().err == ""


def test_a_class_that_a_split_lacks_is_reported_and_keeps_the_numbers(harness, folder, capsys):
    save(folder / "train.X2" / "amber" / "0.png", "red")
    save(folder / "test" / "red" / "0.png", "red")
    (folder / "train.X1" / ".cache").mkdir()
    (folder / "train.X1" / "red" / "._0.png").write_bytes(b"hidden")
    loaded = harness.data.load(str(folder), None, size=8)
    assert loaded.classes == ("amber", "blue", "green", "red")
    assert {label for _, label in loaded.validation.files} == {1, 2, 3}
    assert [label for _, label in loaded.test.files] == [3]
    first, second = capsys.readouterr().err.splitlines()
    assert "val" in first and first.endswith(": amber")
    assert "test" in second and second.endswith(": amber, blue, green")


def test_a_limit_takes_images_of_all_classes(harness, folder):
    loaded = harness.data.load(str(folder), None, limit=12, size=8)
    assert len(loaded.train) == 12 and {label for _, label in loaded.train.files} == {0, 1, 2}
    assert len(loaded.validation) == 24


@pytest.mark.parametrize(
    "name, mode, color",
    [
        ("a.png", "RGB", (255, 0, 0)),
        ("a.png", "RGBA", (255, 0, 0)),
        ("a.png", "P", (255, 0, 0)),
        ("a.gif", "P", (255, 0, 0)),
        ("a.jpg", "CMYK", (255, 0, 0)),
        ("a.jpg", "L", (76, 76, 76)),  # the grey of red
        ("a.png", "1", None),
        ("a.tif", "I;16", (128, 128, 128)),
        ("a.webp", "RGB", (255, 0, 0)),
    ],
)
def test_every_kind_of_file_has_three_channels(harness, tmp_path, name, mode, color):
    if mode == "I;16":
        Image.new(mode, (60, 40), 128 * 257).save(tmp_path / name)
    else:
        save(tmp_path / name, "red", mode=mode)
    image = harness.data.decode(tmp_path / name, 16)
    assert image.shape == (3, 16, 16) and image.dtype == torch.uint8
    if color:
        assert (image.flatten(1).float().mean(1) - torch.tensor(color)).abs().max() < 4


def test_what_is_transparent_is_white(harness, tmp_path):
    image = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 10, 20))
    image.save(tmp_path / "a.png")
    image = harness.data.decode(tmp_path / "a.png", 20)
    assert (image[:, :, :9] == 0).all() and (image[:, :, 11:] == 255).all()


def test_floating_point_pixels_are_not_guessed(harness, tmp_path):
    Image.new("F", (20, 20), 0.5).save(tmp_path / "a.tif")
    assert harness.data.Images([(tmp_path / "a.tif", 0)], 8)[0][0] is None


def test_of_an_animation_the_first_frame_counts(harness, tmp_path):
    frames = [Image.new("RGB", (20, 20), COLORS[color]) for color in ("green", "red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    image = harness.data.decode(tmp_path / "a.gif", 10)
    assert (image.flatten(1).float().mean(1) - torch.tensor([0, 160, 0])).abs().max() < 4


@pytest.mark.parametrize("size", [(1600, 900), (700, 2100), (33, 40)])
def test_the_middle_of_a_photograph_is_scaled_well(harness, tmp_path, size):
    """Also where a large JPEG is decoded at a fraction of its size: against Pillow's resizing."""
    width, height = size
    x = torch.linspace(0, 9, width).sin()[None, :] * torch.linspace(0, 7, height).cos()[:, None]
    grey = Image.fromarray(((x + 1) * 127).to(torch.uint8).numpy())
    grey.save(tmp_path / "a.jpg", quality=95)
    image = harness.data.decode(tmp_path / "a.jpg", 32)[0].float()
    scale = 32 / min(size)
    small = grey.resize((int(width * scale), int(height * scale)), Image.Resampling.BILINEAR)
    left, top = (small.width - 32) // 2, (small.height - 32) // 2
    small = small.crop((left, top, left + 32, top + 32))
    expected = torch.tensor(list(small.tobytes())).view(32, 32).float()
    assert (image - expected).abs().mean() < 4


@pytest.fixture
def workers(lenet, monkeypatch):
    """Worker processes that are spawned, not forked, find the harness by this."""
    monkeypatch.syspath_prepend(lenet[0])


def test_a_broken_file_is_named_once_and_left_out(harness, workers, folder, capsys):
    broken = folder / "val" / "red" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    (folder / "val" / "blue" / "0.jpg").write_bytes(b"")
    loaded = harness.data.load(str(folder), None, size=8)
    loader = harness.data.batches(loaded.validation, 4, lambda x: x, False, "cpu")
    assert len(loader) == 6 and len(loader.dataset) == 24
    for _ in range(2):
        images, labels = batch(loader)
        assert images.shape == (22, 3, 8, 8) and labels.bincount().tolist() == [7, 8, 7]
        for image, label in zip(images, labels):
            assert (image[:, 4, 4] - torch.tensor([*COLORS.values()])[label]).abs().max() < 8
    error = capsys.readouterr().err
    assert error.count(broken.as_posix()) == 1 and len(error.splitlines()) == 2


def test_images_may_stay_whole_outside_of_training(harness, workers, folder):
    """Left is blue and right is red: the square in the middle has lost both ends."""
    wide = Image.new("RGB", (90, 30), COLORS["blue"])
    wide.paste(COLORS["red"], (45, 0, 90, 30))
    for path in (folder / "val" / "green").glob("*.jpg"):
        wide.save(path)
    recipes = {"laptop": {"data": str(folder), "epochs": 1, "batch_size": 5, "lr": 1.0}}
    options = harness.run.command_line("About.", recipes, ())
    for whole, shapes in (
        (True, {(1, 3, 8, 12), (1, 3, 8, 24)}),
        (False, {(24, 3, 8, 8)}),
    ):
        run = harness.run.Run("LeNet", options)
        train, validation, _ = run.data(lambda images: images, side=8, whole=whole)
        assert {images.shape for images, _ in validation} == shapes
        assert {images.shape[1:] for images, _ in train} == {(3, 8, 8)}
    image = harness.data.decode(path, 8, whole=True)
    ends = image[:, 4, [1, 22]].T.int() - torch.tensor([COLORS["blue"], COLORS["red"]])
    assert ends.abs().max() < 20


def test_many_broken_files_stop_the_run(harness, workers, folder, capsys):
    for color in COLORS:
        for path in (folder / "val" / color).glob("*.jpg"):
            path.write_bytes(b"broken")
    loaded = harness.data.load(str(folder), None, size=8)
    loader = harness.data.batches(loaded.validation, 12, lambda x: x, False, "cpu")
    with pytest.raises(SystemExit) as stopped:
        list(loader)
    assert stopped.value.code == 2 and "is this data set whole?" in capsys.readouterr().err


def test_a_class_that_is_not_trained_is_refused(harness, folder, capsys):
    save(folder / "test" / "images" / "0.png", "red")
    with pytest.raises(SystemExit) as stopped:
        harness.data.load(str(folder), None, size=8)
    assert stopped.value.code == 2 and "images" in capsys.readouterr().err


def test_a_split_without_one_readable_image_is_refused(harness, workers, tmp_path, capsys):
    (tmp_path / "0.png").write_bytes(b"broken")
    images = harness.data.Images([(str(tmp_path / "0.png"), 0)], 8)
    with pytest.raises(SystemExit) as stopped:
        list(harness.data.batches(images, 4, lambda x: x, False, "cpu"))
    assert stopped.value.code == 2 and "none of the 1" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["train.X1 and train.X2", "val", "images"])
def test_a_folder_that_is_none_is_refused_in_one_line(lenet, folder, missing):
    for part in ("train.X1", "train.X2", "val"):
        if part in missing:
            (folder / part).rename(folder / f"no {part}")
        if missing == "images" and part != "val":
            for path in [*(folder / part).rglob("*.png"), *(folder / part).rglob("*.JPEG")]:
                path.unlink()
    done = run_python(lenet[0] / "train.py", "--data", folder, "--dry-run")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert str(folder) in done.stderr


def test_a_network_trains_on_a_folder_and_the_result_is_named_for_what_it_is(lenet, folder):
    words = ["--data", folder.name, "--epochs", "8", "--batch-size", "8"]
    done = run_python(lenet[0] / "train.py", *words, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    assert "\nValidation accuracy" in done.stdout and "Test accuracy" not in done.stdout
    (weights,) = lenet[0].glob("checkpoints/LeNet/*data-my images*/weights.pt")
    result = torch.load(weights, weights_only=True)["result"]
    assert result["validation_accuracy"] > 0.9 and result["images"] == 24
    assert "test_accuracy" not in result
    again = run_python(lenet[0] / "train.py", "--data", folder, *words[2:])
    assert "finished before" in again.stdout
    save(folder / "test" / "red" / "0.png", "red")
    done = run_python(lenet[0] / "train.py", "--data", folder, "--fresh", *words[2:])
    assert "\nTest accuracy" in done.stdout, done.stderr


DIES = """
import os, sys
from harness import run
save = run.Run.save
def save_and_die(self):
    save(self)
    if self.epoch == 1:
        os._exit(9)
run.Run.save = save_and_die
import train
train.main()
"""


def test_on_a_folder_too_a_run_that_died_ends_with_the_same_bits(lenet, folder):
    words = ["--data", folder, "--epochs", "3", "--batch-size", "16", "--seed", "5"]
    weights = []
    for start in (["train.py", "--fresh"], ["-c", DIES, "--fresh"], ["train.py"]):
        done = run_python(*start, *words, cwd=lenet[0])
        assert done.returncode == (9 if "-c" in start else 0), done.stderr
        if done.returncode == 0:
            (path,) = lenet[0].glob("checkpoints/LeNet/*my images*-seed5/weights.pt")
            weights.append(torch.load(path, weights_only=True)["weights"])
    assert "1 of them done before" in done.stdout
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_other_files_are_another_run(lenet, folder):
    words = ["--data", folder, "--epochs", "1", "--seed", "6"]
    assert run_python(lenet[0] / "train.py", *words).returncode == 0
    save(folder / "train.X1" / "red" / "new.png", "red")
    done = run_python(lenet[0] / "train.py", *words)
    assert done.returncode == 2 and "files is" in done.stderr, done.stderr
