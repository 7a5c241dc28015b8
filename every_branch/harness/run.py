"""A training run: its folder, its random state, its epochs and batches, its history, its end.

train.py holds what there is to learn; this file keeps the books, the same for every task.
A run lives in checkpoints/<Name>/<recipe>[-flag-value...]-seed<N>/: state.pt, renewed after every
epoch in one rename, and at its end weights.pt. A run that was killed ends with the weights of one
that was not (on a CPU with as many threads, bit for bit).
"""

import random
import time

from harness import ROOT, checkpoint, contents, device, files, lock, provenance, ranks, stop, use
from harness.batches import after_epoch, need_even, of_epoch, restore_choices
from harness.meter import clock, words
from harness.table import count
from harness.threads import hint

import torch


class Run:
    """One training run of one model; a process may hold several, one after another.

    name: of the branch. settings: a Settings. more: what else tells one run from another, such as
    a sum of the files that it trains on. Refusal if its folder holds another run.
    """

    def __init__(self, name, settings, **more):
        self.settings, self.device = settings, device.choose(settings.device)
        self.title, self.words = f"{name}, {settings.title()}", f"{name}: {settings.in_words()}"
        self.folder = ROOT / settings.home(name)
        self.identity = {"model": name, **settings.identity(), **more}
        self.made_by = provenance.of(self.device)
        self.epoch, self.history, self.best, self.announced = 0, [], None, False
        self.example = self.finished = self.half_way = self.resumed = None
        self.next_save = 0  # not before that time
        need_even(settings.batch_size)
        random.seed(settings.seed)
        torch.manual_seed(settings.seed)
        if settings.dry_run:
            return
        if files.is_there(self.folder):
            lock.hold(self.folder)
        if not settings.fresh:
            here = self.identity, self.made_by
            self.finished = checkpoint.recall(self.folder / "weights.pt", *here)
            if not self.finished:
                self.half_way = checkpoint.recall(self.folder / "state.pt", *here, half_way=True)
        use.need_finished(self, *settings.USES)

    def place(self, model):
        """The model on this run's device, computing as the settings say."""
        return device.place(model, self.device, self.settings)

    def epochs(self, **state):
        """Yield the number of each epoch that is left, from 1; after_epoch() saves after each.

        state: what a checkpoint holds (model=, optimizer=, schedule=): all that has a state_dict.
        """
        self.state, total = state, self.settings.epochs
        expected = state, total, self.settings.chooses
        if saved := self.finished:
            origins = saved["provenance"], self.made_by, self.identity["recipe"]
            with checkpoint.fitting(self.folder / "weights.pt", *origins):
                contents.need_finished(saved, *expected)
            self.history, self.best = saved["history"], {"weights": saved["weights"]}
            restore_choices(self, saved)
            return
        if saved := self.half_way:
            with checkpoint.fitting(self.folder / "state.pt"):
                contents.need_half_way(saved, *expected)
                checkpoint.restore(saved, state, self.device)
            self.epoch, self.history = saved["epoch"], saved["history"]
            self.best, self.example, self.resumed = saved["best"], saved["example"], saved["middle"]
            restore_choices(self, saved)
        elif not self.settings.dry_run:
            lock.hold(self.folder, new=not self.settings.fresh)
            self.save()
            # The result last: one may be refused. That curves.png is there says that all are.
            files.remove(self.folder, "curves.png", "*.png", "*.csv", "weights.pt")
        with stop.listening():
            while self.epoch < total:
                self.epoch += 1
                old = self.resumed or {"lr": state["optimizer"].param_groups[0]["lr"], "seconds": 0}
                self.lr, self.started = old["lr"], time.perf_counter() - old["seconds"]
                yield self.epoch  # what follows runs when the next epoch is asked for
                if self.settings.dry_run:
                    return
                after_epoch(self, last=self.epoch == total)

    def batches(self, loader):
        """Yield the batches of one epoch behind a progress bar; its loader has an Order."""
        yield from of_epoch(self, loader)
        self.speed = self.meter.speed  # of training alone
        self.example, self.trained = self.meter.example, self.meter.means(everywhere=True)

    def log(self, **values):
        """Count a training step. Each value is a mean over the batch, or one number an example."""
        self.meter.log(values)

    def validate(self, model, metrics, **measured):
        """Add the epoch to the history, print it, keep the weights if they are the best so far.

        metrics: {name: value} on the validation data. measured: for history.csv alone.
        """
        row = {"epoch": self.epoch}
        row |= {f"train_{name}": value for name, value in self.trained.items()}
        row |= {f"validation_{name}": value for name, value in metrics.items()} | measured
        row |= {"lr": self.lr, "examples_per_second": self.speed}
        row["seconds"] = time.perf_counter() - self.started
        self.history.append(row)
        better = self.best is None or self.settings.prefers(metrics, self.best["metrics"])
        if better:
            weights = {k: v.detach().to("cpu", copy=True) for k, v in model.state_dict().items()}
            self.best = {"metrics": metrics, "epoch": self.epoch, "weights": weights}
        left = clock((self.settings.epochs - self.epoch) * row["seconds"])
        print(
            f"epoch {self.epoch:>3}/{self.settings.epochs}   train: {words(self.trained)}   "
            f"validation: {words(metrics)}{'*' if better else ' '}   "
            f"{row['examples_per_second']:,.0f} examples/s, {left} left",
            flush=True,
        )
        hint(self.history, self.made_by)

    def finish(self, model, test=None, split="test", **about):
        """Test the chosen weights, once, and write weights.pt; the result, None of a dry run.

        test: a function that gives {metric: value}; without it nothing is tested. split: what it
        tests on. about: what else weights.pt should tell. The model, with the chosen weights, is
        then run.model; of an example of its (first) input, run.input is the shape.
        """
        self.model = model
        if self.settings.dry_run:
            metrics = test() if test else {}
            parts = "training, validation and test" if metrics else "training and validation"
            print(f"Dry run: a batch of {parts} went through; nothing written")
            return None
        model.load_state_dict(self.best["weights"])
        if self.finished:
            return self.finish_again()
        metrics, first = test() if test else {}, self.example
        first = first[0] if isinstance(first, tuple) else first
        self.input = tuple(first.shape[1:])
        contents.check_numbers(metrics, "the test")
        self.result = {
            "metrics": metrics or self.best["metrics"],
            "split": split if metrics else "validation",
            "chosen_by": self.best["metrics"],
            "epoch": self.best["epoch"],
            "epochs": self.epoch,
            "seconds": sum(row["seconds"] for row in self.history),
            **count(ranks.alone(model), self.example),
        }
        whole = {
            "settings": self.identity,
            "provenance": self.made_by,
            "result": self.result,
            "history": self.history,
            "weights": self.best["weights"],
            "input": self.input,
            **about,
        }
        checkpoint.save_history(self.folder, self.history)  # in case it was stopped in between
        checkpoint.save(self.folder / "weights.pt", whole)
        files.remove(self.folder, "state.pt")
        print(provenance.summary(self.result, self.made_by))
        print(f"Weights and history.csv are in {self.folder}", flush=True)
        return self.result

    def finish_again(self):
        """Report what was finished before, and complete what it may have been stopped in."""
        saved, now = self.finished, self.made_by
        self.result, self.input, self.made_by = saved["result"], saved["input"], saved["provenance"]
        if not (self.folder / "history.csv").exists():
            checkpoint.save_history(self.folder, self.history)
        files.remove(self.folder, "state.pt")
        since = checkpoint.by_other_code(self.made_by, now, self.identity["recipe"])
        told = provenance.summary(self.result, self.made_by)
        print(f"{self.title}: finished before{since}. {told}")
        print(f"In {self.folder}; --fresh trains it again, and drops this result")
        return self.result

    def save(self, middle=None):
        """Write all that the run needs to go on; middle: of an epoch, where in it the run is."""
        if middle:
            middle |= {"lr": self.lr, "seconds": time.perf_counter() - self.started}
        whole = {
            "settings": self.identity,
            "provenance": self.made_by,
            "middle": middle,
            "epoch": self.epoch - bool(middle),
            "history": self.history,
            "best": self.best,
            "example": self.example,
            "random": checkpoint.random_state(self.device),
            **{key: part.state_dict() for key, part in self.state.items()},
        }
        contents.check_finite(whole)
        checkpoint.save(self.folder / "state.pt", whole)
        checkpoint.save_history(self.folder, self.history)
