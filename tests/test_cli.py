"""The command line, as a user meets it: what it prints, what it writes, and how it fails."""

import csv
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from briskmlp import Trainer, cli, network, optimizers
from briskmlp.backends import dispatch
from briskmlp.commands.demo import plot
from briskmlp.random import sample_order
from briskmlp.tabular import training
from briskmlp.tabular.training import SPLIT_STREAM
from briskmlp.trainer import DTYPES

FAST = "--hidden 8 --epochs 60 --learning-rate 0.01"
KIND = "train data.csv --target kind --ignore price"
PRICE = "train data.csv --target price --ignore kind"
TRAIN = "train data.csv --target kind"


def make_rows():
    """Return two numbers and a colour; a kind and a price that follow from them."""
    random = np.random.RandomState(0)  # its streams never change
    for _ in range(120):
        size, weight, colour = random.randn(), random.randn(), random.randint(3)
        kind = "big" if size > 0.2 * weight else "small"
        yield size, weight, ("red", "green", "blue")[colour], kind, 1000 + 300 * size + 200 * colour


HEAD, ROWS = ("size", "weight", "colour", "kind", "price"), [*make_rows()]


def write(rows, head=HEAD):
    with Path("data.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


@pytest.fixture(autouse=True)
def _data(workdir):
    write(ROWS)


# train and predict


def test_classification(run):
    code, out, err = run(f"{KIND} --out model {FAST}")
    assert code == 0
    assert "accuracy  " in out
    assert "on 24 held-out rows" in out
    assert "model     model" in out
    assert (
        "120 rows, 24 of them held out; columns: 2 of numbers, 1 of text; inputs: 5; target: 'kind', 2 classes" in err
    )

    code, out, err = run("predict model data.csv")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "prediction,probability_big,probability_small"
    predicted = list(csv.DictReader(io.StringIO(out)))
    assert np.mean([told["prediction"] == row[3] for told, row in zip(predicted, ROWS, strict=True)]) > 0.9
    for told in predicted:
        big, small = float(told["probability_big"]), float(told["probability_small"])
        assert big + small == pytest.approx(1)
        assert told["prediction"] == ("big" if big > small else "small")


def test_regression_predicts_in_original_units(run, report):
    told = report(f"{PRICE} --out model {FAST}")
    assert told["task"] == "regression"
    assert told["r2"] > 0.9
    assert told["layers"] == [5, 8, 1]

    assert run("predict model data.csv --out predictions.csv")[:2] == (0, "wrote 120 predictions to predictions.csv\n")
    predicted = np.genfromtxt("predictions.csv", names=True)["prediction"]
    assert abs(predicted - [row[4] for row in ROWS]).mean() < 60
    assert report("predict model data.csv")["predictions"] == pytest.approx(predicted.tolist())


def test_scores_are_of_the_held_out_rows(report):
    """Recomputed from the predictions, for the rows that the seed holds out."""
    told = report(f"{PRICE} {FAST} --seed 3 --test-share 0.25 --out model")
    assert (told["training_rows"], told["test_rows"]) == (90, 30)
    test = sample_order(3, SPLIT_STREAM, 120)[:30]
    prices = np.array([ROWS[i][4] for i in test])
    error = np.array(report("predict model data.csv")["predictions"])[test] - prices
    assert told["mae"] == pytest.approx(abs(error).mean(), rel=1e-5)
    assert told["r2"] == pytest.approx(1 - (error**2).sum() / (30 * prices.var()), rel=1e-5)


def test_the_same_seed_gives_the_same_model(report):
    models = []
    for seed in (0, 0, 1):
        report(f"train data.csv --target kind --out model {FAST} --seed {seed}")
        models.append(Trainer.load("model", backend="numpy").parameters.tobytes())
    assert models[0] == models[1] != models[2]


def test_predict_finds_columns_by_name_and_ignores_others(refused, report):
    report(f"{KIND} --out model {FAST}")
    before = report("predict model data.csv")
    write([(row[2], "new", row[1], "", row[0]) for row in ROWS], ("colour", "new", "weight", "kind", "size"))
    assert report("predict model data.csv") == {**before, "rows": 120}  # the target is now empty
    write([("0.5", "0.5", "violet", "", "")])
    assert report("predict model data.csv")["rows"] == 1  # an unseen text is no category
    write([ROWS[0], ("3e38", "-3e38", "red", "", "")])
    refused("predict model data.csv", "data.csv, line 3: the prediction overflows")
    write([row[1:] for row in ROWS], HEAD[1:])
    refused("predict model data.csv", "the model needs the columns 'size', but the file has 'weight', 'colour', 'kind'")


def test_a_score_that_overflows_is_null(report):
    write([*ROWS, ("3e38", "-3e38", "red", "", "0")])
    told = report(f"{PRICE} {FAST} --test-share 0.001 --seed 357")  # holds out the last row alone
    assert (told["test_rows"], told["test_loss"], told["r2"], told["mae"]) == (1, None, None, None)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_npz(report, dtype):
    X = np.random.RandomState(0).randn(60, 2, 2)
    X[:, 1, 1] = 3.0  # constant
    np.savez("data.npz", X=X, y=(X[:, 0, 0] > 0).astype(int))
    assert report(f"train data.npz {FAST}")["task"] == "regression"
    told = report(f"train data.npz {FAST} --task classification --dtype {dtype} --out model")
    assert told["classes"] == ["0", "1"]
    assert told["features"] == ["X[0]", "X[1]", "X[2]", "X[3]"]
    assert Trainer.load("model", backend="numpy").dtype == dtype
    np.savez("data.npz", X=X[:3])
    probabilities = np.array(report("predict model data.npz")["probabilities"])
    assert probabilities.shape == (3, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    np.savez("data.npz", data=np.eye(8), label=np.array(list("abababab")))
    told = report(f"train data.npz --target label {FAST}")
    assert (told["target"], told["classes"]) == ("label", ["a", "b"])


def test_options_reach_the_trainer(report):
    options = "--hidden 5,3 --activation tanh --optimizer RMSprop --batch-size 7 --epochs 2 --seed 9 --backend numpy"
    told = report(f"train data.csv --target -2 --out model --learning-rate 0.5 {options} --precision bfloat16")
    assert told["target"] == "kind"
    loaded = Trainer.load("model", backend="numpy")
    assert loaded.network == network.Network([6, 5, 3, 2], "tanh", "softmax")
    assert (loaded.optimizer, loaded.batch_size, loaded.seed) == (optimizers.RMSprop(0.5), 7, 9)
    assert loaded.precision == "bfloat16"
    rows = [(row[0], i % 4, *row[2:]) for i, row in enumerate(ROWS)]
    write(rows)
    assert report(f"{KIND} --text weight {FAST}")["layers"][0] == 1 + 4 + 3  # numbers as categories


def test_no_hidden_layer_no_held_out_rows_no_model(run):
    code, out, _ = run("train data.csv --target price --hidden none --test-share 0")
    assert code == 0
    assert "held-out" not in out
    assert "model     not kept" in out


def test_targets_that_are_constant(run, refused):
    write([(*row[:3], "big", 7) for row in ROWS])
    code, out, _ = run(f"{PRICE} {FAST}")
    assert code == 0
    assert "R2        undefined" in out
    refused(f"{TRAIN} {FAST}", "target 'kind' is 'big' in every row; classification needs 2 classes")


def test_choices_are_the_librarys():
    assert (cli.BACKENDS, cli.DTYPES) == (dispatch.CHOICES, DTYPES)


# Checkpoints

RESUMABLE = f"{KIND} {FAST} --epochs 3 --checkpoint run"
CHECKPOINT = Path("run/checkpoint.safetensors")


@pytest.mark.parametrize("calls", [1, 2, 40])
def test_resume_ends_with_the_same_bits(run, report, ctrl_c, monkeypatch, calls):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)  # after each batch or so
    monkeypatch.setattr("briskmlp.session.CALL_SECONDS", 0.0)
    command = f"{KIND} {FAST} --epochs 30"
    report(f"{command} --out whole")
    resumable = f"{command} --checkpoint run --out model"
    with ctrl_c(calls):
        code, _, err = run(resumable)
    assert code == 130
    assert f"{CHECKPOINT}: written; --resume goes on from it" in err
    assert report(f"predict {CHECKPOINT} data.csv")["rows"] == 120  # a model as well
    code, out, err = run(f"{resumable} --resume --json")
    done = (calls - 1) // 3  # of 96 rows in batches of 32
    assert f"{CHECKPOINT}: goes on after epoch {done}\n" in err
    assert (json.loads(out)["epochs_resumed"], json.loads(out)["checkpoint"]) == (done, str(CHECKPOINT))
    whole = Path("whole").read_bytes()
    assert Path("model").read_bytes() == whole

    code, out, _ = run(f"{resumable} --resume")  # complete: there is nothing to do
    assert code == 0
    assert "for 0 epochs" in out
    assert f"resumable {CHECKPOINT}" in out
    assert Path("model").read_bytes() == whole


def test_only_the_same_command_resumes(run, refused):
    """And another one leaves the checkpoint alone."""
    code, _, err = run(f"{RESUMABLE} --resume")
    assert code == 0
    assert "checkpoint.safetensors: no checkpoint yet" in err
    content = CHECKPOINT.read_bytes()
    for changed, message in (
        ("--seed 1", "it has another seed, another data"),
        ("--hidden 9", "it has another network"),
        ("--batch-size 7", "it has another batch_size"),
        ("--learning-rate 0.5", "it has another optimizer"),
        ("--dtype float64", "it has another dtype"),
        ("--precision high", "it has another precision"),
        ("--test-share 0.5", "it has another test_share, another data"),
        ("--ignore price,weight", "it has another network, another data"),
        ("--epochs 2", "--epochs is 2, but "),
    ):
        refused(f"{RESUMABLE} {changed} --resume", message)
    refused(RESUMABLE, "is there; --resume goes on from it")
    write([(row[0] + 1e-9, *row[1:]) for row in ROWS])
    refused(f"{RESUMABLE} --resume", "was not written by this command: it has another data")
    assert CHECKPOINT.read_bytes() == content


def test_texts_alone_tell_rows_apart(run, refused):
    """Such columns are the same whatever the order of the rows, and whichever of them are held out."""
    random = np.random.RandomState(0)
    rows, head = [[random.choice(list("abc")), random.choice(["yes", "no"])] for _ in range(200)], ("letter", "answer")
    command = f"train data.csv --target answer {FAST} --epochs 1 --checkpoint run"
    write(rows, head)
    assert run(command)[0] == run(f"{command} --resume")[0] == 0
    for order, changed, message in ((1, "--test-share 0.5", "another test_share"), (-1, "", "another data")):
        write(rows[::order], head)
        refused(f"{command} {changed} --resume", f"was not written by this command: it has {message}")


def test_a_command_that_fails_leaves_no_folder(run):
    assert run("train data.csv --target nope --checkpoint run")[0] == 2
    assert not Path("run").exists()


@pytest.mark.filterwarnings("default")
def test_warnings_are_lines_for_people(run, monkeypatch):
    assert run(RESUMABLE)[0] == 0
    monkeypatch.setattr("briskmlp.backends.numpy.NAME", "other")
    code, _, err = run(f"{RESUMABLE} --epochs 4 --resume")
    assert code == 0
    assert "\nwarning: " in err
    assert "goes on on other: the last bits may differ" in err
    assert ".py" not in err


# Errors


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("trian", "invalid choice: 'trian'"),
        ("train data.csv", "--target is missing"),
        ("train data.csv --target kinds", "--target is 'kinds', but the columns are 'size', 'weight'"),
        (f"{TRAIN} --ignore x", "--ignore is 'x', but the columns are"),
        (f"{TRAIN} --text 9", "--text is '9', but the columns are"),
        (f"{TRAIN} --ignore 0,1,2,4", "no column to learn from besides"),
        (f"{TRAIN} --hidden 10,0", "--hidden: '0' is not a whole number >= 1"),
        (f"{TRAIN} --epochs 1.5", "--epochs: '1.5' is not a whole number >= 1"),
        (f"{TRAIN} --test-share 1", "--test-share: '1' is not a number >= 0 and < 1"),
        (f"{TRAIN} --test-share 0.999", "leaves none to train on"),
        (f"{TRAIN} --optimizer LBFGS", "optimizer is 'LBFGS', but must be one of"),
        (f"{TRAIN} --learning-rate -1", "learning_rate is -1.0, but must be >= 0"),
        (f"{TRAIN} --task regression", "line 2, column 'kind'"),
        (f"{TRAIN} --out data.csv/no/model", "in an existing folder"),
        (f"{TRAIN} --js", "unrecognized arguments: --js"),
        (f"{TRAIN} --resume", "--resume needs --checkpoint DIR"),
        (f"{TRAIN} --checkpoint no/run", "run'; accepted: a folder, or a new one in an existing folder"),
        (f"{TRAIN} --checkpoint data.csv", "data.csv'; accepted: a folder"),
        ("train nowhere.csv --target kind", "nowhere.csv: No such file or directory"),
        ("train nowhere.npz", "nowhere.npz: No such file or directory"),
        ("predict nowhere.safetensors data.csv", "nowhere.safetensors: No such file or directory"),
        ("predict data.csv data.csv", "data.csv"),
        ("predict no_table data.csv", "it is not from `briskmlp train`"),
        ("demo --threads 0", "--threads: '0' is not a whole number >= 1"),
    ],
)
def test_wrong_arguments_are_one_line(run, refused, line, message):
    Trainer([2, 1], backend="numpy").save("no_table")
    err = refused(line, message)
    assert err.startswith("briskmlp: error: ")
    assert err.count("\n") == 1
    code, out, err = run(line, "--json")
    assert code == 2
    assert f"briskmlp: error: {json.loads(out)['error']}\n" == err


def test_divergence(run):
    code, _, err = run(f"train data.csv --target price {FAST} --learning-rate 1e30 --optimizer SGD")
    assert code == 1
    assert "briskmlp: error: training diverged" in err


@pytest.mark.parametrize(
    ("error", "code", "told"), [(KeyboardInterrupt(), 130, "interrupted"), (MemoryError(), 1, "out of memory")]
)
def test_what_stops_a_training(run, monkeypatch, error, code, told):
    def fit(*_, **__):
        raise error

    monkeypatch.setattr(Trainer, "fit", fit)
    found, out, err = run(f"{TRAIN} --out model --json")
    assert (found, json.loads(out)) == (code, {"error": told})
    assert "Traceback" not in err
    assert not Path("model").exists()


def test_a_mistake_of_ours_is_not_hidden(run, monkeypatch):
    monkeypatch.delattr(Trainer, "fit")
    with pytest.raises(AttributeError, match="fit"):
        run(TRAIN)


# In a process of its own


def start(*arguments, **options):
    command = [sys.executable, "-m", "briskmlp", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)


def test_ctrl_c_in_a_training():
    process = start(*TRAIN.split(), "--epochs", 10**9, stdout=subprocess.PIPE)
    for line in process.stderr:
        if line.startswith("training"):
            break
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "briskmlp: interrupted\n")


def test_nobody_reads_the_output():
    reading, writing = os.pipe()
    os.close(reading)
    process = start("info", stdout=writing)
    os.close(writing)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_the_disk_is_full():
    with Path("/dev/full").open("w") as full:
        process = start("info", stdout=full)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (2, "briskmlp: error: cannot write the output: No space left on device\n")


def test_help_imports_nothing_heavy():
    code = (
        "import sys, briskmlp.cli; code = briskmlp.cli.main(['train', '--help']); "
        "sys.exit(code or sorted({'numpy', 'numba', 'sklearn', 'scipy', 'tqdm'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--hidden WIDTHS" in done.stdout


# info, demo


def test_version_and_info(run, report, monkeypatch):
    code, out, err = run("--version")
    assert (code, out[:9], err) == (0, "briskmlp ", "")
    monkeypatch.setenv("BRISKMLP_NUM_THREADS", "1")
    told = report("info")
    assert told["threads"] == 1
    assert told["environment"]["BRISKMLP_NUM_THREADS"] == "1"
    assert set(told["backends"]) == set(dispatch.PREFERENCE)
    assert told["backends"]["numpy"] == {"available": True, "reason": None}
    assert told["versions"]["numpy"] == np.__version__
    code, out, _ = run("info")
    assert code == 0
    for name, state in told["backends"].items():
        assert f"  {name:<8} {state['reason'] or 'available'}\n" in out


def test_demo(run, report):
    code, out, _ = run("demo --epochs 3")
    assert code == 0
    assert "held-out accuracy" in out
    assert "numpy backend" in out
    assert max(map(len, out.splitlines())) <= 72

    told = report("demo --epochs 6")
    assert told["accuracy"] > 0.85
    assert told["sklearn_accuracy"] > 0.85
    assert len(told["loss"]) == 6
    assert (told["training_rows"], told["test_rows"]) == (1437, 360)
    assert 0 <= told["compile_seconds"] <= told["first_call_seconds"]


def test_the_demos_plot():
    assert plot([8, 4, 2, 1], height=2).splitlines() == ["     8 |████", "     0 |████████▄▄▄▄▂▂▂▂"]
    assert plot([0.0, 0.0], blocks=False, height=1) == "     0 |"
    for n, width in itertools.product((1, 2, 63, 64, 65, 1000), (1, 20, 72)):
        lines = plot(np.linspace(2, 1, n).tolist(), width).splitlines()
        assert len(lines) == 8
        assert max(map(len, lines)) <= max(width, 9)


def test_output_that_the_terminal_cannot_show(run, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert run("demo --epochs 2")[0] == 0
    assert "####" in stream.buffer.getvalue().decode("ascii")


def test_a_model_replaces_no_device(refused):
    os.mkfifo("fifo")
    refused("train none.csv --target y --out fifo", "which is no regular file")
