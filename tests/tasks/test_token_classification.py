import numpy as np
import pytest

from research.convert import importer
from research.data import words as word_borders
from research.errors import UserError
from research.evaluation import predictor
from research.run.loaded import load_model
from research.tasks.task import Task
from research.tasks.token_classification import (
    NAME,
    TokenClassification,
    TokenClassificationConfig,
)
from research.tasks.windows import windows
from tests.convert.folders import FOLDERS, build
from tests.tasks import small

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
ADA = {
    "id": "ada",
    "tokens": ["Ada", "Lovelace", "wrote", "to", "Charles", "Babbage", "in", "London", "."],
    "tags": ["B-PER", "I-PER", "O", "O", "B-PER", "I-PER", "O", "B-LOC", "O"],
}
RAIN = {"id": "rain", "tokens": ["Rain", "in", "Angola"], "tags": ["O", "O", "B-LOC"]}


def task(length: int = 64, segments: int = 4) -> Task:
    tokenizer = small.word_pieces()
    model = small.encoder(tokenizer, length)
    return TokenClassification(
        TokenClassificationConfig(LABELS), model, tokenizer, length, segments
    )


def gold_outputs(segments) -> list[dict]:
    return [{"probability": np.eye(len(LABELS))[segment.targets]} for segment in segments]


def test_the_first_piece_of_each_word_carries_its_tag():
    (segment,) = task().segments(ADA, 3, True)
    tokenizer = small.word_pieces()
    assert segment.example == 3 and segment.weight == 1.0
    assert segment.tokens[0] == tokenizer.cls and segment.tokens[-1] == tokenizer.sep
    marked, words = [], []
    for token, target, weight in zip(
        segment.tokens, segment.targets, segment.target_weights, strict=True
    ):
        if weight:
            marked.append(LABELS[target])
            words.append(tokenizer.token(token))
        elif token not in tokenizer.special_ids:
            words[-1] += tokenizer.token(token).removeprefix("##")
    assert marked == ADA["tags"]
    assert words == ADA["tokens"]
    assert len(segment) > len(ADA["tokens"]) + 2, "some word must have several pieces here"


def test_a_long_sentence_is_cut_and_no_word_is_lost():
    many = {"id": "m", "tokens": ADA["tokens"] * 5, "tags": ADA["tags"] * 5}
    short = task(length=24)
    segments = short.segments(many, 0, True)
    assert len(segments) > 3 and max(map(len, segments)) == 24
    assert sum(s.target_weights.sum() for s in segments) == len(many["tokens"])
    assert short.predict(many, segments, gold_outputs(segments))["tags"] == many["tags"]
    inner = [s.target_weights[1:5].sum() for s in segments[1:]]
    assert inner == [0] * len(inner), "a word is not read where it has little before it"


def test_prediction_names_entities_with_their_text():
    tagger = task()
    segments = tagger.segments(ADA, 0, False)
    assert [s.weight for s in segments] == [0.0]
    prediction = tagger.predict(ADA, segments, gold_outputs(tagger.segments(ADA, 0, True)))
    places = [("PER", "Ada Lovelace", [0, 2]), ("PER", "Charles Babbage", [4, 6])]
    sentence = " ".join(ADA["tokens"])
    for entity, (kind, text, words) in zip(
        prediction["entities"], [*places, ("LOC", "London", [7, 8])], strict=True
    ):
        start = sentence.index(text)
        assert entity == {
            "type": kind,
            "text": text,
            "start": start,
            "end": start + len(text),
            "probability": 1.0,
            "words": words,
        }
    assert tagger.compute_metrics(tagger.counts(ADA, prediction))[tagger.metric] == 1.0
    assert tagger.show(ADA, prediction) == (
        "[Ada Lovelace|PER 1.00] wrote to [Charles Babbage|PER 1.00] in [London|LOC 1.00] ."
    )
    nothing = tagger.predict(
        ADA, segments, [{"probability": np.eye(5)[np.zeros(len(segments[0]), int)]}]
    )
    assert tagger.compute_metrics(tagger.counts(ADA, nothing))["f1"] == 0.0
    assert tagger.show(ADA, nothing).endswith("no entity")


def test_a_raw_text_is_split_and_read_back_from_its_characters():
    text = "Ada  Lovelace-King wrote to Daniel's (in London)."
    words = [text[a:b] for a, b in word_borders.split(text)]
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
    tagger = task()
    gold = tagger.segments({"id": "x", "tokens": words, "tags": tags}, 0, True)
    prediction = tagger.predict(
        {"text": text}, tagger.segments({"text": text}, 0, False), gold_outputs(gold)
    )
    (entity,) = prediction["entities"]
    assert entity["text"] == "Ada  Lovelace-King" == text[entity["start"] : entity["end"]]
    assert entity["words"] == [0, 2]
    assert tagger.show({"text": text}, prediction) == f"[Ada  Lovelace-King|PER 1.00]{text[18:]}"
    empty = {"text": " "}
    segments = tagger.segments(empty, 0, False)
    assert tagger.predict(empty, segments, [{"probability": np.ones((2, 5))}])["tags"] == []


@pytest.mark.parametrize(
    "folder, text, words",
    [
        ("hi_ner", "रवि दिल्ली में है।", "रवि/B-LOC दिल्ली/B-LOC में/O है/B-LOC ।/O"),
        ("zh_ner", "王小明住在北京。", "王/B-LOC 小/B-LOC 明/O 住/B-LOC 在/O 北/O 京/O 。/B-LOC"),
    ],
)
def test_raw_texts_in_scripts_with_marks_and_without_blanks(folder, text, words, tmp_path):
    """Returns the tags of the reference for these words."""
    source, run = build(FOLDERS[folder], tmp_path / "source"), str(tmp_path / "run")
    importer.save(importer.read(str(source)), run)
    (prediction,) = predictor.predict(load_model(run), [{"text": text}])
    pairs = zip(prediction["tokens"], prediction["tags"], strict=True)
    assert " ".join(f"{word}/{tag}" for word, tag in pairs) == words


def test_an_entity_is_as_probable_as_all_its_tags_together():
    tagger = task()
    (segment,) = tagger.segments(ADA, 0, True)
    share = {0: 0.9, 1: 0.8, 4: 0.6, 5: 0.5, 7: 0.95}
    outputs = gold_outputs([segment])[0]["probability"] * 0.7
    for word, place in enumerate(np.flatnonzero(segment.target_weights)):
        outputs[place] = (1 - share.get(word, 0.99)) / 4
        outputs[place, segment.targets[place]] = share.get(word, 0.99)
    listed = tagger.predict(ADA, [segment], [{"probability": outputs}])["entities"]
    assert [e["probability"] for e in listed] == [0.72, 0.3, 0.95]


def test_bioes_labels_are_read_as_bioes():
    labels = ("O", *(f"{p}-{kind}" for kind in ("PER", "LOC") for p in "BIES"))
    tags = ["B-PER", "E-PER", "O", "O", "B-PER", "I-PER", "O", "S-LOC", "O"]
    tokenizer = small.word_pieces()
    tagger = TokenClassification(
        TokenClassificationConfig(labels), small.encoder(tokenizer), tokenizer, 64, 4
    )
    example = ADA | {"tags": tags}
    (segment,) = tagger.segments(example, 0, True)
    outputs = [{"probability": np.eye(len(labels))[segment.targets]}]
    prediction = tagger.predict(example, [segment], outputs)
    assert prediction["tags"] == tags
    assert [(e["type"], e["words"]) for e in prediction["entities"]] == [
        ("PER", [0, 2]),
        ("LOC", [7, 8]),
    ]
    numbers = tagger.compute_metrics(tagger.counts(example, prediction))
    assert numbers["f1"] == 1.0 and set(numbers) >= {"f1/PER", "f1/LOC"}


@pytest.mark.parametrize("length", [8, 13, 24, 60])
def test_windows_change_neither_tags_nor_score(length):
    """A model with the same output for a token in every window scores the same in short rows."""
    draw = np.random.default_rng(length)
    many = {"id": "m", "tokens": ADA["tokens"] * 6, "tags": ADA["tags"] * 6}
    whole = task(length=400)
    (segment,) = whole.segments(many, 0, True)
    said = draw.dirichlet(np.ones(5), len(segment)) + 0.6 * np.eye(5)[segment.targets]
    expected = whole.predict(many, [segment], [{"probability": said}])
    cut = task(length=length)
    room = length - 2
    outputs, segments = [], cut.segments(many, 0, True)
    for start, end in windows(len(segment) - 2, room, room - room // 2):
        outputs.append(
            {"probability": np.concatenate([said[:1], said[start + 1 : end + 1], said[:1]])}
        )
    prediction = cut.predict(many, segments, outputs)
    assert prediction == expected and len(segments) > 1
    counts = cut.counts(many, prediction)
    assert counts == whole.counts(many, expected)
    assert counts["gold/PER"] == 12 and counts["gold/LOC"] == 6, "no gold entity is lost"
    assert 0.1 < cut.compute_metrics(counts)["f1"] < 1


def test_loss_by_hand_over_packed_rows():
    tagger = task(length=50)
    batch, places = small.rows_of(tagger, [ADA, RAIN])
    assert [r for _, r, _ in places] == [0, 0], "both sentences must share a row"
    logits = np.random.default_rng(0).normal(size=(2, 50, 5)).astype(np.float32)
    params = small.linear_head(NAME, 5)
    total, counts = tagger.loss(params, tagger.model, logits, batch, None)
    expected = correct = 0.0
    for example, (_, r, s) in zip([ADA, RAIN], places, strict=True):
        segment = tagger.segments(example, 0, True)[0]
        at = batch["first"][r, s] + np.flatnonzero(segment.target_weights)
        gold = [LABELS.index(tag) for tag in example["tags"]]
        expected -= small.log_softmax(logits[r, at])[np.arange(len(gold)), gold].sum()
        correct += (logits[r, at].argmax(-1) == gold).sum()
    assert float(total) == pytest.approx(expected, rel=1e-5)
    assert float(counts["correct"]) == correct
    assert float(counts["count"]) == float(tagger.weight(batch)) == 12
    metrics = tagger.loss_metrics({k: float(v) for k, v in counts.items()})
    assert metrics == pytest.approx({"loss": expected / 12, "tag_accuracy": correct / 12})


def test_packed_is_unpacked():
    tagger = task(length=50)
    model = small.encoder(small.word_pieces(), 50)
    packed, alone = small.packed_and_alone(tagger, model, [ADA, RAIN])
    assert packed[0] == pytest.approx(alone[0], rel=1e-5)
    for (one,), (other,) in zip(packed[1], alone[1], strict=True):
        np.testing.assert_allclose(one["probability"], other["probability"], atol=1e-5)
        np.testing.assert_allclose(one["probability"].sum(-1), 1, atol=1e-5)


def test_errors_name_the_example_and_the_nearest_label():
    with pytest.raises(UserError, match="'ada'.*'B-PERS'.*did you mean 'B-PER'"):
        task().segments(ADA | {"tags": ["B-PERS"] + ADA["tags"][1:]}, 0, True)
    for labels, message in (
        (("O",), "two or more"),
        (("O", "O"), "different"),
        (("O", "PER"), "'PER'.*not O, B-TYPE or I-TYPE"),
        (("O", "B-PER", "I-PER", "S-LOC"), "config.task.labels: with B-PER.*neither"),
    ):
        with pytest.raises(UserError, match=message):
            TokenClassification(
                TokenClassificationConfig(labels), small.encoder(small.word_pieces()), None, 64, 4
            )
