"""The data sets, against torchvision's own loaders."""

import gzip
import hashlib
import pickle
import shutil
import urllib.error

import pytest
import torch
from torchvision import datasets


@pytest.fixture(scope="module")
def shipped(lenet):
    return lenet[0] / "data"


@pytest.fixture
def copy(shipped, tmp_path):
    """A copy of data/ that a test may spoil."""
    shutil.copytree(shipped / "FashionMNIST", tmp_path / "FashionMNIST")
    return tmp_path


def test_fashion_mnist_is_torchvisions(harness, shipped, copy):
    loaded = harness.data.load("fashion-mnist", shipped)
    train, test = (datasets.FashionMNIST(copy, train=part, download=True) for part in (True, False))
    assert torch.equal(torch.cat([loaded.train[0], loaded.validation[0]]).squeeze(1), train.data)
    assert torch.equal(torch.cat([loaded.train[1], loaded.validation[1]]), train.targets)
    assert torch.equal(loaded.test[0].squeeze(1), test.data)
    assert torch.equal(loaded.test[1], test.targets)
    assert list(loaded.classes) == train.classes


def test_the_split_is_the_one_yardstick(harness, shipped):
    loaded = harness.data.load("fashion-mnist", shipped)
    sizes = [len(part[0]) for part in (loaded.train, loaded.validation, loaded.test)]
    assert sizes == [55_000, 5_000, 10_000]
    few = harness.data.load("fashion-mnist", shipped, limit=300)
    assert torch.equal(few.train[0], loaded.train[0][:300])
    assert torch.equal(few.validation[0], loaded.validation[0])
    many = harness.data.load("fashion-mnist", shipped, limit=10**9)
    assert len(many.train[0]) == 55_000


def test_the_folds_are_disjoint_and_alike_and_together_everything(harness):
    """Of 103 images, each of a value of its own, in classes of unequal size."""
    images = torch.arange(103, dtype=torch.uint8).view(-1, 1, 1, 1)
    labels = torch.tensor(([0] * 5 + [1] * 3 + [2] * 2) * 11)[:103]
    other = (images[:4] + 150, labels[:4])
    whole = harness.data.Data(("a", "b", "c"), 1, (images, labels), other, other)
    held = []
    for number in range(1, 6):
        fold = harness.data.fold(whole, number, 5)
        assert fold.test is other and fold.classes == whole.classes
        train, validation = (
            dict(zip(x.flatten().tolist(), y.tolist(), strict=True))
            for x, y in (fold.train, fold.validation)
        )
        assert not train.keys() & validation.keys()
        assert train | validation == dict(enumerate(labels.tolist()))
        for name in range(3):
            share = (labels == name).sum().item() / 5
            assert abs([*validation.values()].count(name) - share) < 1
        held += validation
    assert sorted(held) == list(range(103))
    assert len(whole.train[0]) == 103


def spoil(path, how):
    whole = path.read_bytes()
    path.unlink()  # it may be a link to the one that ships
    if how == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "altered":
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    elif how == "another's":
        path.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x01\x07"))


@pytest.mark.parametrize("how", ["missing", "truncated", "altered", "another's"])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"])
def test_a_spoiled_file_is_reported_by_name(harness, copy, capsys, name, how):
    spoil(copy / "FashionMNIST" / "raw" / name, how)
    with pytest.raises(SystemExit) as stopped:
        harness.data.load("fashion-mnist", copy)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert name in error and len(error.splitlines()) == 1


def test_mnist_comes_from_files_put_there_by_hand(harness, copy):
    (copy / "MNIST").mkdir()
    datasets.FashionMNIST(copy, download=True)  # unpacks
    shutil.move(copy / "FashionMNIST" / "raw", copy / "MNIST" / "raw")
    loaded = harness.data.load("mnist", copy)
    assert loaded.train[0].shape == (55_000, 1, 28, 28) and loaded.train[0].dtype == torch.uint8
    assert loaded.test[1].shape == (10_000,) and loaded.test[1].dtype == torch.int64
    assert len(loaded.classes) == 10


def test_cifar10_is_three_channels_in_torchvisions_order(harness, tmp_path, monkeypatch):
    """With files of the right form and few images, whose sums torchvision is told to expect."""
    folder = tmp_path / "cifar-10-batches-py"
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
    monkeypatch.setattr(harness.data, "VALIDATION", 2)
    loaded = harness.data.load("cifar10", tmp_path)
    assert loaded.channels == 3 and [len(part[0]) for part in loaded[2:]] == [4, 2, 6]
    assert torch.equal(loaded.test[0], pixels.view(6, 3, 32, 32))
    assert loaded.train[1].tolist() == [0, 1, 2, 3]
    assert loaded.classes == tuple("abcdefghij")


@pytest.mark.parametrize(
    "name, file", [("mnist", "t10k-labels"), ("cifar10", "cifar-10-python.tar")]
)
def test_without_a_network_it_says_what_to_put_where(
    harness, tmp_path, monkeypatch, capsys, name, file
):
    def no_network(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(SystemExit) as stopped:
        harness.data.load(name, tmp_path)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and file in error and str(tmp_path) in error
    assert len(error.splitlines()) == 1


def test_an_unknown_data_set_is_refused(harness, capsys):
    with pytest.raises(SystemExit) as stopped:
        harness.data.data_set("imaginary")
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and "imaginary" in error and "fashion-mnist" in error


def test_batches_are_shuffled_whole_and_transformed(harness):
    images, labels = torch.arange(10).view(10, 1, 1, 1), torch.arange(10)
    loader = harness.data.batches((images, labels), 4, lambda x: x * 2, True, "cpu")
    torch.manual_seed(0)
    epochs = [[(x.flatten().tolist(), y.tolist()) for x, y in loader] for _ in range(2)]
    assert [len(y) for _, y in epochs[0]] == [4, 4, 2] and len(loader) == 3
    assert all(x == [2 * label for label in y] for epoch in epochs for x, y in epoch)
    orders = [sum((y for _, y in epoch), []) for epoch in epochs]
    assert orders[0] != orders[1] != sorted(orders[1]) and sorted(orders[0]) == list(range(10))
    torch.manual_seed(0)
    assert [y.tolist() for _, y in loader] == [y for _, y in epochs[0]]
    in_order = harness.data.batches((images, labels), 4, lambda x: x, False, "cpu")
    assert torch.cat([y for _, y in in_order]).tolist() == list(range(10))


def test_a_flip_is_drawn_for_each_image_alone(harness):
    images = torch.randint(0, 256, (1, 3, 5, 5), dtype=torch.uint8).expand(400, 3, 5, 5)
    torch.manual_seed(0)
    flipped = harness.data.random_flip(images)
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    kept = (flipped == images).flatten(1).all(1)
    assert (mirrored ^ kept).all() and 150 < mirrored.sum() < 250
