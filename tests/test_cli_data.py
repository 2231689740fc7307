"""`briskmlp train` and `predict` on files of each format, with early stopping, a curve and a bar."""

import contextlib
import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from briskmlp import cli
from briskmlp.random import sample_order
from briskmlp.tabular import prediction
from briskmlp.tabular.reading import npy
from briskmlp.tabular.training import SPLIT_STREAM

pd = pytest.importorskip("pandas", reason="pandas is not installed")
pytest.importorskip("pyarrow", reason="pyarrow is not installed")

N = 150
KIND = "train all.csv --target kind"
FAST = "--hidden 8 --epochs 20 --learning-rate 0.01"
random = np.random.RandomState(0)  # its streams never change
X = random.randn(N, 3).round(3)
PRICE = (100 * X[:, 0] - 30 * X[:, 1] ** 2).round(2)
FRAME = pd.DataFrame(X, columns=["size", "weight", "age"]).assign(
    colour=random.choice(["red", "blue"], N), kind=np.where(PRICE > 0, "up", "down"), price=PRICE
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same rows in every format, and models of both targets."""
    folder = tmp_path_factory.mktemp("files")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRISKMLP_BACKEND", "numpy")
        patch.delenv("BRISKMLP_ISA", raising=False)
        FRAME.to_csv("all.csv", index=False)
        FRAME.to_csv("all.csv.gz", index=False)
        FRAME.to_parquet("all.parquet")
        FRAME[:60].to_csv("1.csv", index=False)
        FRAME[60:61].to_parquet("2.parquet")
        FRAME[61:][FRAME.columns[::-1]].to_csv("3.csv", index=False, sep=";")
        both = np.c_[X, PRICE]
        arrays = {"X": X, "price": PRICE, "kind": FRAME["kind"].to_numpy().astype(str), "all": both}
        arrays |= {"X1": X[:60], "X2": X[60:61], "X3": X[61:], "all1": both[:60], "all2": both[60:]}
        for name, array in arrays.items():
            np.save(f"{name}.npy", array)
        np.savez("all.npz", X=X, price=PRICE)
        for target in ("kind", "price"):
            assert cli.main(f"train all.csv --target {target} --out {target}_model {FAST}".split()) == 0
    return folder


@pytest.fixture(autouse=True)
def _files(workdir, folder):
    """Work in a copy of that folder."""
    shutil.copytree(folder, ".", dirs_exist_ok=True)


@pytest.mark.parametrize("target", ["kind", "price"])
def test_one_model_from_every_format(report, target):
    models, predictions = set(), set()
    for source in ("all.csv", "all.csv.gz", "all.parquet", "1.csv 2.parquet 3.csv"):
        told = report(f"train {source} --target {target} --out model {FAST}")
        assert told["training_rows"] + told["test_rows"] == N
        models.add(Path("model").read_bytes())
        predictions.add(json.dumps(report(f"predict model {source}")["predictions"]))
    assert len(models) == len(predictions) == 1


@pytest.fixture(params=[0, npy.HELD_BYTES], ids=["staged", "held"])
def _held(request, monkeypatch):
    monkeypatch.setattr(npy, "HELD_BYTES", request.param)


@pytest.mark.usefixtures("_held")
@pytest.mark.parametrize(
    "source", ["X.npy --target price.npy", "all.npy", "all.npy --target X[3]", "all.npy --target 3"]
)
def test_npy_is_as_npz(report, source):
    """Up to the last bits of means and deviations, which are merged from chunks."""
    wanted = report(f"train all.npz --target price --out of_npz {FAST}")
    told = report(f"train {source} --out of_npy {FAST}")
    assert told["features"] == wanted["features"] == ["X[0]", "X[1]", "X[2]"]
    for name in ("loss", "test_loss", "r2", "mae"):
        assert told[name] == pytest.approx(wanted[name], rel=1e-4)  # 80 steps, each off by some float32 round-off
    predictions = [report(f"predict of_npy {file}")["predictions"] for file in ("X.npy", "all.npy", "all.npz")]
    assert predictions[0] == predictions[1] == predictions[2]
    assert len(predictions[0]) == N


@pytest.mark.usefixtures("_held")
@pytest.mark.parametrize(
    ("one", "several", "target"),
    [
        ("X.npy", "X1.npy X2.npy X3.npy", "--target kind.npy"),
        ("all.npy", "all1.npy all2.npy", ""),
        ("all.npy", "all1.npy all2.npy", "--target 0 --ignore X[3] --early-stopping"),
    ],
)
def test_several_npy_are_as_one(report, one, several, target):
    """With the same bits."""
    models, told = [], []
    for files in (one, several):
        told.append(report(f"train {files} {target} --out model {FAST}"))
        models.append(Path("model").read_bytes())
        told[-1]["seconds"] = None
    assert models[0] == models[1]
    assert told[0] == told[1]
    assert report(f"predict model {one}") == report(f"predict model {several}")
    twice = report(f"predict model {several} {several}")["predictions"]  # there is nothing to score
    assert twice == report(f"predict model {one} {one}")["predictions"]
    once = report(f"predict model {one}")["predictions"]
    if isinstance(once[0], float):  # of more rows BLAS adds some up in another order: 11 float32 numbers of order 100
        assert twice == pytest.approx(2 * once, rel=0, abs=100 * 11 * 2.0**-23)
    else:
        assert twice == 2 * once


def test_classes_in_npy(report):
    told = report(f"train X.npy --target kind.npy --out model {FAST}")
    assert (told["target"], told["classes"]) == ("kind", ["down", "up"])
    assert told["accuracy"] > 0.7
    told = report(f"train all.npy --target 0 --ignore X[3] --task regression {FAST}")
    assert told["features"] == ["X[1]", "X[2]"]


# Bad rows


def test_a_bad_row_is_named_by_its_file_and_place(run):
    noted = FRAME.assign(note="two\nlines")
    for name in ("a.csv", "b.csv"):
        noted.to_csv(name, index=False)
    text = Path("b.csv").read_text().splitlines(keepends=True)
    assert len(text) == 1 + 2 * N  # each row has two lines
    text[1 + 2 * 70] = "many" + text[1 + 2 * 70]
    Path("b.csv").write_text("".join(text))
    FRAME.assign(weight=FRAME["weight"].where(FRAME.index != 7)).to_parquet("b.parquet")
    for sources, message in (
        ("a.csv b.csv --ignore note", "error: b.csv, line 142, column 'size': 'many"),
        (
            "all.parquet b.parquet",
            r"b\.parquet, row 7 \(from 0\), column 'weight' is (null|nan); every row needs a fin",
        ),
    ):
        code, _, err = run(f"train {sources} --target price")
        assert code == 2
        assert re.search(message, err)


@pytest.mark.parametrize(("name", "place"), [("far.csv", "line 3"), ("far.parquet", r"row 1 \(from 0\)")])
def test_a_row_that_is_too_far_is_named_as_well(run, name, place):
    far = FRAME[:2].assign(weight=[0.0, 1e300])
    far.to_csv("far.csv", index=False)
    far.to_parquet("far.parquet")
    code, out, err = run(f"predict price_model all.csv {name}")
    assert (code, out) == (2, "")
    assert re.search(rf"error: {name}, {place}, column 'weight': 1e\+300 is too far", err)


@pytest.mark.usefixtures("_held")
def test_nan_in_npy_is_found_before_training(refused):
    """Whichever rows are held out, watched or trained on."""
    for row in range(0, N, 30):
        damaged = X.copy()
        damaged[row, 1] = np.nan
        np.save("X.npy", damaged)
        message = f"error: X.npy, row {row} (from 0), column 'X[1]': nan is not finite"
        assert "training" not in refused("train X.npy --target price.npy --early-stopping", message)


@pytest.mark.usefixtures("_held")
def test_bad_rows_of_several_npy_are_named_by_their_file(refused, report):
    report(f"train X.npy --target price.npy --out model {FAST}")
    damaged = np.c_[X, PRICE][60:]
    for column, value, message in (
        (1, np.inf, "error: all2.npy, row 7 (from 0), column 'X[1]': inf is not finite"),
        (3, np.nan, "error: all2.npy: array 'X[3]' has nan at row 7; values must be finite"),
    ):
        bad = damaged.copy()
        bad[7, column] = value
        np.save("all2.npy", bad)
        refused("train all1.npy all2.npy", message)
    bad = damaged[:, :3].copy()
    bad[7, 1] = 1e300
    np.save("X2.npy", bad)
    refused("predict model X1.npy X2.npy", "error: X2.npy, row 7 (from 0), column 'X[1]': 1e+300 is too far")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train all.csv other.csv --target kind", "other.csv has no column 'colour', which all.csv has, and has a col"),
        ("train all.csv 1.csv --target no", "all.csv: --target is 'no', but the columns are 'size'"),
        ("train all.csv text.csv --target kind", "text.csv, line 2, column 'weight': 'heavy' is not a finite number"),
        ("train all.csv nowhere.csv --target kind", "nowhere.csv: No such file or directory"),
        ("train all.csv . --target kind", ".: Is a directory"),
        ("train all.csv 1.csv all.csv --target kind", "all.csv is given twice: rows to score on would be among"),
        ("train all.csv link.csv --target kind", "link.csv is given twice, also as all.csv: rows to score on"),
        ("train X.npy --target X[1].npy", "a target is called like its file, but 'X[1]' is a column of X.npy"),
        (f"{KIND} --out link.csv", "--out is 'link.csv', which is read; accepted: another file"),
        ("train X.npy --target price.npy --out price.npy", "--out is 'price.npy', which is read"),
        (f"{KIND} --out a.png --plot a.png", "--plot is 'a.png', which --out is as well"),
        (f"{KIND} --checkpoint . --out checkpoint.safetensors", "checkpoint.safetensors', which --checkpoint is as "),
        (f"{KIND} --out all.csv/model", "--out is 'all.csv/model', which cannot be written"),
        (f"{KIND} --checkpoint a/b", "--checkpoint is 'a/b'; accepted: a folder, or a new one in"),
        (f"{KIND} --checkpoint all.csv", "--checkpoint is 'all.csv'; accepted: a folder"),
        ("predict kind_model all.csv --out kind_model", "--out is 'kind_model', which is read; accepted: another file"),
        ("predict kind_model all.csv --out all.csv", "--out is 'all.csv', which is read; accepted: another file"),
        ("profile --layers 2,2 --plot a.svg --trace a.svg", "--trace is 'a.svg', which --plot is as well"),
        ("train all.parquet", "--target is missing: the name or index of the column to predict"),
        ("train cut.csv.gz --target kind", "cut.csv.gz is not a whole gzip file"),
        ("train X.csv.gz --target kind", "X.csv.gz is not a whole gzip file"),
        ("train X.npy price.npy", "price.npy has shape (150,), but X.npy has (150, 3); files given together must have"),
        ("predict kind_model X.npy all.npy", "all.npy has shape (150, 4), but X.npy has (150, 3)"),
        ("train all.csv X.npy --target kind", "X.npy is an NPY file and all.csv is not; accepted: only NPY files, or"),
        ("predict kind_model X.npy all.csv", "X.npy is an NPY file and all.csv is not"),
        ("train X1.npy X2.npy X1.npy --target price.npy", "X1.npy is given twice: rows to score on would be among"),
        ("train X1.npy X2.npy --target price.npy", "price.npy: array 'price' has shape (150,); accepted: (61,), one"),
        ("train X1.npy no.npy", "no.npy: No such file or directory"),
        ("train X.npy --text 0", "X.npy: 'X[0]' as text; accepted: numbers"),
        ("train X.npy --target 3", "--target is '3', but the columns are 'X[0]', 'X[1]', 'X[2]'"),
        (
            "train X.npy --target all.npy",
            "all.npy: array 'all' has shape (150, 4); accepted: (150,), one value for each",
        ),
        ("train price.npy --target price.npy", "--target is 'price.npy', which is also learned from; accepted: anothe"),
        ("train X.npy price.npy --target link.npy", "--target is 'link.npy', which is also learned from; accepted: an"),
        ("train pipe.npy", "pipe.npy is a pipe or device, which cannot be mapped; accepted: an NPY file on a disk"),
        ("train X.npy --target pipe.npy", "pipe.npy is a pipe or device"),
        ("predict kind_model pipe.npy", "pipe.npy is a pipe or device"),
        ("train X.npy --target no.npy", "no.npy: No such file or directory"),
        ("train X.npy --target kind.npy --task regression", "kind.npy: array 'kind' has dtype <U4; accepted: numbers"),
        ("train price.npy", "price.npy has no column to learn from besides the target 'X[0]'"),
        ("predict kind_model all.csv small.csv", "small.csv: the model needs the columns 'weight', 'age', 'colour', '"),
        ("predict kind_model X.npy", "the model needs the columns 'size', 'weight'"),
        (f"{KIND} --early-stopping 0", "--early-stopping: '0' is not a whole number >= 1"),
        (f"{KIND} --early-stopping --validation-share 0", "--validation-share is 0, accepted: > 0"),
        (f"{KIND} --validation-share 0.999", "of 120 rows that are not held out, --validation-share"),
        (f"{KIND} --plot curve", "--plot is 'curve'; accepted: a name that ends in .avif, .eps"),
        (f"{KIND} --plot no/curve.png", "--plot is 'no/curve.png', which cannot be written"),
    ],
)
def test_errors(refused, line, message):
    FRAME.rename(columns={"colour": "color"}).to_csv("other.csv", index=False)
    FRAME[["size"]].to_csv("small.csv", index=False)
    FRAME[:3].assign(weight="heavy").to_csv("text.csv", index=False)
    Path("link.csv").symlink_to("all.csv")
    Path("link.npy").symlink_to("price.npy")
    os.mkfifo("pipe.npy")
    np.save("X[1].npy", PRICE)
    Path("cut.csv.gz").write_bytes(Path("all.csv.gz").read_bytes()[:500])
    Path("X.csv.gz").write_bytes(Path("X.npy").read_bytes())
    assert refused(line, message).count("\n") == 1


@pytest.mark.parametrize("target", ["kind", "price"])
def test_predictions_are_written_some_rows_at_a_time(run, report, monkeypatch, target):
    command = f"predict {target}_model all.csv"
    code, whole, _ = run(command)
    monkeypatch.setattr(prediction, "CHUNK_ROWS", 7)
    assert run(command)[:2] == (code, whole) == (0, whole)
    assert report(f"{command} --out p.csv")["rows"] == N
    assert Path("p.csv").read_text(encoding="utf-8") == whole
    first = [line.split(",")[0] for line in whole.splitlines()[1:]]
    assert list(map(str, report(command)["predictions"])) == first


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110 - as it is written
def test_a_full_disk_is_named(refused):
    message = "briskmlp: error: /dev/full: No space left on device\n"
    assert refused("predict kind_model all.csv --out /dev/full", message) == message


# Early stopping


@pytest.mark.parametrize("source", ["all.parquet --target price --ignore colour,kind", "X.npy --target price.npy"])
def test_early_stopping_keeps_the_best_of_the_validation_rows(report, run, source):
    command = f"train {source} --early-stopping 3 --epochs 500 --learning-rate 0.05 --validation-share 0.25 --out model"
    told = report(command)
    assert (told["training_rows"], told["validation_rows"], told["test_rows"]) == (90, 30, 30)
    assert told["epochs"] == told["best_epoch"] + 3 < 500
    order = sample_order(0, SPLIT_STREAM, N)  # the rows to score on come first, whatever is watched
    predicted = np.array(report(f"predict model {source.split()[0]}")["predictions"])
    error = predicted - PRICE
    assert told["mae"] == pytest.approx(abs(error[order[:30]]).mean(), rel=1e-4)
    watched = (error[order[30:60]] ** 2).mean() / PRICE[order[60:]].var()  # in units of the training rows' deviation
    assert told["validation_loss"] == pytest.approx(watched, rel=1e-4)
    _, out, _ = run(command)
    assert f"on 30 validation rows, in epoch {told['best_epoch']}: kept\n" in out


def test_validation_rows_without_early_stopping(report, run):
    command = f"{KIND} --validation-share 0.1 {FAST}"
    told = report(command)
    assert (told["validation_rows"], told["epochs"], told["best_epoch"]) == (12, 20, None)
    assert f"{told['validation_loss']:.4g} on 12 validation rows\n" in run(command)[1]
    assert report(f"{KIND} --early-stopping {FAST}")["validation_rows"] == 12  # the default share


@pytest.mark.usefixtures("_held")
@pytest.mark.filterwarnings("default:EarlyStopping had stopped")
@pytest.mark.parametrize(
    "source", ["1.csv 2.parquet 3.csv --target price", "all.parquet --target price", "all1.npy all2.npy"]
)
def test_resume_ends_with_the_same_bits(run, report, ctrl_c, source, refused):
    command = f"train {source} --early-stopping 4 --epochs 300 --learning-rate 0.05"
    whole = report(f"{command} --out whole")
    resumable = f"{command} --checkpoint run --out model"
    with ctrl_c(5):
        code, _, err = run(resumable)
    assert (code, "--resume goes on from it" in err) == (130, True)
    refused(f"{resumable} --resume --validation-share 0.2", "it has another validation_share, another data")
    told = report(f"{resumable} --resume")
    assert told["epochs_resumed"] > 0
    assert (told["epochs"], told["best_epoch"]) == (whole["epochs"], whole["best_epoch"])
    assert Path("model").read_bytes() == Path("whole").read_bytes()
    told = report(f"{resumable} --resume --plot again.png")  # it had stopped
    assert (told["epochs"], told["epochs_resumed"], told["plot"]) == (whole["epochs"], whole["epochs"], None)
    assert Path("model").read_bytes() == Path("whole").read_bytes()
    assert not Path("again.png").exists()


@pytest.mark.parametrize("watched", [True, False])
def test_other_rows_of_npy_are_other_data(run, report, watched, refused):
    """Except those that are only scored on."""
    command = f"train X.npy --target price.npy --checkpoint run {'--early-stopping 99' if watched else ''}"
    report(f"{command} {FAST}")
    order = sample_order(0, SPLIT_STREAM, N)  # 30 rows to score on, then 12 to watch
    for row, change, other in ((order[60], 1e-9, True), (order[30], 1.0, True), (order[0], 1.0, False)):
        changed = X.copy()
        changed[row, 0] += change
        np.save("X.npy", changed)
        code, _, err = run(f"{command} --resume {FAST}")
        assert (code, "it has another data" in err) == ((2, True) if other else (0, False))
    np.save("X.npy", X)
    np.save("price.npy", PRICE[::-1])
    refused(f"{command} --resume {FAST}", "it has another data")


# The curve


def test_plot(report, run):
    pytest.importorskip("matplotlib", reason="Matplotlib is not installed")
    for name, magic in (("loss.png", b"\x89PNG"), ("loss.SVG", b"<?xml")):
        assert report(f"{KIND} --early-stopping --plot {name} {FAST}")["plot"] == name
        assert (content := Path(name).read_bytes()).startswith(magic)
    assert f"curves    {name}\n" in run(f"{KIND} --plot {name} {FAST}")[1]
    assert Path(name).read_bytes() != content  # it is replaced, by one without a validation curve


def test_plot_without_matplotlib(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backend_bases", None)
    message = "briskmlp: error: --plot needs Matplotlib: pip install 'briskmlp[plot]'\n"
    assert refused(f"{KIND} --plot loss.png", message) == message


# The bar


def test_a_bar_on_a_terminal_or_when_asked_for(run, monkeypatch):
    for options, terminal, shown in (
        ("", False, False),
        ("", True, True),
        ("--progress", False, True),
        ("--no-progress", True, False),
        ("--progress --json", True, False),
        ("--json", True, False),
    ):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        code, out, err = run(f"{KIND} {options} {FAST}")
        assert (code, "20/20" in err, "20/20" in out) == (0, shown, False), options
