import numpy as np
import pytest

from research.errors import UserError
from research.tasks.protocol import Task
from research.tasks.token_classification import (
    NAME,
    TokenClassificationConfig,
    make,
    split_words,
)
from tests.tasks import small

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
ADA = {
    "id": "ada",
    "tokens": ["Ada", "Lovelace", "wrote", "to", "Charles", "Babbage", "in", "London", "."],
    "tags": ["B-PER", "I-PER", "O", "O", "B-PER", "I-PER", "O", "B-LOC", "O"],
}
RAIN = {"id": "rain", "tokens": ["Rain", "in", "Angola"], "tags": ["O", "O", "B-LOC"]}


def task(length: int = 64, slots: int = 4) -> Task:
    tokenizer = small.word_pieces()
    model = small.encoder(tokenizer, length)
    return make(TokenClassificationConfig(LABELS), model, tokenizer, length, slots)


def gold_outputs(slots) -> list[dict]:
    return [{"probability": np.eye(len(LABELS))[slot.targets]} for slot in slots]


def test_the_first_piece_of_each_word_carries_its_tag():
    (slot,) = task().slots(ADA, 3, True)
    tokenizer = small.word_pieces()
    assert slot.example == 3 and slot.weight == 1.0
    assert slot.tokens[0] == tokenizer.cls and slot.tokens[-1] == tokenizer.sep
    marked, words = [], []
    for token, target, weight in zip(slot.tokens, slot.targets, slot.target_weights, strict=True):
        if weight:
            marked.append(LABELS[target])
            words.append(tokenizer.token(token))
        elif token not in tokenizer.special_ids:
            words[-1] += tokenizer.token(token).removeprefix("##")
    assert marked == ADA["tags"]
    assert words == ADA["tokens"]
    assert len(slot) > len(ADA["tokens"]) + 2, "some word must have several pieces here"


def test_a_long_sentence_is_cut_and_no_word_is_lost():
    many = {"id": "m", "tokens": ADA["tokens"] * 5, "tags": ADA["tags"] * 5}
    short = task(length=24)
    slots = short.slots(many, 0, True)
    assert len(slots) > 3 and max(map(len, slots)) == 24
    assert sum(s.target_weights.sum() for s in slots) == len(many["tokens"])
    assert short.predict(many, slots, gold_outputs(slots))["tags"] == many["tags"]
    inner = [s.target_weights[1:5].sum() for s in slots[1:]]
    assert inner == [0] * len(inner), "a word is not read where it has little before it"


def test_prediction_names_entities_with_their_text():
    made = task()
    slots = made.slots(ADA, 0, False)
    assert [s.weight for s in slots] == [0.0]
    found = made.predict(ADA, slots, gold_outputs(made.slots(ADA, 0, True)))
    assert found["entities"] == [
        {"type": "PER", "text": "Ada Lovelace", "start": 0, "end": 2},
        {"type": "PER", "text": "Charles Babbage", "start": 4, "end": 6},
        {"type": "LOC", "text": "London", "start": 7, "end": 8},
    ]
    assert made.finish(made.counts(ADA, found))[made.metric] == 1.0
    assert "London (LOC)" in made.show(ADA, found)
    nothing = made.predict(ADA, slots, [{"probability": np.eye(5)[np.zeros(len(slots[0]), int)]}])
    assert made.finish(made.counts(ADA, nothing))["f1"] == 0.0
    assert made.show(ADA, nothing).endswith("no entity")


def test_a_raw_text_is_split_and_read_back_from_its_characters():
    text = "Ada  Lovelace-King wrote to Daniel's (in London)."
    words = [text[a:b] for a, b in split_words(text)]
    assert words == [
        "Ada",
        "Lovelace-King",
        "wrote",
        "to",
        "Daniel's",
        "(",
        "in",
        "London",
        ")",
        ".",
    ]
    tags = ["B-PER", "I-PER"] + ["O"] * 8
    made = task()
    gold = made.slots({"id": "x", "tokens": words, "tags": tags}, 0, True)
    found = made.predict({"text": text}, made.slots({"text": text}, 0, False), gold_outputs(gold))
    assert found["entities"] == [
        {"type": "PER", "text": "Ada  Lovelace-King", "start": 0, "end": 2}
    ]
    empty = {"text": " "}
    slots = made.slots(empty, 0, False)
    assert made.predict(empty, slots, [{"probability": np.ones((2, 5))}])["tags"] == []


def test_loss_by_hand_over_packed_rows():
    made = task(length=50)
    batch, places = small.rows_of(made, [ADA, RAIN])
    assert [r for _, r, _ in places] == [0, 0], "both sentences must share a row"
    logits = np.random.default_rng(0).normal(size=(2, 50, 5)).astype(np.float32)
    params = small.linear_head(NAME, 5)
    total, counts = made.objective.loss(params, None, logits, batch, None)
    expected = correct = 0.0
    for example, (_, r, s) in zip([ADA, RAIN], places, strict=True):
        slot = made.slots(example, 0, True)[0]
        at = batch["first"][r, s] + np.flatnonzero(slot.target_weights)
        gold = [LABELS.index(tag) for tag in example["tags"]]
        expected -= small.log_softmax(logits[r, at])[np.arange(len(gold)), gold].sum()
        correct += (logits[r, at].argmax(-1) == gold).sum()
    assert float(total) == pytest.approx(expected, rel=1e-5)
    assert float(counts["correct"]) == correct
    assert float(counts["count"]) == float(made.objective.weight(batch)) == 12
    metrics = made.objective.finish({k: float(v) for k, v in counts.items()})
    assert metrics == pytest.approx({"loss": expected / 12, "tag_accuracy": correct / 12})


def test_packed_is_unpacked():
    made = task(length=50)
    model = small.encoder(small.word_pieces(), 50)
    packed, alone = small.packed_and_alone(made, model, [ADA, RAIN])
    assert packed[0] == pytest.approx(alone[0], rel=1e-5)
    for (one,), (other,) in zip(packed[1], alone[1], strict=True):
        np.testing.assert_allclose(one["probability"], other["probability"], atol=1e-5)
        np.testing.assert_allclose(one["probability"].sum(-1), 1, atol=1e-5)


def test_errors_name_the_example_and_the_nearest_label():
    with pytest.raises(UserError, match="'ada'.*'B-PERS'.*did you mean 'B-PER'"):
        task().slots(ADA | {"tags": ["B-PERS"] + ADA["tags"][1:]}, 0, True)
    for labels, message in (
        (("O",), "two or more"),
        (("O", "O"), "different"),
        (("O", "PER"), "'PER'.*not O, B-TYPE or I-TYPE"),
    ):
        with pytest.raises(UserError, match=message):
            make(TokenClassificationConfig(labels), small.encoder(small.word_pieces()), None, 64, 4)
