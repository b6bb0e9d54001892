"""Predictions from the logits of an extractive question: the best answers, or none."""

import numpy as np
import pytest

from research.data import tokenizer as tokenizers
from research.evaluation import evaluator
from research.metrics.counts import total
from research.tasks.span_qa import best_spans, span_scores
from research.tasks.windows import windows
from tests.tasks import small
from tests.tasks.test_span_qa import COAST, CONTEXT, NONE, gold_outputs, question, task


def test_best_spans_by_search():
    draw = np.random.default_rng(1)
    for n, longest, count in ((1, 1, 1), (7, 3, 4), (12, 1, 5), (9, 40, 30), (9, 4, 1000)):
        start, end = draw.normal(size=(2, n))
        own = draw.random(n) < 0.7
        spans = [(i, j) for i in range(n) if own[i] for j in range(i, min(n, i + longest))]
        ranked = sorted(spans, key=lambda p: -start[p[0]] - end[p[1]])[:count]
        expected = [(pytest.approx(start[i] + end[j]), i, j) for i, j in ranked]
        assert best_spans(span_scores(start, end, own, longest), count) == expected
    nothing = np.zeros(0)
    assert best_spans(span_scores(nothing, nothing, nothing, 5), 3) == []


def official(example, logits, stride: int, longest: int, length: int) -> dict:
    """What BERT's run_squad.py makes of the logits, from its description; all spans are looked at.

    logits: for each window "start" and "end" over [CLS] question [SEP] context [SEP].
    """
    tokenizer = small.word_pieces()
    asked = len(tokenizer.encode(example["question"]).ids)
    context = tokenizer.encode(example["context"])
    room = length - len(tokenizer.frame(2))
    if asked + len(context.ids) > room:
        asked = min(10, asked)
    spans = windows(len(context.ids), room - asked, stride)

    def max_context(token):
        shown = [
            (100 * min(token - a, b - 1 - token) + b - a, -w)
            for w, (a, b) in enumerate(spans)
            if a <= token < b
        ]
        return -max(shown)[1]

    prelim, null = [], np.inf
    for w, (a, b) in enumerate(spans):
        start, end = logits[w]["start"], logits[w]["end"]
        null = min(null, start[0] + end[0])
        for i in range(a, b):
            for j in range(i, min(b, i + longest)):
                if max_context(i) == w:
                    score = start[asked + 2 + i - a] + end[asked + 2 + j - a]
                    text = example["context"][context.starts[i] : context.ends[j]]
                    prelim.append((score, text, int(context.starts[i])))
    prelim.sort(key=lambda p: -p[0])
    best = {}
    for score, text, start in prelim:
        best.setdefault(text, (score, text, start))
    everything = np.exp([score for score, *_ in prelim])
    return {"null": null, "best": list(best.values()), "sum": everything.sum()}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("length,stride", [(24, 5), (32, 11), (200, 16)])
def test_predictions_equal_the_official_search(seed, length, stride):
    draw = np.random.default_rng(seed)
    qa = task(length=length, stride=stride)
    segments = qa.segments(COAST, 0, False)
    logits = [{n: draw.normal(0, 2, len(s)) for n in ("start", "end")} for s in segments]
    expected = official(COAST, logits, stride, 12, length)
    prediction = qa.predict(COAST, segments, logits)
    assert (len(segments) > 1) == (length < 200)
    assert [(a["text"], a["start"]) for a in prediction["answers"]] == [
        (text, start) for _, text, start in expected["best"][:5]
    ]
    for answer, (score, *_) in zip(prediction["answers"], expected["best"], strict=False):
        assert answer["probability"] == pytest.approx(np.exp(score) / expected["sum"], abs=1e-6)
    assert prediction["answer"] == prediction["answers"][0]["text"]
    assert "null_score_difference" not in prediction

    open_ended = task(length=length, stride=stride, unanswerable=True).predict(
        COAST, segments, logits
    )
    ahead = expected["null"] - expected["best"][0][0]
    assert open_ended["null_score_difference"] == pytest.approx(ahead, abs=1e-6)
    assert open_ended["answer"] == ("" if ahead > 0 else prediction["answer"])
    everything = expected["sum"] + np.exp(expected["null"])
    assert open_ended["answers"][0]["probability"] == pytest.approx(
        np.exp(expected["best"][0][0]) / everything, abs=1e-6
    )


def test_a_token_is_scored_where_it_has_most_context():
    """By hand: windows of 8 tokens that start 4 apart. Token 6 has 1 after it in the first one and
    2 before it in the second, so what the first says of it does not count."""
    length = 8 + len(small.word_pieces().frame(2)) + 2
    qa = task(length=length, stride=4, max_question=2, max_answer=1)
    segments = qa.segments(COAST, 0, False)
    context = small.word_pieces().encode(CONTEXT)
    silent = [{n: np.full(len(s), -5.0) for n in ("start", "end")} for s in segments]

    def answer(window: int, token: int) -> tuple[int, float]:
        logits = [{n: a.copy() for n, a in o.items()} for o in silent]
        for name in ("start", "end"):
            logits[window][name][2 + 2 + token - 4 * window] = 9.0
        prediction = qa.predict(COAST, segments, logits)
        return prediction["start"], prediction["probability"]

    place = int(context.starts[6])
    assert len(segments[0]) == 13 and len(segments[1]) == 13
    assert answer(1, 6) == (place, pytest.approx(1.0, abs=1e-4))
    assert answer(0, 6)[1] < 0.1
    assert answer(0, 5) == (int(context.starts[5]), pytest.approx(1.0, abs=1e-4))
    assert answer(1, 5)[1] < 0.1


def test_no_answer_has_the_lowest_score_of_all_windows():
    qa = task(length=24, stride=5, unanswerable=True)
    segments = qa.segments(NONE, 0, False)
    logits = [{n: np.full(len(s), -3.0) for n in ("start", "end")} for s in segments]
    for w, outputs in enumerate(logits):
        outputs["start"][0] = 1.0 + abs(w - 2)
    # A token in the middle of the second window, after [CLS], the question and [SEP].
    middle = int((segments[1].types == 0).sum() + (segments[1].types == 1).sum() // 2)
    logits[1]["start"][middle] = 1.5
    prediction = qa.predict(NONE, segments, logits)
    assert prediction["null_score_difference"] == pytest.approx((1.0 - 3.0) - (1.5 - 3.0))
    assert prediction["answer"] and prediction["answer"] == prediction["answers"][0]["text"]
    logits[1]["start"][middle] = 0.5
    prediction = qa.predict(NONE, segments, logits)
    assert (prediction["answer"], prediction["start"]) == ("", -1)
    assert prediction["null_score_difference"] == pytest.approx(0.5)
    probability = prediction["probability"]
    assert prediction["answers"][0] == {"text": "", "start": -1, "probability": probability}
    assert "no answer" in qa.show(NONE, prediction)
    strict = task(length=24, stride=5, unanswerable=True, null_threshold=0.5)
    assert strict.predict(NONE, segments, logits)["answer"], "not more than the threshold"
    strict = task(length=24, stride=5, unanswerable=True, null_threshold=0.4)
    assert strict.predict(NONE, segments, logits)["answer"] == ""


def test_the_best_threshold_is_worth_what_it_promises():
    """With the threshold that the evaluation reports, predictions get the scores it reports."""
    draw = np.random.default_rng(3)
    golds = ["1,600 km", "Luanda", "flooding on", "heavy rainfall", None, None, None] * 6
    examples = [question("What?", gold, str(n)) for n, gold in enumerate(golds)]
    qa = task(unanswerable=True)
    segments = [qa.segments(e, 0, True) for e in examples]
    outputs = []
    for windows_ in segments:
        drawn = [{n: draw.normal(0, 2, len(s)) for n in ("start", "end")} for s in windows_]
        for segment, arrays in zip(windows_, drawn, strict=True):
            for name in arrays:
                arrays[name][segment.labels[name]] += draw.normal(4, 2) - 3 * (
                    segment.labels["end"] == 0
                )
        outputs.append(drawn)

    def numbers(threshold):
        changed = task(unanswerable=True, null_threshold=threshold)
        said = list(map(changed.predict, examples, segments, outputs))
        return changed.compute_metrics(total(evaluator.task_counts(changed, examples, said)))

    plain = numbers(0.0)
    assert plain["best_f1"] > plain["f1"] + 0.02 and plain["best_f1_thresh"] != 0
    best = numbers(plain["best_f1_thresh"])
    assert best["f1"] == pytest.approx(plain["best_f1"])
    assert best["best_f1"] == pytest.approx(plain["best_f1"])
    exact = numbers(plain["best_exact_thresh"])["exact_match"]
    assert exact == pytest.approx(plain["best_exact"])
    kinds = {f"{m}/{k}" for m in ("f1", "exact_match") for k in ("answerable", "unanswerable")}
    assert kinds <= set(plain)
    # What is resampled has none of the names by question.
    assert not any("threshold" in name for name in qa.counts(examples[0], {"answer": ""}))


def test_an_answer_that_stands_twice_is_named_once():
    context = "Luanda. The capital is Luanda. Luanda has a port."
    example = {"id": "t", "context": context, "question": "What is the capital?"}
    qa = task(length=100, max_question=4, stride=40)
    (segment,) = qa.segments(example, 0, False)
    logits = {n: np.full(len(segment), -9.0) for n in ("start", "end")}
    tokens = small.word_pieces().encode(context)
    before = int((segment.types == 0).sum())
    for place, score in ((0, 2.0), (23, 5.0), (31, 3.0)):
        logits["start"][before + int(np.flatnonzero(tokens.starts == place)[0])] = score
        logits["end"][before + int(np.flatnonzero(tokens.ends == place + len("Luanda"))[0])] = score
    prediction = qa.predict(example, [segment], [logits])
    assert [a["start"] for a in prediction["answers"] if a["text"] == "Luanda"] == [23]
    assert len({a["text"] for a in prediction["answers"]}) == 5


RAW = "Žluťoučký  kůň “ĎÁBELSKÉ ódy”, said Čapek\tin\u00a0Plzeň — 1 920 (sic!), naïve 東京 e\u0301."


@pytest.mark.parametrize("kind", ["lower", "cased", "bytes"])
def test_the_answer_is_cut_from_the_raw_characters(kind):
    """Whatever the tokenizer does to case, accents and spaces."""
    if kind == "bytes":
        tokenizer = tokenizers.train_byte_bpe([RAW], 300)
    else:
        tokenizer = tokenizers.train_wordpiece([RAW], 200, lowercase=kind == "lower")
    qa = task(length=160, tokenizer=tokenizer, max_answer=80)
    for gold in (
        "kůň “ĎÁBELSKÉ ódy”",
        "Čapek\tin\u00a0Plzeň",
        "(sic!)",
        "naïve 東京",
        "Žluťoučký  kůň",
    ):
        answers = {"text": [gold], "answer_start": [RAW.index(gold)]}
        example = {"id": "r", "context": RAW, "question": "Kdo?", "answers": answers}
        segments = qa.segments(example, 0, True)
        prediction = qa.predict(example, segments, gold_outputs(segments))
        assert (prediction["answer"], prediction["start"]) == (gold, RAW.index(gold))
        for answer in prediction["answers"]:
            end = answer["start"] + len(answer["text"])
            assert RAW[answer["start"] : end] == answer["text"] == answer["text"].strip()
        assert len({a["text"] for a in prediction["answers"]}) == 5


def test_an_answer_holds_its_marks():
    """A normalizer drops the accent after the last letter; the extracted answer keeps it."""
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "by", "rene", "in", "who", "paris"]
    pieces = tokenizers.word_pieces({w: i for i, w in enumerate(entries)}, lowercase=True)
    qa = task(length=32, tokenizer=pieces)
    context = "by Rene\u0301 in Paris"
    asked = {"id": "a", "question": "who", "context": context}
    asked["answers"] = {"text": ["Rene\u0301"], "answer_start": [3]}
    segments = qa.segments(asked, 0, True)
    prediction = qa.predict(asked, segments, gold_outputs(segments))
    assert prediction["answer"] == "Rene\u0301"
    assert qa.compute_metrics(total([qa.counts(asked, prediction)]))["exact_match"] == 1
