"""Rules that classify pairs without reading: each finds the one cue in the pairs, or none if there
is none."""

import numpy as np
import pytest

from research.lab.methods.pair_rules import Pair, pair_rules

VOCABULARY = 50


def draw(count, seed, told_by=""):
    """Pairs of two sources whose label follows from a single cue."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        label = int(rng.random() < 0.5)
        source = "xy"[int(rng.random() < 0.5)]
        a, b = (rng.integers(1, VOCABULARY, 20) for _ in "ab")
        other = "z" if told_by == "source of B" and label else source
        if told_by == "both sources" and label:
            other = "yx"["xy".index(source)]
        if told_by == "lengths" and label:
            b = b[:8]
        if told_by == "bag of words" and label:
            b[3] = 0
        found.append(Pair(source, other, a, b, label))
    return found


RULES = ("source of B", "both sources", "lengths", "bag of words")


@pytest.mark.parametrize("told_by", ["", *RULES])
def test_each_rule_finds_its_own(told_by):
    train, test = draw(3000, 0, told_by), draw(1000, 1, told_by)
    said = pair_rules(train, test, VOCABULARY)
    golds = [pair.label for pair in test]
    right = {rule: np.mean(labels == golds) for rule, labels in said.items()}
    assert tuple(right) == RULES
    told = {told_by} - {""}
    told |= {"both sources"} if told_by == "source of B" else set()
    told |= {"bag of words"} if told_by == "lengths" else set()  # fewer words
    assert all(right[rule] > 0.99 for rule in told)
    assert all(abs(right[rule] - 0.5) < 0.06 for rule in RULES if rule not in told), right


def test_rules_are_fitted_to_training_pairs_alone():
    train, test = draw(3000, 0, "source of B"), draw(1000, 1, "source of B")
    turned = [pair._replace(label=1 - pair.label) for pair in test]
    said, again = (pair_rules(train, pairs, VOCABULARY) for pairs in (test, turned))
    assert all((said[rule] == again[rule]).all() for rule in RULES)
