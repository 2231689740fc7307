"""The command line, as a user meets it: what it prints, what it writes, and how it fails."""

import csv
import io
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
from briskmlp.random import sample_order
from briskmlp.session import Session
from briskmlp.tabular.training import SPLIT_STREAM
from briskmlp.trainer import DTYPES

COLOURS = ("red", "green", "blue")
FAST = ["--hidden", "8", "--epochs", "60", "--learning-rate", "0.01"]


@pytest.fixture(autouse=True)
def _numpy_backend(monkeypatch):
    monkeypatch.setenv("BRISKMLP_BACKEND", "numpy")  # nothing to compile
    monkeypatch.delenv("BRISKMLP_ISA", raising=False)


@pytest.fixture
def data(tmp_path):
    """Rows of two numbers and a colour; a kind and a price that follow from them."""
    random = np.random.RandomState(0)  # its streams never change
    path = tmp_path / "data.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["size", "weight", "colour", "kind", "price"])
        for _ in range(120):
            size, weight, colour = random.randn(), random.randn(), random.randint(3)
            kind = "big" if size > 0.2 * weight else "small"
            writer.writerow([size, weight, COLOURS[colour], kind, 1000 + 300 * size + 200 * colour])
    return path


@pytest.fixture
def run(capsys):
    """Run a command; return its exit code and what it printed."""

    def run(*arguments):
        code = cli.main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def report(run):
    """Run a command with --json, which must succeed; return the object."""

    def report(*arguments):
        code, out, err = run(*arguments, "--json")
        assert code == 0, err
        assert out.count("\n") == 1
        return json.loads(out)

    return report


def rewrite(path, change):
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(change(rows))


# train and predict


def test_classification(tmp_path, data, run):
    model = tmp_path / "model.safetensors"
    code, out, err = run("train", data, "--target", "kind", "--ignore", "price", "--out", model, *FAST)
    assert code == 0
    assert "accuracy  " in out
    assert "on 24 held-out rows" in out
    assert f"model     {model}" in out
    assert (
        "120 rows, 24 of them held out; columns: 2 of numbers, 1 of text; inputs: 5; target: 'kind', 2 classes" in err
    )

    code, out, err = run("predict", model, data)
    assert (code, err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == ["prediction", "probability_big", "probability_small"]
    with data.open(newline="") as file:
        kinds = [row["kind"] for row in csv.DictReader(file)]
    assert np.mean([row["prediction"] == kind for row, kind in zip(rows, kinds, strict=True)]) > 0.9
    for row in rows:
        big, small = float(row["probability_big"]), float(row["probability_small"])
        assert big + small == pytest.approx(1)
        assert row["prediction"] == ("big" if big > small else "small")


def test_regression_predicts_in_original_units(tmp_path, data, run, report):
    model, predictions = tmp_path / "model.safetensors", tmp_path / "predictions.csv"
    told = report("train", data, "--target", "price", "--ignore", "kind", "--out", model, *FAST)
    assert told["task"] == "regression"
    assert told["r2"] > 0.9
    assert told["layers"] == [5, 8, 1]

    code, out, _ = run("predict", model, data, "--out", predictions)
    assert (code, out) == (0, f"wrote 120 predictions to {predictions}\n")
    with predictions.open(newline="") as file:
        predicted = np.array([float(row["prediction"]) for row in csv.DictReader(file)])
    with data.open(newline="") as file:
        prices = np.array([float(row["price"]) for row in csv.DictReader(file)])
    assert abs(predicted - prices).mean() < 60
    assert report("predict", model, data)["predictions"] == pytest.approx(predicted.tolist())


def test_scores_are_of_the_held_out_rows(tmp_path, data, report):
    """Recomputed from the predictions, for the rows that the seed holds out."""
    model = tmp_path / "model.safetensors"
    arguments = ["train", data, "--ignore", "kind", "--target", "price", *FAST, "--seed", 3]
    told = report(*arguments, "--test-share", 0.25, "--out", model)
    assert (told["training_rows"], told["test_rows"]) == (90, 30)
    predicted = np.array(report("predict", model, data)["predictions"])
    with data.open(newline="") as file:
        prices = np.array([float(row["price"]) for row in csv.DictReader(file)])
    test = sample_order(3, SPLIT_STREAM, 120)[:30]
    error = predicted[test] - prices[test]
    assert told["mae"] == pytest.approx(abs(error).mean(), rel=1e-5)
    assert told["r2"] == pytest.approx(1 - (error**2).sum() / (30 * prices[test].var()), rel=1e-5)


def test_the_same_seed_gives_the_same_model(tmp_path, data, report):
    models = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        report("train", data, "--target", "kind", "--out", model, *FAST, "--seed", seed)
    a, b, c = (Trainer.load(model, backend="numpy").parameters for model in models)
    assert (a == b).all()
    assert (a != c).any()


def test_predict_finds_columns_by_name_and_ignores_others(tmp_path, data, report):
    model = tmp_path / "model.safetensors"
    report("train", data, "--target", "kind", "--ignore", "price", "--out", model, *FAST)
    before = report("predict", model, data)
    rewrite(data, lambda rows: [[row[2], "new", row[1], "", row[0]] for row in rows])  # the target is now empty
    assert report("predict", model, data) == {**before, "rows": 120}


def test_predict_takes_unseen_text_as_no_category(tmp_path, data, report):
    model = tmp_path / "model.safetensors"
    report("train", data, "--target", "kind", "--ignore", "price", "--out", model, *FAST)
    rewrite(data, lambda rows: [rows[0], ["0.5", "0.5", "violet", "", ""]])
    assert report("predict", model, data)["rows"] == 1


def test_a_prediction_that_overflows_is_refused(tmp_path, data, run, report):
    model = tmp_path / "model.safetensors"
    report("train", data, "--target", "kind", "--ignore", "price", "--out", model, *FAST)
    rewrite(data, lambda rows: [rows[0], rows[1], ["3e38", "-3e38", "red", "", ""]])
    code, out, err = run("predict", model, data)
    assert (code, out) == (2, "")
    assert "data.csv, line 3: the prediction overflows" in err


def test_a_score_that_overflows_is_null(data, run):
    rewrite(data, lambda rows: [*rows, ["3e38", "-3e38", "red", "", "0"]])
    held_out = ["--test-share", 0.001, "--seed", 357]  # the last row alone
    code, out, _ = run("train", data, "--target", "price", "--ignore", "kind", *FAST, *held_out, "--json")
    told = json.loads(out)
    assert code == 0
    assert (told["test_rows"], told["test_loss"], told["r2"], told["mae"]) == (1, None, None, None)


def test_predict_names_missing_columns(tmp_path, data, run, report):
    model = tmp_path / "model.safetensors"
    report("train", data, "--target", "kind", "--out", model, *FAST)
    rewrite(data, lambda rows: [row[1:] for row in rows])
    code, out, err = run("predict", model, data)
    assert (code, out) == (2, "")
    assert "the model needs the columns 'size', but the file has 'weight', 'colour', 'kind', 'price'" in err


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_npz(tmp_path, report, dtype):
    X = np.random.RandomState(0).randn(60, 2, 2)
    X[:, 1, 1] = 3.0  # constant
    path, model = tmp_path / "data.npz", tmp_path / "model.safetensors"
    np.savez(path, X=X, y=(X[:, 0, 0] > 0).astype(int))
    assert report("train", path, *FAST)["task"] == "regression"
    told = report("train", path, *FAST, "--task", "classification", "--dtype", dtype, "--out", model)
    assert told["classes"] == ["0", "1"]
    assert told["features"] == ["X[0]", "X[1]", "X[2]", "X[3]"]
    assert Trainer.load(model, backend="numpy").dtype == dtype
    np.savez(path, X=X[:3])
    probabilities = np.array(report("predict", model, path)["probabilities"])
    assert probabilities.shape == (3, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


def test_npz_target_by_name(tmp_path, report):
    path = tmp_path / "data.npz"
    np.savez(path, data=np.eye(8), label=np.array(list("abababab")))
    told = report("train", path, "--target", "label", *FAST)
    assert (told["target"], told["classes"]) == ("label", ["a", "b"])


def test_options_reach_the_trainer(tmp_path, data, report):
    model = tmp_path / "model.safetensors"
    options = "--hidden 5,3 --activation tanh --optimizer RMSprop --batch-size 7 --epochs 2 --seed 9 --backend numpy"
    options += " --precision bfloat16"
    told = report("train", data, "--target", "-2", "--out", model, "--learning-rate", 0.5, *options.split())
    assert told["target"] == "kind"
    loaded = Trainer.load(model, backend="numpy")
    assert loaded.network == network.Network([6, 5, 3, 2], "tanh", "softmax")
    assert (loaded.optimizer, loaded.batch_size, loaded.seed) == (optimizers.RMSprop(0.5), 7, 9)
    assert loaded.precision == "bfloat16"


def test_no_hidden_layer_no_held_out_rows_no_model(data, run):
    code, out, _ = run("train", data, "--target", "price", "--hidden", "none", "--test-share", 0)
    assert code == 0
    assert "held-out" not in out
    assert "model     not kept" in out


def test_score_of_a_constant_target_is_undefined(tmp_path, run):
    path = tmp_path / "data.csv"
    path.write_text("a,b\n" + "".join(f"{i},7\n" for i in range(10)))
    code, out, _ = run("train", path, "--target", "b", *FAST)
    assert code == 0
    assert "R2        undefined" in out


def test_text_option_makes_numbers_categories(data, report):
    rewrite(data, lambda rows: [rows[0], *([row[0], i % 4, *row[2:]] for i, row in enumerate(rows[1:]))])
    told = report("train", data, "--target", "kind", "--ignore", "price", "--text", "weight", *FAST)
    assert told["layers"][0] == 1 + 4 + 3


def test_choices_are_the_librarys():
    assert (cli.BACKENDS, cli.DTYPES) == (dispatch.CHOICES, DTYPES)


# Checkpoints


@pytest.fixture
def often(monkeypatch):
    """Checkpoints after each batch or so."""
    monkeypatch.setattr("briskmlp.tabular.training.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("briskmlp.session.CALL_SECONDS", 0.0)


def interrupted(run, monkeypatch, calls, *arguments):
    """Run a command with Ctrl-C after so many kernel calls."""
    made, advance = [], Session.run

    def cut(*args):
        made.append(1)
        if len(made) == calls:
            raise KeyboardInterrupt
        return advance(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "run", cut)
        return run(*arguments)


@pytest.mark.parametrize("calls", [1, 2, 40])
def test_resume_ends_with_the_same_bits(tmp_path, data, run, report, monkeypatch, often, calls):
    command = ["train", data, "--target", "kind", "--ignore", "price", *FAST, "--epochs", 30]
    report(*command, "--out", tmp_path / "whole")
    resumable = [*command, "--checkpoint", tmp_path / "run", "--out", tmp_path / "model"]
    code, _, err = interrupted(run, monkeypatch, calls, *resumable)
    file = tmp_path / "run" / "checkpoint.safetensors"
    assert code == 130
    assert f"{file}: written; --resume goes on from it" in err
    assert report("predict", file, data)["rows"] == 120  # a model as well
    code, out, err = run(*resumable, "--resume", "--json")
    done = (calls - 1) // 3  # of 96 rows in batches of 32
    assert f"{file}: goes on after epoch {done}\n" in err
    assert (json.loads(out)["epochs_resumed"], json.loads(out)["checkpoint"]) == (done, str(file))
    whole, resumed = ((tmp_path / name).read_bytes() for name in ("whole", "model"))
    assert whole == resumed

    code, out, _ = run(*resumable, "--resume")  # complete: there is nothing to do
    assert code == 0
    assert "for 0 epochs" in out
    assert f"resumable {file}" in out
    assert (tmp_path / "model").read_bytes() == whole


def test_resume_starts_where_there_is_nothing(tmp_path, data, run):
    code, _, err = run("train", data, "--target", "kind", *FAST, "--checkpoint", tmp_path / "run", "--resume")
    assert code == 0
    assert "checkpoint.safetensors: no checkpoint yet" in err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--seed", "1"], "it has another seed, another data"),
        (["--hidden", "9"], "it has another network"),
        (["--batch-size", "7"], "it has another batch_size"),
        (["--learning-rate", "0.5"], "it has another optimizer"),
        (["--dtype", "float64"], "it has another dtype"),
        (["--precision", "high"], "it has another precision"),
        (["--test-share", "0.5"], "it has another test_share, another data"),
        (["--ignore", "price,weight"], "it has another network, another data"),
        (["--epochs", "2"], "--epochs is 2, but "),
    ],
)
def test_only_the_same_command_resumes(tmp_path, data, run, changed, message):
    command = ["train", data, "--target", "kind", "--ignore", "price", *FAST, "--epochs", 3]
    command += ["--checkpoint", tmp_path / "run"]
    assert run(*command)[0] == 0
    content = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    code, _, err = run(*command, *changed, "--resume")
    assert code == 2
    assert message in err
    code, _, err = run(*command)
    assert code == 2
    assert "is there; --resume goes on from it" in err
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == content


def test_other_rows_are_other_data(tmp_path, data, run):
    command = ["train", data, "--target", "kind", "--ignore", "price", *FAST, "--checkpoint", tmp_path / "run"]
    assert run(*command)[0] == 0
    rewrite(data, lambda rows: [rows[0], *([str(float(row[0]) + 1e-9), *row[1:]] for row in rows[1:])])
    code, _, err = run(*command, "--resume")
    assert code == 2
    assert "was not written by this command: it has another data" in err


@pytest.mark.parametrize(
    ("changed", "message"), [([], "another data"), (["--test-share", "0.5"], "another test_share")]
)
def test_texts_alone_tell_rows_apart(tmp_path, run, changed, message):
    """Such columns are the same whatever the order of the rows, and whichever of them are held out."""
    random = np.random.RandomState(0)
    rows = [[random.choice(list("abc")), random.choice(["yes", "no"])] for _ in range(200)]
    path = tmp_path / "data.csv"

    def write(rows):
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["letter", "answer"], *rows])

    write(rows)
    command = ["train", path, "--target", "answer", *FAST, "--epochs", 1, "--checkpoint", tmp_path / "run"]
    assert run(*command)[0] == 0
    assert run(*command, "--resume")[0] == 0
    if not changed:
        write(rows[::-1])
    code, _, err = run(*command, *changed, "--resume")
    assert code == 2
    assert f"was not written by this command: it has {message}" in err


def test_a_command_that_fails_leaves_no_folder(tmp_path, data, run):
    assert run("train", data, "--target", "nope", "--checkpoint", tmp_path / "run")[0] == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("default")
def test_warnings_are_lines_for_people(tmp_path, data, run, monkeypatch):
    command = ["train", data, "--target", "kind", *FAST, "--checkpoint", tmp_path / "run"]
    assert run(*command, "--epochs", 1)[0] == 0
    monkeypatch.setattr("briskmlp.backends.numpy.NAME", "other")
    code, _, err = run(*command, "--epochs", 2, "--resume")
    assert code == 0
    assert "\nwarning: " in err
    assert "goes on on other: the last bits may differ" in err
    assert ".py" not in err


def test_where_checkpoints_cannot_be(tmp_path, data, run):
    for arguments, message in (
        (["--resume"], "--resume needs --checkpoint DIR"),
        (["--checkpoint", tmp_path / "no" / "run"], "run'; accepted: a folder, or a new one in an existing folder"),
        (["--checkpoint", data], "data.csv'; accepted: a folder"),
    ):
        code, _, err = run("train", data, "--target", "kind", *FAST, *arguments)
        assert code == 2
        assert message in err


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["trian"], "invalid choice: 'trian'"),
        (["train", "{data}"], "--target is missing"),
        (["train", "{data}", "--target", "kinds"], "--target is 'kinds', but the columns are 'size', 'weight'"),
        (["train", "{data}", "--target", "kind", "--ignore", "x"], "--ignore is 'x', but the columns are"),
        (["train", "{data}", "--target", "kind", "--text", "9"], "--text is '9', but the columns are"),
        (["train", "{data}", "--target", "kind", "--ignore", "0,1,2,4"], "no column to learn from besides"),
        (["train", "{data}", "--target", "kind", "--hidden", "10,0"], "--hidden: '0' is not a whole number >= 1"),
        (["train", "{data}", "--target", "kind", "--epochs", "1.5"], "--epochs: '1.5' is not a whole number >= 1"),
        (
            ["train", "{data}", "--target", "kind", "--test-share", "1"],
            "--test-share: '1' is not a number >= 0 and < 1",
        ),
        (["train", "{data}", "--target", "kind", "--test-share", "0.999"], "leaves none to train on"),
        (
            ["train", "{data}", "--target", "kind", "--optimizer", "LBFGS"],
            "optimizer is 'LBFGS', but must be one of",
        ),
        (["train", "{data}", "--target", "kind", "--learning-rate", "-1"], "learning_rate is -1.0, but must be >= 0"),
        (["train", "{data}", "--target", "kind", "--task", "regression"], "line 2, column 'kind'"),
        (["train", "{data}", "--target", "kind", "--out", "{data}/no/model"], "in an existing folder"),
        (["train", "{data}", "--target", "kind", "--js"], "unrecognized arguments: --js"),
        (["train", "nowhere.csv", "--target", "kind"], "nowhere.csv: No such file or directory"),
        (["train", "nowhere.npz"], "nowhere.npz: No such file or directory"),
        (["predict", "nowhere.safetensors", "{data}"], "nowhere.safetensors: No such file or directory"),
        (["predict", "{data}", "{data}"], "data.csv"),
        (["demo", "--threads", "0"], "--threads: '0' is not a whole number >= 1"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_wrong_arguments_are_one_line(data, run, arguments, message, as_json):
    arguments = [argument.format(data=data) for argument in arguments]
    code, out, err = run(*arguments, *["--json"] * as_json)
    assert code == 2
    assert message in err
    assert err.startswith("briskmlp: error: ")
    assert err.count("\n") == 1
    if as_json:
        assert f"briskmlp: error: {json.loads(out)['error']}\n" == err
    else:
        assert out == ""


def test_one_class_is_none(data, run):
    rewrite(data, lambda rows: [rows[0], *([*row[:3], "big", row[4]] for row in rows[1:])])
    code, _, err = run("train", data, "--target", "kind", *FAST)
    assert code == 2
    assert "target 'kind' is 'big' in every row; classification needs 2 classes" in err


def test_divergence(data, run):
    code, _, err = run("train", data, "--target", "price", *FAST, "--learning-rate", 1e30, "--optimizer", "SGD")
    assert code == 1
    assert "briskmlp: error: training diverged" in err


def test_a_model_without_columns(tmp_path, data, run):
    model = tmp_path / "model.safetensors"
    Trainer([2, 1], backend="numpy").save(model)
    code, _, err = run("predict", model, data)
    assert code == 2
    assert "it is not from `briskmlp train`" in err


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (MemoryError(), 1)])
def test_what_stops_a_training(tmp_path, data, run, monkeypatch, error, code):
    def fit(*_, **__):
        raise error

    monkeypatch.setattr(Trainer, "fit", fit)
    model = tmp_path / "model.safetensors"
    told, out, err = run("train", data, "--target", "kind", "--out", model, "--json")
    assert told == code
    assert json.loads(out) == {"error": "interrupted" if code == 130 else "out of memory"}
    assert "Traceback" not in err
    assert not model.exists()


def test_a_mistake_of_ours_is_not_hidden(data, monkeypatch):
    def fit(*_, **__):
        raise AttributeError("a bug")

    monkeypatch.setattr(Trainer, "fit", fit)
    with pytest.raises(AttributeError, match="a bug"):
        cli.main(["train", str(data), "--target", "kind"])


# In a process of its own


def start(*arguments, **options):
    environment = {**os.environ, **options.pop("env", {})}
    command = [sys.executable, "-m", "briskmlp", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, **options)


def test_ctrl_c_in_a_training(data):
    process = start("train", data, "--target", "kind", "--epochs", 10**9, stdout=subprocess.PIPE)
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


def test_version(run):
    code, out, err = run("--version")
    assert (code, err) == (0, "")
    assert out.startswith("briskmlp ")


def test_info(run, report, monkeypatch):
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


def test_demo(run):
    code, out, _ = run("demo", "--epochs", 3)
    assert code == 0
    assert "held-out accuracy" in out
    assert "numpy backend" in out
    assert max(map(len, out.splitlines())) <= 72


def test_demo_as_json(report):
    told = report("demo", "--epochs", 6)
    assert told["accuracy"] > 0.85
    assert told["sklearn_accuracy"] > 0.85
    assert len(told["loss"]) == 6
    assert (told["training_rows"], told["test_rows"]) == (1437, 360)
    assert 0 <= told["compile_seconds"] <= told["first_call_seconds"]


def test_output_that_the_terminal_cannot_show(capsys, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert cli.main(["demo", "--epochs", "2"]) == 0
    assert "####" in stream.buffer.getvalue().decode("ascii")


def test_a_model_replaces_no_device(tmp_path, capsys):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert cli.main(["train", str(tmp_path / "none.csv"), "--target", "y", "--out", str(fifo)]) == 2
    assert "which is no regular file" in capsys.readouterr().err
