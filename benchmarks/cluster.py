"""What a full-size training on ImageNet takes, reckoned from the networks themselves.

    python benchmarks/cluster.py

For each `paper` recipe on images: floating-point operations of the whole training (two for a
multiply-accumulate, three passes: forward, and back to inputs and to weights), the bytes that the
activations of one image take in training (what PyTorch keeps for the backward pass, counted here),
and the hours of one GPU at an assumed speed. Estimates: nothing is trained.
"""

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import branches

IMAGES = 1_281_167  # of ImageNet's training set of 2012


def kept(model, images):
    """The bytes of different tensors that PyTorch keeps for the backward pass, weights aside."""
    import torch

    parameters, storages = {p.data_ptr() for p in model.parameters()}, {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if tensor.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model.train()(images)
    del output
    return sum(storages.values())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--teraflops", type=float, default=40.0, help="useful 10^12 operations a second of a GPU"
    )
    teraflops = parser.parse_args().teraflops
    print(f"at {teraflops:g} teraflops a GPU; activations in float32, less of them in bf16")
    print("recipe, epochs, batch: operations, GPU hours; GB for a batch: activations + weights;")
    print("images a second that four GPUs take")
    models = branches.read_path((ROOT / "path.toml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        branches.preview(Path(folder))
        for entry in models:
            branch = Path(folder, entry["name"])
            for name in [name for name in sys.modules if name.split(".")[0] in ("harness", *OWN)]:
                del sys.modules[name]
            sys.path.insert(0, str(branch))
            train, model, table = map(importlib.import_module, ("train", "model", "harness.table"))
            recipe = train.RECIPES.get("paper")
            if recipe and recipe.data is None:
                import torch

                network, images = (
                    getattr(model, NETWORKS.get(entry["name"], entry["class"]))(),
                    torch.randn(2, 3, 224, 224),
                )
                counted = table.count(network, images[:1])
                operations = 6 * counted["macs"] * IMAGES * recipe.epochs
                hours = operations / teraflops / 1e12 / 3600
                activations = kept(network, images) / 2 * recipe.batch_size / 1e9
                weights = (
                    16 * counted["parameters"] / 1e9
                )  # with gradient, momentum, and what is sent
                print(
                    f"{entry['name']:<10} {recipe.epochs:>4} {recipe.batch_size:>4}: "
                    f"{operations:.1e} {hours:5.1f}; {activations:5.1f} + {weights:.1f}; "
                    f"{4 * IMAGES * recipe.epochs / hours / 3600:,.0f}"
                )
            sys.path.remove(str(branch))


NETWORKS = {"BatchNorm": "GoogLeNet"}  # what is trained, where the branch is a layer
OWN = ("train", "model", "experiments", "optimizer", "tasks")

if __name__ == "__main__":
    main()
