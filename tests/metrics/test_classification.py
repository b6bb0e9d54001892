import random
import warnings

import numpy as np
import pytest
from sklearn import metrics as sklearn

from research.metrics import classification
from research.metrics.counts import total


def test_hand_computed():
    golds = ["pos", "pos", "pos", "neg", "neg", "neutral"]
    predicted = ["pos", "pos", "neg", "neg", "pos", "neg"]
    counts = total(map(classification.count, golds, predicted))
    labels, matrix = classification.confusion(counts)
    assert labels == ["neg", "neutral", "pos"]
    assert matrix.tolist() == [[1, 0, 1], [1, 0, 0], [1, 0, 2]]
    labels, matrix = classification.confusion(counts, ("pos", "never", "neg"))
    assert labels == ["pos", "neg", "neutral"]
    assert matrix.tolist() == [[2, 1, 0], [1, 1, 0], [0, 1, 0]]
    numbers = classification.compute(counts)
    assert numbers["accuracy"] == pytest.approx(3 / 6)
    assert numbers["macro_recall"] == pytest.approx((1 / 2 + 0 + 2 / 3) / 3)
    # F1: neg has precision 1/3 and recall 1/2, neutral nothing, pos 2/3 and 2/3.
    assert numbers["macro_f1"] == pytest.approx((0.4 + 0 + 2 / 3) / 3)


@pytest.mark.parametrize("seed", range(10))
def test_equals_scikit_learn(seed):
    draw = random.Random(seed)
    labels = ['a "quoted" label', "b, with comma", "ünï", "d"][: draw.randint(2, 4)]
    golds, predicted = draw.choices(labels[:-1], k=60), draw.choices(labels, k=60)
    counts = total(map(classification.count, golds, predicted))
    numbers = classification.compute(counts)
    options = {"average": "macro", "zero_division": 0}
    assert numbers["accuracy"] == pytest.approx(sklearn.accuracy_score(golds, predicted))
    assert numbers["macro_f1"] == pytest.approx(sklearn.f1_score(golds, predicted, **options))
    with warnings.catch_warnings(action="ignore"):  # of labels that are only predicted
        recall = sklearn.balanced_accuracy_score(golds, predicted)
    assert numbers["macro_recall"] == pytest.approx(recall)
    names, matrix = classification.confusion(counts)
    np.testing.assert_array_equal(matrix, sklearn.confusion_matrix(golds, predicted, labels=names))


def test_a_label_that_is_only_predicted_has_no_recall():
    golds, predicted = ["a", "a", "b", "b"], ["a", "c", "b", "b"]
    numbers = classification.compute(total(map(classification.count, golds, predicted)))
    assert numbers["macro_recall"] == (1 / 2 + 1) / 2
    # It has a precision of 0, and with it an F1.
    assert numbers["macro_f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_cells_that_sum_to_zero_are_no_labels():
    counts = {**classification.count("a", "a"), '["b", "b"]': 0.0}
    assert classification.compute(counts)["macro_recall"] == 1.0


def test_nothing_counted_is_zero():
    assert classification.compute({}) == {"accuracy": 0.0, "macro_f1": 0.0, "macro_recall": 0.0}
