"""The data sets, against torchvision's own loaders."""

import gzip
import hashlib
import os
import pickle
import shutil
import urllib.error

import numpy
import pytest
import torch
from PIL import Image
from torchvision import datasets


@pytest.fixture
def home(harness, tmp_path, monkeypatch):
    """A root of its own, with a copy of data/ that a test may spoil."""
    shutil.copytree(harness.home / "data" / "FashionMNIST", tmp_path / "data" / "FashionMNIST")
    monkeypatch.setattr(harness.sets, "ROOT", tmp_path)
    return tmp_path / "data"


@pytest.fixture
def load(harness):
    """Settings from a command line to a Data."""
    return lambda *words, **kwargs: harness.images.load(harness.parse(*words), **kwargs)


def test_fashion_mnist_is_torchvisions(harness, load, home):
    loaded = load()
    train, test = (datasets.FashionMNIST(home, train=part, download=True) for part in (True, False))
    assert torch.equal(torch.cat([loaded.train[0], loaded.validation[0]]).squeeze(1), train.data)
    assert torch.equal(torch.cat([loaded.train[1], loaded.validation[1]]), train.targets)
    assert torch.equal(loaded.test[0].squeeze(1), test.data)
    assert torch.equal(loaded.test[1], test.targets)
    assert list(loaded.classes) == train.classes


def test_the_split_is_the_one_yardstick(harness, load, fashion_mnist, monkeypatch):
    monkeypatch.setattr(harness.images, "by_name", lambda name: fashion_mnist)
    loaded = load()
    sizes = [len(part[0]) for part in (loaded.train, loaded.validation, loaded.test)]
    assert sizes == [55_000, 5_000, 10_000] and loaded.last_split == "test"
    few = load("--limit", 300)
    assert torch.equal(few.train[0], loaded.train[0][:300])
    assert torch.equal(few.validation[0], loaded.validation[0])
    assert len(load("--limit", 10**9).train[0]) == 55_000
    dry = load("--dry-run", "--batch-size", 30)
    assert [len(part[0]) for part in (dry.train, dry.validation, dry.test)] == [30, 30, 30]


def spoil(path, how):
    whole = path.read_bytes()
    path.unlink()  # it may be a link to the one that ships
    if how == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "altered":
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    elif how == "a pipe":  # which would be waited for
        if not hasattr(os, "mkfifo"):
            pytest.skip("Windows has none")
        os.mkfifo(path)
    elif how == "another's":
        path.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x01\x07"))


@pytest.mark.parametrize("how", ["missing", "truncated", "altered", "another's", "a pipe"])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"])
def test_a_spoiled_file_is_reported_by_name(harness, load, home, name, how):
    spoil(home / "FashionMNIST" / "raw" / name, how)
    with pytest.raises(harness.errors.Refusal, match=name):
        load()


def test_mnist_comes_from_files_put_there_by_hand(harness, load, home, monkeypatch):
    """What torchvision unpacked and no longer looks at changes nothing; the sums are looked at."""
    monkeypatch.setattr(datasets.MNIST, "resources", [*harness.sets.FASHION_MNIST.items()])
    raw = home / "MNIST" / "raw"
    (home / "MNIST").mkdir()
    shutil.move(home / "FashionMNIST" / "raw", raw)
    loaded = load("--data", "mnist")
    assert loaded.train[0].shape == (55_000, 1, 28, 28) and loaded.train[0].dtype == torch.uint8
    assert loaded.test[1].shape == (10_000,) and loaded.test[1].dtype == torch.int64
    assert len(loaded.classes) == 10
    spoil(raw / "t10k-images-idx3-ubyte", "altered")
    assert torch.equal(load("--data", "mnist").test[0], loaded.test[0])
    spoil(raw / "t10k-images-idx3-ubyte.gz", "altered")
    with pytest.raises(harness.errors.Refusal, match="t10k-images-idx3-ubyte.gz .*MD5.* put"):
        load("--data", "mnist")


def test_cifar10_is_three_channels_in_torchvisions_order(harness, load, home, monkeypatch):
    """With files of the right form and few images, whose sums torchvision is told to expect."""
    folder = home / "cifar-10-batches-py"
    folder.mkdir()

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    pixels = torch.arange(6 * 3072).view(6, 3072).remainder(251).to(torch.uint8)
    batch = {"data": pixels.numpy(), "labels": [0, 1, 2, 3, 4, 5]}
    meta = dict(zip(("filename", "md5"), write("meta", {"label_names": list("abcdefghij")})))
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [write("train", batch)])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [write("test", batch)])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"key": "label_names", **meta})
    monkeypatch.setattr(harness.images, "VALIDATION", 2)
    loaded = load("--data", "cifar10")
    splits = loaded.train, loaded.validation, loaded.test
    assert loaded.channels == 3 and [len(part[0]) for part in splits] == [4, 2, 6]
    assert torch.equal(loaded.test[0], pixels.view(6, 3, 32, 32))
    assert loaded.train[1].tolist() == [0, 1, 2, 3]
    assert loaded.classes == tuple("abcdefghij")


@pytest.mark.parametrize(
    "name, file", [("mnist", "t10k-labels"), ("cifar10", "cifar-10-python.tar")]
)
def test_without_a_network_it_says_what_to_put_where(harness, load, home, monkeypatch, name, file):
    def no_network(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(harness.errors.Refusal, match=file) as refusal:
        load("--data", name)
    assert str(home) in str(refusal.value) and len(str(refusal.value).splitlines()) == 1


def test_an_unknown_data_set_is_refused(harness, load):
    with pytest.raises(harness.errors.Refusal, match="imaginary.*fashion-mnist"):
        load("--data", "imaginary")
    with pytest.raises(harness.errors.Refusal, match="needs --data"):
        harness.images.load(harness.parse().but(data=None))


@pytest.fixture
def ten(harness):
    """A Data of ten images in memory, each of a value of its own, with a batch of four."""
    split = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1), torch.arange(10)
    settings = harness.parse("--batch-size", 4)
    return harness.images.Data(tuple("abcdefghij"), 1, split, split, split, settings)


def test_batches_are_shuffled_whole_and_transformed(ten):
    """What augments reaches all training images and no others."""
    double, more = (lambda images: images * 2), (lambda images: images + 100)
    train, validation, _ = ten.loaders(torch.device("cpu"), double, more)
    torch.manual_seed(0)
    epochs = [[(x.flatten().tolist(), y.tolist()) for x, y in train] for _ in range(2)]
    assert [len(y) for _, y in epochs[0]] == [4, 4, 2] and len(train) == 3
    assert all(x == [2 * label + 100 for label in y] for epoch in epochs for x, y in epoch)
    orders = [sum((y for _, y in epoch), []) for epoch in epochs]
    assert orders[0] != orders[1] != sorted(orders[1]) and sorted(orders[0]) == list(range(10))
    torch.manual_seed(0)
    assert [y.tolist() for _, y in train] == [y for _, y in epochs[0]]
    ((images, labels),) = validation
    assert labels.tolist() == list(range(10))
    assert images.flatten().tolist() == list(range(0, 20, 2))


def test_a_batch_that_would_be_too_small_is_refused(harness, ten):
    """The last one is 2 of 10 images."""
    for smallest in (1, 2):
        ten.loaders(torch.device("cpu"), lambda images: images, smallest=smallest)
    with pytest.raises(harness.errors.Refusal, match="--batch-size"):
        ten.loaders(torch.device("cpu"), lambda images: images, smallest=3)


def test_colors_are_the_mean_and_covariance_of_all_pixels(harness):
    images = torch.randint(0, 256, (250, 3, 5, 5), dtype=torch.uint8)
    split = images, torch.zeros(250)
    data = harness.images.Data(("a",), 3, split, split, split, harness.parse())
    mean, covariance = data.colors()
    pixels = images.transpose(0, 1).flatten(1).double().numpy()
    numpy.testing.assert_allclose(mean, pixels.mean(1), rtol=1e-5)
    numpy.testing.assert_allclose(covariance, numpy.cov(pixels, bias=True), rtol=1e-4, atol=0.1)


def test_other_files_of_a_folder_are_another_run(harness, photographs, tmp_path):
    """And a folder's runs tell which split they were tested on."""
    folder = tmp_path / "own"
    shutil.copytree(photographs, folder)
    before = harness.images.load(harness.parse("--data", folder), side=8)
    assert before.last_split == "validation" and len(before) == 16
    assert before.identity == harness.images.load(harness.parse("--data", folder), 8).identity
    shutil.copytree(folder / "val", folder / "test")
    after = harness.images.load(harness.parse("--data", folder), side=8)
    assert after.last_split == "test" and after.identity != before.identity


def test_images_of_a_folder_may_stay_whole_outside_of_training(harness, photographs):
    data = harness.images.load(harness.parse("--data", photographs, "--workers", 0), 8, whole=True)
    train, validation, _ = data.loaders(torch.device("cpu"), lambda images: images)
    assert {images.shape[1:] for images, _ in train} == {(3, 8, 8)}
    shapes = {tuple(images.shape) for images, _ in validation}
    assert len(shapes) > 1 and all(shape[0] == 1 and min(shape[2:]) == 8 for shape in shapes)


def test_a_flip_is_drawn_for_each_image_alone(harness):
    images = torch.randint(0, 256, (1, 3, 5, 5), dtype=torch.uint8).expand(400, 3, 5, 5)
    torch.manual_seed(0)
    flipped = harness.vision.random_flip(images)
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    kept = (flipped == images).flatten(1).all(1)
    assert (mirrored ^ kept).all() and 150 < mirrored.sum() < 250


def test_a_crop_is_a_window_of_its_own_image(harness):
    images = torch.arange(400).reshape(400, 1, 1, 1) * 100 + torch.arange(30).view(1, 1, 5, 6)
    crops = harness.vision.random_crop(images, 3)
    corners = crops[:, 0, 0, 0] - 100 * torch.arange(400)
    window = torch.tensor([[0, 1, 2], [6, 7, 8], [12, 13, 14]])
    expected = images[:, :, 0, 0, None, None] + corners.view(-1, 1, 1, 1) + window
    assert (crops == expected).all()
    assert set(corners.tolist()) == {6 * y + x for y in range(3) for x in range(4)}
    assert harness.vision.random_crop(images[..., :5], 5).equal(images[..., :5])


@pytest.mark.parametrize("height, width", [(28, 28), (32, 20)])
def test_places_to_sample_are_pytorchs(harness, height, width):
    torch.manual_seed(0)
    transform = torch.randn(3, 2, 3)
    expected = torch.nn.functional.affine_grid(transform, [3, 1, height, width], False)
    torch.testing.assert_close(harness.vision.affine_grid(transform, height, width), expected)


def test_a_rank_may_have_no_image(harness, tmp_path, monkeypatch):
    Image.new("L", (8, 8)).save(tmp_path / "7.png")
    monkeypatch.setattr(harness.ranks, "WORLD", 2)
    monkeypatch.setattr(harness.ranks, "RANK", 1)
    monkeypatch.setattr(harness.ranks, "gather", lambda mine: [7, *mine])
    images = harness.folder.Images([(str(tmp_path / "7.png"), 7)], 8)
    loader = harness.loader.FolderLoader(images, 4, torch.Tensor.float, False, "cpu", 0)
    assert [*loader] == [] and harness.classification.whole([], loader).tolist() == [7]
