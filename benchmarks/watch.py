"""What the benchmarks share: a command line, a training that is watched, what it trains on."""

import argparse
import contextlib
import importlib
import io
import statistics
import time

SIDE = 2048  # of the matrices of a large product


class EnoughError(Exception):
    """So many seconds, or steps, as are measured."""


class Timed:
    """A loader, and the seconds that its batches took: gathered, prepared, augmented."""

    def __init__(self, loader):
        self.loader, self.seconds = loader, 0.0

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def __iter__(self):
        batches, began = iter(self.loader), time.perf_counter()
        for batch in batches:
            self.seconds += time.perf_counter() - began
            yield batch
            began = time.perf_counter()


def asked_for(description, **flags):
    """(path.toml's entries of the models that the command line names, or of all; its options).

    flags: {name: help} of those that it may have besides, one at a time.
    """
    import branches  # which the programs have made findable

    models = branches.todays_models()
    names = [model["name"] for model in models]
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="model", help=f"of {', '.join(names)}")
    if flags:  # a group without any cannot be shown
        one_of_them = parser.add_mutually_exclusive_group()
    for name, what in flags.items():
        one_of_them.add_argument(f"--{name}", action="store_true", help=what)
    options = parser.parse_args()
    if unknown := set(options.models) - {*names}:
        parser.error(f"there is no {min(unknown)}")
    return [model for model in models if model["name"] in (options.models or names)], options


def watched(train, words, seconds, feed=None, sync=False, most=None):
    """Train as train.py does on a command line's words, for some seconds from its second step on.

    most: steps, if these come first. feed: makes another loader of the recipe's. sync: whether each
    step waits for its loss, as `.item()` does. {"speed": examples a second, "inside": the share of
    the time in forward, loss, backward and optimizer, "data": the share in making batches, "step":
    the median of a step, "batch": examples a step, "steps", "run"}. On a GPU, which works on while
    Python goes ahead, "inside", "data" and "step" mean nothing.
    """
    import torch

    found = {}

    class Watched(importlib.import_module("harness.run").Run):
        def log(self, **values):
            if sync:
                values = {name: value.float().mean() for name, value in values.items()}
                for value in values.values():
                    value.item()
            super().log(**values)

        def batches(self, loader):
            clock = time.perf_counter
            model, optimizer = self.state["model"], self.state["optimizer"]
            began, inside, steps, count, started = None, 0.0, [], 0, [0.0]
            on_gpu = self.device.type == "cuda"
            wait = torch.cuda.synchronize if on_gpu else lambda: None

            def starts(*_):
                if not started[0]:
                    started[0] = clock()

            hooks = [model.register_forward_pre_hook(starts)]
            loader = Timed(feed(loader) if feed else loader)
            for batch in super().batches(loader):
                started[0], here = 0.0, clock()
                ends = []
                step = optimizer.register_step_post_hook(lambda *_, ends=ends: ends.append(clock()))
                yield batch
                step.remove()
                if began is None:  # the first step prepares much
                    wait()
                    began, loader.seconds = clock(), 0.0
                    continue
                count += len(batch[-1])
                inside += ends[-1] - started[0]
                steps.append(ends[-1] - here)
                if clock() - began > seconds or len(steps) == most:
                    break
            for hook in hooks:
                hook.remove()
            if count:
                wait()
                passed = clock() - began
                found.update(speed=count / passed, inside=inside / passed, run=self)
                found.update(step=statistics.median(steps), data=loader.seconds / passed)
                found.update(batch=count / len(steps), steps=len(steps))
            raise EnoughError

    train.Run = Watched
    recipe = train.command_line(train.__doc__, train.RECIPES, [*words, "--fresh"])
    with contextlib.suppress(EnoughError), contextlib.redirect_stdout(io.StringIO()):
        train.fit(recipe)
    found["threads"] = torch.get_num_threads()
    return found


def photographs(folder, count):
    """Make so many JPEG files of 500x375 pixels in a folder; their paths."""
    import torch
    from PIL import Image

    draws, paths = torch.Generator().manual_seed(0), []
    folder.mkdir(parents=True)
    for number in range(count):
        small = torch.randint(256, (12, 16, 3), generator=draws, dtype=torch.uint8).numpy()
        image = Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC)
        paths.append(folder / f"{number}.jpg")
        image.save(paths[-1], quality=90)
    return paths


def product():
    """Floating-point operations a second of a large matrix product."""
    import torch

    a, b, times = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE), []
    for _ in range(4):
        began = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - began)
    return 2 * SIDE**3 / min(times)
