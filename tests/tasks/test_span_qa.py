import numpy as np
import pytest

from research.errors import UserError
from research.tasks.span_qa import NAME, SpanQA, SpanQAConfig
from research.tasks.task import Task
from tests.tasks import small

CONTEXT = (
    "Natural hazards: heavy rainfall causes flooding on the plateau. The coastline of Angola is "
    "1,600 km long. The capital of the country is Luanda."
)


TOKENIZERS = (small.word_pieces, small.two_separators, small.byte_pairs)


def question(text: str, answer: str | None, name: str = "q") -> dict:
    answers = {"text": [], "answer_start": []}
    if answer is not None:
        answers = {"text": [answer], "answer_start": [CONTEXT.index(answer)]}
    return {"id": name, "title": "", "context": CONTEXT, "question": text, "answers": answers}


COAST = question("How long is the coastline?", "1,600 km", "coast")
CAPITAL = question("What is the capital?", "Luanda", "capital")
RAIN = question("What does rain cause?", "flooding on", "rain")
NONE = question("Who wrote it?", None, "none")


def task(length: int = 64, segments: int = 4, tokenizer=None, **options) -> Task:
    tokenizer = tokenizer or small.word_pieces()
    config = SpanQAConfig(**{"stride": 16, "max_question": 10, "max_answer": 12} | options)
    return SpanQA(config, small.encoder(tokenizer, length), tokenizer, length, segments)


def gold_outputs(segments) -> list[dict]:
    """Logits that are high at the labels, and higher where there is an answer than where not."""
    outputs = []
    for segment in segments:
        high = {name: np.full(len(segment), -9.0) for name in ("start", "end")}
        for name in high:
            high[name][segment.labels[name]] = 9.0
        outputs.append(high)
    return outputs


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_labels_lie_on_the_answer(tokenizer):
    tokenizer = tokenizer()
    segments = task(length=200, tokenizer=tokenizer).segments(COAST, 5, True)
    assert len(segments) == 1 and segments[0].example == 5
    segment = segments[0]
    marked = segment.tokens[segment.labels["start"] : segment.labels["end"] + 1]
    assert tokenizer.decode(marked).replace(" ", "") == "1,600km"
    frame = tokenizer.frame(2)
    question, context = (tokenizer.encode(COAST[key]).ids for key in ("question", "context"))
    before = len(frame.ids[0]) + len(question) + len(frame.ids[1])
    assert len(question) > 10, "it is not cut where it fits in the row"
    assert tokenizer.decode(segment.tokens[:before]).replace(" ", "").startswith("Howlongis")
    assert segment.tokens[before:].tolist() == [*context, *frame.ids[2]]
    if not tokenizer.own_frame:
        assert segment.types.tolist() == [0] * before + [1] * (len(segment) - before)
    windows = task(tokenizer=tokenizer).segments(COAST, 5, True)
    assert len(windows) > 1, "the context does not fit"
    for window in windows:
        asked = [*frame.ids[0], *question[:10], *frame.ids[1]]
        assert window.tokens[: len(asked)].tolist() == asked, "the question is cut to max_question"
        assert window.tokens[len(asked)] in context


def test_windows_lose_nothing_and_point_to_the_first_token_without_the_answer():
    qa = task()
    segments = qa.segments(COAST, 0, True)
    context = small.word_pieces().encode(CONTEXT).ids
    assert len(segments) >= 3
    rebuilt = np.full(len(context), -1)
    for w, segment in enumerate(segments):
        part = segment.tokens[segment.types == 1][:-1]
        rebuilt[16 * w : 16 * w + len(part)] = part
    np.testing.assert_array_equal(rebuilt, context)
    held = [s for s in segments if s.labels["start"]]
    others = [s.labels for s in segments if not s.labels["start"]]
    assert held and others == [{"start": 0, "end": 0}] * len(others) and others
    texts = {
        small.word_pieces().decode(s.tokens[s.labels["start"] : s.labels["end"] + 1]) for s in held
    }
    assert len(texts) == 1


@pytest.mark.parametrize("example", [COAST, CAPITAL, RAIN], ids=lambda e: e["id"])
@pytest.mark.parametrize("stride", range(4, 20))
def test_a_window_is_labelled_if_it_holds_the_whole_answer(stride, example):
    (whole,) = task(length=200).segments(example, 0, True)
    answer = whole.tokens[whole.labels["start"] : whole.labels["end"] + 1].tolist()
    for segment in task(length=32, stride=stride).segments(example, 0, True):
        text = segment.tokens[segment.types == 1].tolist()
        held = any(text[i : i + len(answer)] == answer for i in range(len(text)))
        marked = segment.tokens[segment.labels["start"] : segment.labels["end"] + 1].tolist()
        assert marked == (answer if held else [small.word_pieces().cls])


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("example", [COAST, CAPITAL], ids=lambda e: e["id"])
def test_prediction_reads_gold_back_from_the_characters(tokenizer, example):
    qa = task(tokenizer=tokenizer())
    segments = qa.segments(example, 0, True)
    prediction = qa.predict(example, segments, gold_outputs(segments))
    assert prediction["answer"] == example["answers"]["text"][0]
    assert prediction["start"] == example["answers"]["answer_start"][0]
    assert prediction["probability"] > 0.99
    assert qa.compute_metrics(qa.counts(example, prediction)) == {"exact_match": 1.0, "f1": 1.0}
    assert prediction["answer"] in qa.show(example, prediction)


def test_an_answer_that_cuts_a_word_is_covered():
    cut = question("How long?", "600 k")
    qa = task(length=200)
    (segment,) = qa.segments(cut, 0, True)
    prediction = qa.predict(cut, [segment], gold_outputs([segment]))
    assert "600 k" in prediction["answer"] and prediction["answer"] in "1,600 km"


def test_no_answer_is_predicted_only_where_it_may_be():
    with pytest.raises(UserError, match="'none' has no answer.*unanswerable=true"):
        task().segments(NONE, 0, True)
    qa = task(unanswerable=True)
    segments = qa.segments(NONE, 0, True)
    assert all(s.labels == {"start": 0, "end": 0} for s in segments)
    prediction = qa.predict(NONE, segments, gold_outputs(segments))
    assert prediction["answer"] == "" and prediction["start"] == -1
    assert qa.compute_metrics(qa.counts(NONE, prediction))["f1"] == 1.0
    assert task().predict(NONE, segments, gold_outputs(segments))["answer"] != ""
    # One window with the answer outweighs all that have none.
    segments = qa.segments(COAST, 0, True)
    assert qa.predict(COAST, segments, gold_outputs(segments))["answer"] == "1,600 km"


def test_an_empty_context_has_no_answer():
    qa = task()
    empty = {"id": "e", "context": "", "question": "Who?"}
    segments = qa.segments(empty, 0, False)
    assert [s.weight for s in segments] == [0.0]
    ones = [{"start": np.ones(len(segments[0])), "end": np.ones(len(segments[0]))}]
    assert qa.predict(empty, segments, ones)["answer"] == ""
    prediction = task(unanswerable=True, null_threshold=99.0).predict(empty, segments, ones)
    assert prediction["answers"] == [{"text": "", "start": -1, "probability": 1.0}]
    assert prediction["answer"] == "" and prediction["null_score_difference"] > 99


def test_loss_by_hand_sees_the_segments_own_positions_only():
    qa = task(length=100, max_question=4, stride=40)
    short = [{**e, "context": e["context"][63:]} for e in (COAST, CAPITAL)]
    for e in short:
        e["answers"] = {
            "text": e["answers"]["text"],
            "answer_start": [e["answers"]["answer_start"][0] - 63],
        }
    examples = [
        short[0],
        {**short[1], "context": "Luanda.", "answers": {"text": ["Luanda"], "answer_start": [0]}},
    ]
    batch, places = small.rows_of(qa, examples)
    assert [(r, s) for _, r, s in places] == [(0, 0), (0, 1)], "both must share a row"
    logits = np.random.default_rng(0).normal(size=(2, 100, 2)).astype(np.float32)
    params = small.linear_head(NAME, 2)
    total, counts = qa.loss(params, qa.model, logits, batch, None)
    expected = 0.0
    for example, (_, r, s) in zip(examples, places, strict=True):
        (segment,) = qa.segments(example, 0, True)
        here = slice(batch["first"][r, s], batch["last"][r, s] + 1)
        for k, name in enumerate(("start", "end")):
            expected -= small.log_softmax(logits[r, here, k])[segment.labels[name]] / 2
    assert float(total) == pytest.approx(expected, rel=1e-5)
    assert float(counts["count"]) == float(qa.weight(batch)) == 2
    # What another segment or padding holds does not matter.
    second = batch["segments"] != 1
    for e in (logits, logits + 5 * second[..., None]):
        one = {**batch, "segment_weights": batch["segment_weights"] * np.array([[1, 0, 0, 0]] * 2)}
        value, _ = qa.loss(params, qa.model, e.astype(np.float32), one, None)
        first = small.log_softmax(np.moveaxis(logits[0, : batch["last"][0, 0] + 1], 0, 1))
        gold = [batch["start"][0, 0], batch["end"][0, 0]]
        assert float(value) == pytest.approx(-first[[0, 1], gold].mean(), rel=1e-5)


def test_accuracy_counts_windows_with_both_ends_right():
    qa = task(length=100)
    batch, places = small.rows_of(qa, [COAST], packed=False)
    logits = np.zeros((len(places), 100, 2), np.float32)
    for _, r, s in places:
        logits[r, batch["start"][r, s], 0] = logits[r, batch["end"][r, s], 1] = 3.0
    right = {"loss": 0.0, "correct": len(places), "count": len(places)}
    _, counts = qa.loss(small.linear_head(NAME, 2), qa.model, logits, batch, None)
    assert float(counts["correct"]) == right["correct"]
    logits[0, batch["end"][0, 0], 1], logits[0, 5, 1] = 0.0, 3.0
    _, counts = qa.loss(small.linear_head(NAME, 2), qa.model, logits, batch, None)
    assert qa.loss_metrics({k: float(v) for k, v in counts.items()})[
        "window_accuracy"
    ] == pytest.approx(1 - 1 / len(places))


def test_packed_is_unpacked():
    short = {**CAPITAL, "context": "Luanda.", "answers": {"text": ["Luanda"], "answer_start": [0]}}
    qa = task(length=120)
    model = small.encoder(small.word_pieces(), 120)
    packed, alone = small.packed_and_alone(qa, model, [COAST, short])
    assert packed[0] == pytest.approx(alone[0], rel=1e-5)
    for example, one, other in zip([COAST, short], packed[1], alone[1], strict=True):
        segments = qa.segments(example, 0, False)
        first, second = (qa.predict(example, segments, outputs) for outputs in (one, other))
        assert first["answer"] == second["answer"] and first["start"] == second["start"]
        assert first["probability"] == pytest.approx(second["probability"], rel=1e-4)


def test_errors():
    with pytest.raises(UserError, match="config.task.stride=61"):
        task(stride=61)
    with pytest.raises(UserError, match="config.task.null_threshold=1.5.*unanswerable=true"):
        task(null_threshold=1.5)
    broken = {**COAST, "answers": {"text": [" "], "answer_start": [CONTEXT.index(" ")]}}
    with pytest.raises(UserError, match="'coast'.*covers no token"):
        task().segments(broken, 0, True)
