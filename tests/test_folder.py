"""Folders of images: every kind of file, every kind of disorder."""

import math
import multiprocessing
import os
import pickle

from conftest import run_python

import numpy
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader


@pytest.fixture
def find(harness, tmp_path, capsys):
    """find(), which opens no file, after making some: (classes, {split: {name: class}}, lines)."""

    def found(*names, limit=None):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        classes, splits = harness.folder.find(tmp_path, limit)
        for split, files in splits.items():
            splits[split] = {path[len(str(tmp_path)) + 1 :]: classes[n] for path, n in files}
        return classes, splits, capsys.readouterr().out.splitlines()

    return found


@pytest.fixture
def loader(harness, tmp_path):
    """Makes a loader of images, each of a gray that is its class as well; the first are broken."""

    def make(count, batch_size, broken=0, smallest=1, shuffle=False, workers=0):
        files = [(str(tmp_path / f"{n}.png"), n) for n in range(count)]
        for path, n in files:
            Image.new("L", (8, 8), n).save(path)
            if n < broken:
                os.truncate(path, n % 3 * 20)
        how = (batch_size, torch.Tensor.clone, shuffle, "cpu", workers, smallest)
        return harness.loader.FolderLoader(harness.folder.Images(files, 8), *how)

    with harness.imported():  # by name, as workers that are not forked do
        yield make


def epoch(loader):
    """The labels of the batches of an epoch. The images must have these values."""
    batches = list(loader)
    for images, labels in batches:
        assert torch.equal(images, labels.byte().view(-1, 1, 1, 1).expand(-1, 3, 8, 8))
    return [labels.tolist() for _, labels in batches]


def test_a_folder_in_disorder_is_numbered_by_name_and_says_what_is_left_out(find):
    classes, splits, said = find(
        *("train.X1/b/0.jpg", "train.X2/a/0.JPEG", "Train/c/0.tif", "val/b/deeper/0.jfif"),
        *("validation.2/a/0.gif", "validation.2/a/1.bmp", "Test/b/0.webp", "test/1.jpg"),
        *("train_old/a/0.jpg", "validate/1.jpg", "val/0.HEIC", "val/1.heic", "test/b/2.heic"),
        *("a.mpg", "val/b/b.mpg", "val/a/README", ".0.jpg", "val/._0.jpg", "val/b/.cache.1/0.jpg"),
    )
    assert classes == ("a", "b", "c")
    for files in splits.values():
        assert all(name.split("/")[1] == label for name, label in files.items())
    assert said == [
        "left out: 2 .jpg, 1 .1: hidden",
        "left out: 1 in test, 1 in train_old/a, 1 in validate: in no class of a split",
        "left out: 3 .heic, 2 .mpg, 1 without extension: no image format that Pillow reads here",
        "train images: 3 in Train, train.X1, train.X2: 1 c, 1 b, 1 a",
        "validation images: 3 in val, validation.2: 2 a, 1 b",
        "validation has no images of: c",
        "test images: 1 in Test, test: 1 b",
        "test has no images of: a, c",
    ]


def test_many_classes_are_summed_up_and_in_an_order_that_is_the_same_everywhere(find, harness):
    names = [f"train/c{n:02}/{i}.png" for n in range(12) for i in range(10, 40 - n)]
    _, splits, said = find(*names, *(name.replace("train", "val") for name in names))
    assert all(line.endswith(": from 19 c11 to 30 c00, 12 in all") for line in said)
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(0))
    assert [*splits["train"]] == [names[n] for n in order]
    limited = find(limit=12)[1]
    assert limited == splits | {"train": dict([*splits["train"].items()][:12])}

    def digest(splits, home):
        files = [[(f"{home}/{path}", n) for path, n in own.items()] for own in splits.values()]
        return harness.images.digest([*files, None], home)

    assert digest(splits, "/here") == digest(find()[1], "/there/it/is") != digest(limited, "/here")
    assert len(bytes.fromhex(digest(splits, "/here"))) == 6


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_what_is_no_file_or_may_not_be_read_is_left_out(find, tmp_path, monkeypatch):
    (tmp_path / "val").symlink_to("train")  # this is followed; deeper, it may lead in circles
    before, home, scandir = find("train/a/0.jpg"), tmp_path / "train/a", os.scandir
    os.mkfifo(home / "9.jpg")
    (home / "loop.jpg").symlink_to(home)
    (home / "locked").mkdir()  # not to root, who may run this test: so it is made to vanish
    monkeypatch.setattr(os, "scandir", lambda path: scandir(path.replace("locked", "gone")))
    after = find()
    assert after[:2] == before[:2] and "left out: 4 .jpg: no regular file" in after[2]
    assert "left out: 2 folder(s): No such file or directory" in after[2]
    assert after[2][-1] == "only one class: every prediction is right"
    (home / "1.jpg").symlink_to("0.jpg")
    assert [*map(len, find()[1].values())] == [2, 2]


def test_a_folder_of_classes_alone_is_split_by_a_hash_of_the_paths(find):
    classes, before, said = find(*(f"{c}/{n}.jpg" for c in "ab" for n in range(99)), "docs/a.txt")
    assert classes == ("a", "b") and said[1].startswith("no train/ and val/")
    assert sorted(before["validation"])[:3] == ["a/1.jpg", "a/11.jpg", "a/18.jpg"]
    after = find("a/0.png", "aa/0.jpg", "aa/1.jpg", "b/deeper/0.jpg")[1]
    assert all(before[split].items() <= after[split].items() for split in before)


@pytest.mark.parametrize(
    "names, message",
    [
        (["cat/a.txt"], "no images for train"),
        (["cat/0.jpg"], "no images for validation"),
        (["train.X1/cat/0.jpg", "test/cat/0.jpg", "val/0.jpg"], "no images for validation"),
        (["train_old/cat/0.jpg", "Value/cat/0.jpg"], "Value looks like a split"),
        (["train/a/0.jpg", "val/a/0.jpg", "test/c/0.jpg"], "test has a class that train lacks: c"),
    ],
)
def test_a_folder_that_is_none_is_refused_in_one_line(find, harness, names, message):
    with pytest.raises(harness.folder.Refusal, match=f"{message}[^\n]*$"):
        find(*names)


def test_whatever_pillow_reads_is_found_and_has_three_channels(harness, find, tmp_path):
    modes, names = dict.fromkeys(("RGB", "RGBA", "P"), (255, 0, 0)) | {"L": (76, 76, 76)}, set()
    for kind in Image.registered_extensions().keys() - {".eps", ".im", ".ps"}:  # slow or obsolete
        for mode, color in modes.items():
            path = tmp_path / f"{mode}{kind}"
            try:
                Image.new("RGB", (60, 40), "red").convert(mode).save(path)
                Image.open(path).load()
            except Exception:
                continue
            decoded = harness.folder.decode(path, 16)
            assert decoded.shape == (3, 16, 16) and decoded.dtype == numpy.uint8
            assert abs(decoded.mean((1, 2)) - color).max() < 4, kind
            names |= {f"val/a/0{kind}", f"val/a/1{kind.upper()}"}
    assert {"val/a/1.JFIF", "val/a/0.jpe", "val/a/0.tif", "val/a/0.gif"} < names
    assert names == find("train/a/0.png", *names)[1]["validation"].keys()


def test_what_an_image_file_may_hold_is_on_white_and_of_known_brightness(harness, tmp_path):
    red, blue = (Image.new("RGB", (20, 20), color) for color in ("red", "blue"))
    Image.new("RGBA", (20, 20), (0, 0, 0, 51)).save(tmp_path / "0.png")
    red.save(tmp_path / "1.gif", save_all=True, append_images=[blue])  # the first frame counts
    Image.new("I;16", (20, 20), 128 * 257).save(tmp_path / "2.tif")
    red.convert("CMYK").save(tmp_path / "3.jpg")
    Image.new("F", (20, 20), 0.5).save(tmp_path / "4.tif")
    names = ("0.png", "1.gif", "2.tif", "3.jpg", "4.tif", "gone.png", "\0.png")
    images = list(harness.folder.Images([(f"{tmp_path}/{name}", 7) for name in names], 20))
    colors = [image.mean((1, 2)).round().tolist() for image, _, _ in images[:4]]
    assert colors == [[204, 204, 204], [255, 0, 0], [128, 128, 128], [255, 0, 0]]
    assert images[4:] == [(None, 7, f"{tmp_path}/{name}") for name in names[4:]]


def test_a_few_images_of_a_class_are_divided_as_well(find):
    """Each class keeps one to train on, though a sum of the names says otherwise."""
    names = [f"{animal}/{n}.jpg" for animal in ("cat", "dog", "horse", "owl") for n in range(2)]
    _, splits, _ = find(*names)
    assert {*splits["train"].values()} == {"cat", "dog", "horse", "owl"}
    assert splits["validation"] and len(splits["train"]) + len(splits["validation"]) == 8


@pytest.mark.parametrize("animals", [1, 40])
def test_no_class_is_left_without_an_image_to_train_on(find, animals):
    """One image a class; of the first, two."""
    _, splits, _ = find("0/a.jpg", *(f"{n}/b.jpg" for n in range(animals)))
    assert len(splits["train"]) == animals and {*splits["validation"].values()} == {"0"}


def test_a_class_may_be_called_train(find):
    classes, splits, _ = find(*(f"{name}/{n}.jpg" for name in ("bus", "train") for n in range(40)))
    assert classes == ("bus", "train") and {*splits} == {"train", "validation"}


def test_images_are_turned_as_their_camera_says(harness, tmp_path):
    """In training as by --predict."""
    image = Image.new("RGB", (40, 20), "white")
    image.paste("black", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    image.save(tmp_path / "a.png", exif=exif)
    pixels = harness.folder.Images([(str(tmp_path / "a.png"), 0)], 20, whole=True)[0][0]
    assert pixels.shape == (3, 40, 20) and pixels[:, :18].max() < pixels[:, 22:].min()


@pytest.mark.parametrize("size", [(1600, 900), (640, 1920), (33, 40)])
def test_a_photograph_is_scaled_as_pillow_scales_it(harness, tmp_path, size):
    x, y = (torch.linspace(0, 9, side).sin() for side in size)
    gray = Image.fromarray(((y.outer(x) + 1) * 127).byte().numpy())
    gray.save(tmp_path / "a.jpg", quality=95)
    small = gray.resize([32 * side // min(size) for side in size], Image.Resampling.BILINEAR)
    left, top = (small.width - 32) // 2, (small.height - 32) // 2
    middle = small.crop((left, top, left + 32, top + 32))
    for whole, expected in ((False, middle), (True, small)):
        image = harness.folder.Images([(str(tmp_path / "a.jpg"), 0)], 32, whole)[0][0]
        assert image.shape == (3, expected.height, expected.width)
        assert abs(image - numpy.float32(expected)).mean() < 4


@pytest.mark.parametrize(
    "case, sizes",
    [
        ((17, 4, 0, 2), [4, 4, 4, 4]),
        ((16, 4, 3, 1), [4, 4, 4, 1]),
        ((16, 4, 3, 2), [4, 4, 4]),
        ((14, 2, 10, 2), [2, 2]),
        ((3, 2, 2, 2), "no batch of 2 can be read"),
        ((2, 2, 2, 1), "no batch of 1 can be read"),
        ((14, 2, 11, 1), "more than 10 broken images"),
    ],
)
def test_broken_files_are_named_once_and_batches_full(harness, loader, capsys, case, sizes):
    made, broken = loader(*case), case[2]
    if isinstance(sizes, str):
        with pytest.raises(harness.folder.Refusal, match=sizes):
            epoch(made)
    else:
        for batches in (epoch(made), epoch(made)):
            assert [len(batch) for batch in batches] == sizes
            assert sum(batches, []) == [*range(broken, broken + sum(sizes))]
        assert broken or len(made) == len(sizes)
    assert len(capsys.readouterr().err.splitlines()) == broken


@pytest.mark.parametrize("shuffle", [True, False])
def test_workers_change_nothing_and_persist(harness, loader, monkeypatch, shuffle):
    """With little memory to share, what they decode comes through a pipe."""
    found = []
    for workers, room in (0, 0), (2, 0), (2, math.inf):
        monkeypatch.setattr(harness.loader, "shareable", lambda room=room: room)
        torch.manual_seed(5)
        made = loader(16, 4, 1, 1, shuffle, workers)
        assert pickle.loads(pickle.dumps(made.dataset)).files == made.dataset.files
        others, first, state = multiprocessing.active_children(), epoch(made), torch.get_rng_state()
        started = {*multiprocessing.active_children()} - {*others}
        found += [(first, epoch(made), state.tolist())]
        assert len(started) == workers and started <= {*multiprocessing.active_children()}
        torch.set_rng_state(state)  # as a run that is resumed does
        assert epoch(loader(16, 4, 1, 1, shuffle, workers)) == found[-1][1]
        kinds = {type(images) for images, _ in DataLoader.__iter__(made)}
        assert kinds == {torch.Tensor if room else numpy.ndarray}
    assert found[0] == found[1] == found[2] and (found[0][0] != found[0][1]) == shuffle


def test_it_goes_on_with_the_images_that_have_not_come_though_some_are_broken(loader):
    for done in range(4):
        made = loader(16, 4, 3, 1)
        batches, expected = iter(made), [[3, 4, 5, 6], [7, 8, 9, 10], [11, 12, 13, 14], [15]]
        assert [next(batches)[1].tolist() for _ in range(done)] == expected[:done]
        again = loader(16, 4, 3, 1)
        again.sampler.begin(None, made.used if done else 0)
        assert [labels.tolist() for _, labels in again] == expected[done:]


def test_a_program_ends_while_its_workers_are_busy(laid_out, photographs):
    """They are deaf to the signal by which Python ends what is left."""
    program = f"""
from harness.folder import Images, find
from harness.loader import FolderLoader
_, splits = find({str(photographs)!r})
loader = FolderLoader(Images(splits["train"], 500), 2, lambda x: x, False, "cpu", 2)
images, labels = next(batches := iter(loader))
"""
    done = run_python("-c", program, cwd=laid_out / "VGG", timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.parametrize("shared, words", [(0, ""), (math.inf, "negative dimension")])
def test_a_worker_that_dies_is_one_line(harness, loader, monkeypatch, shared, words):
    """As where there is less memory to share than there was."""
    monkeypatch.setattr(harness.loader, "shareable", lambda: shared)
    if not shared:
        monkeypatch.setattr(harness.folder, "decode", lambda *args: os._exit(9))
    monkeypatch.setattr(torch.Tensor, "share_memory_", lambda tensor: torch.empty(-1))
    made = loader(4, 2, workers=1)
    made.multiprocessing_context = "fork"  # the worker has what was replaced
    said = f"^reading images failed.*{words}.*--workers 0$"
    with pytest.raises(harness.folder.Refusal, match=said):
        epoch(made)


def test_each_core_that_may_be_used_gets_a_worker(harness, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 40)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(3), raising=False)
    assert harness.values.cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert harness.values.cores() == 40
