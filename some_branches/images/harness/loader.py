"""Batches of a folder's images, decoded by worker processes."""

import atexit
import math
import multiprocessing
import os
import shutil
import signal
import sys
from functools import partial

from harness import ranks
from harness.errors import Refusal, reason
from harness.order import Order
from harness.stop import deaf

import numpy as np
import torch
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from tqdm import tqdm

BROKEN = 10  # unreadable files that a split may have
AHEAD = 2  # batches that a worker decodes before they are asked for
SHARED = "/dev/shm"  # where Linux keeps the memory that processes share


class FolderLoader(DataLoader):
    """Batches of (transform(images), labels) on `device`, decoded by `workers` processes.

    A broken file is named once, and the next image takes its place. The last batch may be smaller,
    down to `smallest`. Refusal if more than BROKEN are broken, no batch is left, or a worker dies.
    """

    def __init__(
        self, images, batch_size, transform, shuffle, device, workers, smallest=1, share="turn"
    ):
        self.transform, self.device, self.smallest = transform, device, smallest
        batch_size //= ranks.WORLD if share == "part" else 1  # images are dealt out one by one
        sampler = RandomSampler if shuffle else SequentialSampler
        # Half of what can be shared is left to others, and to photographs that are no squares.
        in_flight = (1 + AHEAD) * workers * batch_size * 3 * images.size**2  # bytes, at least
        super().__init__(
            images,
            batch_size,
            sampler=Order(sampler(images), "all" if share == "all" else "turn"),
            num_workers=workers,
            prefetch_factor=AHEAD if workers else None,
            worker_init_fn=deaf,
            persistent_workers=workers > 0,
            collate_fn=partial(packed, shared=workers > 0 and 2 * in_flight < shareable()),
            generator=torch.Generator(),  # so that starting workers draws nothing from the global
        )

    def __len__(self):  # if no file is broken
        full, rest = divmod(len(self.dataset), self.batch_size * ranks.WORLD)  # on any number
        return full + (rest >= self.smallest)

    def __iter__(self):
        waiting, self.used = [], self.sampler.first  # used: places of the order
        for part in self.parts():
            waiting.append(part)
            if sum(len(labels) for _, labels, _ in waiting) >= self.batch_size:
                yield self.batch(waiting)
        if waiting and sum(len(labels) for _, labels, _ in waiting) >= self.smallest:
            yield self.batch(waiting)
        if not self.used and len(self.dataset) > ranks.RANK:  # or there are fewer than ranks
            raise Refusal(f"{len(self.dataset)} files: no batch of {self.smallest} can be read")

    def batch(self, waiting):
        """A batch of the images that wait; what it leaves of them waits on."""
        images, labels, used = map(torch.cat, zip(*waiting)) if waiting[1:] else waiting[0]
        waiting.clear()
        size = self.batch_size
        if len(labels) > size:
            waiting.append((images[size:], labels[size:], used[size:]))
        self.used = used[:size][-1].item()
        return self.transform(images[:size].to(self.device)), labels[:size].to(self.device)

    def parts(self):
        """Yield what each batch of files comes to: (images, labels, places used by then)."""
        place = self.sampler.first
        try:
            for images, rows in super().__iter__():
                readable = []
                for label, path, broken in rows:
                    place += ranks.WORLD
                    if not broken:
                        self.dataset.broken.discard(path)  # as on a disk that failed for a while
                        readable.append((label, place))
                    elif path not in self.dataset.broken:
                        self.dataset.broken.add(path)
                        tqdm.write(f"{path} is no image that can be read: left out", sys.stderr)
                        if len(self.dataset.broken) > BROKEN:
                            raise Refusal(
                                f"more than {BROKEN} broken images: is the data set whole?"
                            )
                if readable:
                    yield torch.as_tensor(images), *map(torch.tensor, zip(*readable))
        except (RuntimeError, OSError, EOFError) as error:
            raise Refusal(f"reading images failed ({reason(error)}): try --workers 0") from None


def shareable():
    """Bytes that this rank can share with its workers; containers often have 64 MB."""
    if sys.platform != "linux":
        return math.inf
    return shutil.disk_usage(SHARED).free / ranks.BESIDE if os.path.isdir(SHARED) else 0


def packed(samples, shared):
    """What a worker sends of its files: the images that it could read, and of each file what it is.

    One array, in memory that processes share, or through a pipe, where there is too little of it.
    """
    readable = [image for image, *_ in samples if image is not None]
    images = np.stack(readable) if readable else np.empty(0)
    rows = [(label, path, image is None) for image, label, path in samples]
    return torch.from_numpy(images).share_memory_() if shared else images, rows


@atexit.register
def end_workers():
    """Those that are still there at the end: they are deaf to the signal that Python sends them."""
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler raises when one is killed
    for worker in multiprocessing.active_children():
        if worker.daemon:
            worker.kill()
            worker.join()
