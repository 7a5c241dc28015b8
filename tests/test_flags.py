"""Random command lines: whatever is typed, no traceback, and nothing lost."""

import random

from conftest import clean
from toys import one_line

import pytest
from torch.distributed.run import get_args_parser

ODD = ["", " ", "0", "-1", "nan", "inf", "1e308", "1e-308", "9" * 400, "9" * 5000, "2.5", "True"]
ODD += ["9223372036854775808", "0x10", "½", "a\nb", "\u2028", "x" * 300, "$5", "--", "-", "[]"]
PLAIN = {  # by flag, values that keep a training small
    **{"width": ["0.0625", "0.25"], "side": ["32", "64"], "image_size": ["32", "64"]},
    **{"batch_size": ["1", "2", "5"], "limit": ["1", "3", "50"], "scales": ["32", "40", "64"]},
    **{
        "epochs": ["1", "3"],
        "data": ["fashion-mnist", "cifar10", "shakespeare", "adding", "reversal"],
        "units": ["3"],
    },
    **{"area": ["0", "0.5", "1"], "averaging": ["0", "0.9"], "lr": ["1e-3", "1"]},
    **{"decay_every": ["1"], "dropout": ["0", "0.9"], "mu": ["1"], "workers": ["0"]},
    **{"blocks": ["2", "5"], "length": ["5", "30"], "characters": ["9"], "clip": ["0.1"]},
    **{"embedding": ["3"], "maxout": ["2"], "alignment": ["4"], "words": ["30"]},
    **{"layers": ["1"], "d_model": ["8"], "d_ff": ["9"], "heads": ["1", "2"], "merges": ["5"]},
    **{"threads": ["1"], "precision": ["bf16"], "micro_batch": ["1", "3"]},
    **{"depth": ["8", "18"], "padding": ["0", "5"], "test_scales": ["28", "64"]},
}
NARROW = "width side image_size batch_size blocks units embedding maxout alignment".split()
NARROW += "layers d_model d_ff".split()


def command_line(branch, draws):
    """Flags of train.py with values that may be right, or belong to another flag, or are odd."""
    fields = branch.settings.flags(branch.train.Recipe)
    names = [field.name for field in fields if field.name not in ("fresh", "device", "compile")]
    words = ["--recipe", draws.choice([*branch.train.RECIPES, *["laptop"] * 2])]
    for name, values in PLAIN.items():  # last things last: of two values, the second counts
        if name in names and name in NARROW:
            words += [f"--{name.replace('_', '-')}", values[0]]
    for name in draws.sample(names, draws.randrange(4)):
        kind = {field.name: field.type for field in fields}[name]
        if kind is bool:
            words.append(draws.choice([f"--{name}", f"--no-{name}"]).replace("_", "-"))
            continue
        words.append("--" + name.replace("_", "-"))
        choices = [str(value) for value in getattr(kind, "__args__", ()) if type(value) is str]
        values = PLAIN.get(name, choices or ["1"])
        count = draws.choice([1, 1, 2, 3]) if name in ("scales", "test_scales", "area") else 1
        for _ in range(count):
            words.append(draws.choice(values if draws.random() < 0.6 else ODD))
    if draws.random() < 0.1:
        words.insert(draws.randrange(len(words)), draws.choice([*ODD, "--more", "surplus"]))
    return [*words, "--dry-run"]


@pytest.mark.parametrize("times", [8, pytest.param(75, marks=pytest.mark.slow)])
def test_no_command_line_ends_in_a_traceback(branch, times):
    """In one process; an exception that is not caught fails the test."""
    draws = random.Random(branch.name)
    home = branch.home / "checkpoints"
    kept = home / branch.name / "mine"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("mine")
    before = sorted(home.rglob("*"))
    ended = set()
    for _ in range(times):
        words = command_line(branch, draws)
        try:
            done = branch("train.py", *words)
        except Exception as error:
            raise AssertionError(words) from error
        assert done.code in (0, 1, 2), words
        if done.code:
            one_line(done, code=done.code)
        ended.add(done.code)
        assert sorted(home.rglob("*")) == before and kept.read_text() == "mine", words
    clean(branch)
    assert 2 in ended and (times < 50 or 0 in ended)


@pytest.mark.parametrize("name", ["VGG", "GoogLeNet", "BatchNorm", "ResNet"])
def test_no_scale_is_smaller_than_what_is_cut_out_of_it(every_branch, name):
    words = "--recipe paper --scales 32 96 --image-size 64 --dry-run".split()
    one_line(every_branch[name]("train.py", *words), "--scales")


SIZES = {
    "GoogLeNet": ["--image-size 48", "--side 40", "--area 0.5", "--scales 64 72"],
    "BatchNorm": ["--image-size 48", "--side 40", "--area 0.5", "--scales 64 72"],
    "ResNet": ["--image-size 24", "--side 32", "--padding 3", "--side 33 --image-size 32"],
}


@pytest.mark.parametrize("name, words", [(name, one) for name in SIZES for one in SIZES[name]])
def test_one_flag_is_enough_to_change_a_size(every_branch, name, words):
    width = ("--width", 0.0625, "--batch-size", 2, "--dry-run")
    assert every_branch[name]("train.py", *width, *words.split()).code == 0


def test_torchrun_takes_no_flag_for_one_of_its_own(branch):
    """It reads the whole line, and what abbreviates two of its options is an error."""
    theirs = get_args_parser()._option_string_actions
    for field in branch.settings.flags(branch.train.Recipe):
        flag = branch.settings.flag(field.name)
        training = field.name != "run"  # that is of --predict
        assert not training or sum(name.startswith(flag) for name in theirs) < 2, flag


@pytest.mark.parametrize(
    "model, words, name",
    [
        ("Attention", "--merges 5 --words 3", "--words"),
        ("Attention", "--no-attention --alignment 3", "--alignment"),
        ("Attention", "--beam 7", "--beam"),
        ("Attention", "--data dates --merges 3", "--merges"),
        ("LSTM", "--temperature 0.5", "--temperature"),
        ("LSTM", "--data adding --dropout 0.5", "--dropout"),
        ("LSTM", "lags --dropout 0.5", "--dropout"),
        ("ResNet", "--warm-up 9", "--warm-up"),
        ("ResNet", "--scales 40", "--scales"),
        ("ResNet", "--test-scales 40", "--test-scales"),
        ("ResNet", "--shortcut none --shortcut-scale 0.5", "--shortcut-scale"),
        ("ResNet", "--recipe paper --data fashion-mnist --padding 1", "--padding"),
        ("ResNet", "--recipe paper --data fashion-mnist --warm-up 9", "--warm-up"),
        ("ResNet", "--recipe paper --data fashion-mnist --views ten --test-scales 9", "--test-s"),
        ("ReLU", "dead --error 0.2", "--error"),
        ("ReLU", "classifier --no-reset --fold 3", "--no-reset"),
        ("BatchNorm", "figure2 --dropout 0.9", "--dropout"),
        ("BatchNorm", "figure2 --norm batch", "--norm"),
        ("ResNet", "degradation --views ten", "--views"),
        ("ResNet", "ablations --preactivation", "--preactivation"),
        ("Attention", "maps --merges 3000", "--merges"),
    ],
)
def test_a_flag_that_would_do_nothing_is_refused(every_branch, model, words, name):
    program = "train.py" if words.startswith("--") else "experiments.py"
    one_line(every_branch[model](program, *words.split(), "--dry-run"), name)
