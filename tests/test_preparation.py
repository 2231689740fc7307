"""How columns become numbers, what a model keeps of that, and what is refused."""

import json

import numpy as np
import pytest

from briskmlp.tabular.preparation import MAX_CATEGORIES, Feature, Preparation
from briskmlp.tabular.reading import NUMBER, TEXT

TABLE = {
    "size": np.array([1.0, 3.0, 5.0, 1000.0]),
    "fixed": np.array([0.1, 0.1, 0.1, 0.2]),
    "colour": np.array(["red", "blue", "red", "green"], dtype=object),
    "price": np.array([10.0, 20.0, 30.0, -5.0]),
    "kind": np.array(["b", "a", "b", "c"], dtype=object),
}
TRAINING = np.array([0, 1, 2])


def prepared(target: str) -> Preparation:
    columns = {name: column for name, column in TABLE.items() if name not in {"price", "kind"} - {target}}
    return Preparation.fit(columns, target, TRAINING)


def test_numbers_are_standardised_by_training_rows():
    X = prepared("price").inputs(TABLE, "float64")
    assert X.shape == (4, 4)
    np.testing.assert_allclose(X[TRAINING, 0].mean(), 0, atol=1e-12)
    np.testing.assert_allclose(X[TRAINING, 0].std(), 1)
    np.testing.assert_allclose(X[3, 0], (1000 - 3) / np.std([1, 3, 5]))


def test_constant_columns_have_scale_1():
    np.testing.assert_allclose(prepared("price").inputs(TABLE, "float64")[:, 1], [0, 0, 0, 0.1])


def test_text_is_one_hot_and_unseen_text_is_zeros():
    X = prepared("price").inputs(TABLE, "float32")
    assert X.dtype == np.float32
    assert X[:, 2:].tolist() == [[0, 1], [1, 0], [0, 1], [0, 0]]


def test_a_regression_target_returns_to_its_units():
    preparation = prepared("price")
    Y = preparation.targets(TABLE[preparation.target.name])
    np.testing.assert_allclose(Y[TRAINING].std(), 1)
    np.testing.assert_allclose(preparation.original_units(Y), TABLE["price"])


def test_a_large_mean_does_not_drown_a_float32_prediction():
    preparation = Preparation((Feature("x"),), Feature("y", mean=1e9, scale=0.02))
    Y = np.array([[0.123456789], [-2.0]], dtype=np.float32)
    assert preparation.original_units(Y).tolist() == pytest.approx([1e9 + 0.00246913578, 1e9 - 0.04], rel=0, abs=1e-6)
    small = Preparation((Feature("x"),), Feature("y", scale=1e-320))
    assert small.original_units(Y)[1] == pytest.approx(-2e-320)


def test_classes_are_those_of_all_rows():
    preparation = prepared("kind")
    assert preparation.classes == ("a", "b", "c")
    assert preparation.targets(TABLE[preparation.target.name]).tolist() == [1, 0, 1, 2]
    assert (preparation.n_in, preparation.n_out) == (4, 3)


@pytest.mark.parametrize("target", ["price", "kind"])
def test_json_keeps_a_preparation_exactly(target):
    preparation = prepared(target)
    assert Preparation.from_json(json.loads(json.dumps(preparation.to_json()))) == preparation


@pytest.mark.parametrize("damage", [None, [], {}, {"features": [{}], "target": {}}, {"features": [], "target": {}}])
def test_damaged_json_is_refused(damage):
    with pytest.raises(ValueError, match="preparation of columns is damaged"):
        Preparation.from_json(damage)


@pytest.mark.parametrize("change", [{"scale": 0.0}, {"scale": "x"}, {"mean": float("nan")}, {"mean": 10**400}])
def test_damaged_numbers_are_refused(change):
    data = prepared("price").to_json()
    data["features"][0].update(change)
    with pytest.raises(ValueError, match="preparation of columns is damaged"):
        Preparation.from_json(data)


def test_too_many_categories():
    names = np.array([f"name {i}" for i in range(MAX_CATEGORIES + 1)], dtype=object)
    assert Feature.fit("name", names[1:]).width == MAX_CATEGORIES
    with pytest.raises(ValueError, match=r"column 'name' has too many .*\(101 in all\); accepted: at most 100"):
        Feature.fit("name", names)


@pytest.mark.parametrize("values", [[1e300, -1e300, 0.0], [1.7e308, 1.7e308, 1.0]])
def test_numbers_too_large_to_standardise(values):
    with pytest.raises(ValueError, match=r"column 'a' has numbers up to .*, too large to standardise"):
        Feature.fit("a", np.array(values))


def test_numbers_whose_squares_vanish():
    feature = Feature.fit("a", np.array([1e-200, 2e-200]))
    assert feature.scale == 1.0


def test_a_row_far_from_the_training_rows():
    preparation = prepared("price")
    with pytest.raises(ValueError, match=r"row 2, column 'size': 1e\+300 is too far"):
        preparation.inputs({**TABLE, "size": np.array([1.0, 2.0, 1e300, 3.0])}, "float32")


def test_missing_columns_are_named():
    preparation = prepared("price")
    assert preparation.choose(["colour", "more", "fixed", "size"]) == {"size": NUMBER, "fixed": NUMBER, "colour": TEXT}
    with pytest.raises(ValueError, match="the model needs the columns 'fixed', but the file has 'size', 'colour'"):
        preparation.choose(["size", "colour"])
