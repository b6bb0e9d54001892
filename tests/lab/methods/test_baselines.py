import math

import numpy as np
import pytest

from research.lab.methods import baselines
from research.metrics import classification, entities, language
from research.metrics.counts import total
from research.objectives.masked_lm import MaskedLM


def numbers(counts) -> dict:
    return language.of_tokens(counts["loss"], counts["tokens"], counts["bytes"])


def review(text, label):
    return {"id": text, "text": text, "label": label}


def test_linear_learns_words_and_finds_rare_labels():
    train = [review(f"a good film number {i}", "positive") for i in range(40)]
    train += [review(f"a bad film number {i}", "negative") for i in range(40)]
    train += [review(f"it came on day {i}", "neutral") for i in range(3)]
    test = [review("good one", "positive"), review("so bad", "negative"), review("came", "neutral")]
    result = baselines.linear(train, test)
    assert result.predictions == ["positive", "negative", "neutral"]
    assert classification.compute(total(result.counts))["macro_recall"] == 1.0


def test_linear_reads_pairs():
    def pair(a, b, label):
        return {"id": "", "text_a": a, "text_b": b, "label": label}

    train = [pair("rain", "wet", "yes"), pair("sun", "dry", "no")] * 5
    result = baselines.linear(train, [pair("x", "wet", "yes"), pair("x", "dry", "no")])
    assert result.predictions == ["yes", "no"]


def tagged(sentence, tags):
    return {"id": "", "tokens": sentence.split(), "tags": tags.split()}


def test_frequent_tag_takes_the_commonest_type_and_joins_neighbours():
    train = [
        tagged("John Smith met May", "B-PER I-PER O B-PER"),
        tagged("in May in Smith", "O O O B-ORG"),
        tagged("Smith may leave in May", "B-PER O O O O"),
    ]
    test = [tagged("John Smith and Smith", "B-PER I-PER O B-ORG"), tagged("May Ruth", "O B-PER")]
    result = baselines.frequent_tag(train, test)
    assert result.predictions == [["B-PER", "I-PER", "O", "B-PER"], ["O", "O"]]
    numbers = entities.compute(total(result.counts))
    assert (numbers["precision"], numbers["recall"]) == (pytest.approx(1 / 2), pytest.approx(1 / 3))


def test_a_tie_between_types_does_not_depend_on_the_order():
    train = [tagged("Paris", "B-PER"), tagged("Paris", "B-LOC")]
    test = [tagged("Paris", "B-LOC")]
    first = baselines.frequent_tag(train, test)
    assert first == baselines.frequent_tag(train[::-1], test)


def test_neighbours_of_different_types_are_two_entities():
    train = [tagged("Ford Paris", "B-ORG B-LOC")]
    result = baselines.frequent_tag(train, [tagged("Ford Paris Paris", "B-ORG B-LOC I-LOC")])
    assert result.predictions == [["B-ORG", "B-LOC", "I-LOC"]]


def chain(rows, length, vocab_size, seed):
    """Rows in which a token is mostly followed by its double plus one."""
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(rows):
        row = [0]
        while len(row) < length:
            follows = draw.random() < 0.8
            row.append((2 * row[-1] + 1) % vocab_size if follows else draw.integers(vocab_size))
        made.append(np.array(row, np.int32))
    return made


def test_bigram_gives_probabilities():
    train = chain(40, 30, 23, seed=0)
    for context in range(25):  # 23 and 24 are never seen in training
        rows = [np.array([context, token]) for token in range(25)]
        losses = np.concatenate(baselines.bigram(train, rows, [1] * 25, 25).predictions)
        assert np.isfinite(losses).all()
        assert np.exp(-losses).sum() == pytest.approx(1.0)


def test_bigram_comes_close_to_the_entropy_of_a_chain():
    train, test = chain(400, 50, 23, seed=0), chain(40, 50, 23, seed=1)
    sizes = [49] * len(test)
    two = numbers(total(baselines.bigram(train, test, sizes, 23).counts))
    rare = 0.2 / 23
    entropy = -(0.8 + rare) * math.log(0.8 + rare) - 22 * rare * math.log(rare)
    assert two["loss"] == pytest.approx(entropy, rel=0.05)


def test_bigram_weights_are_the_likeliest_for_the_rows_held_out():
    train, tuning = chain(60, 20, 23, seed=2), chain(30, 20, 23, seed=3)
    model = baselines._pair_model(train, 23)
    weights = baselines._fit_weights(model, tuning)
    pair, single, bucket = (np.concatenate(part) for part in zip(*map(model, tuning), strict=True))

    def loss(given):
        fit = -np.log(given[bucket] * pair + (1 - given[bucket]) * single).sum()
        used = np.unique(bucket[bucket > 0])
        return fit - np.log(given[used]).sum() - np.log(1 - given[used]).sum()

    for used in set(bucket) - {0}:
        for change in (-0.03, 0.03):
            other = weights.copy()
            other[used] = np.clip(other[used] + change, 1e-6, 1 - 1e-6)
            assert loss(other) >= loss(weights) - 1e-6


def test_bigram_needs_rows_to_hold_out():
    with pytest.raises(ValueError, match="20 training rows"):
        baselines.bigram(chain(19, 5, 7, seed=0), chain(1, 5, 7, seed=1), [4], 7)


def test_frequent_token_hand_computed():
    train = [np.array([0, 1, 1, 2])]
    result = baselines.frequent_token(train, [np.array([0, 1, 2, 1])], vocab_size=3)
    numbers = MaskedLM().loss_metrics(total(result.counts))
    assert numbers["masked_accuracy"] == pytest.approx(2 / 3)
    # One added to each: shares 1/6, 3/6, 2/6.
    assert numbers["masked_loss"] == pytest.approx(-math.log(1 / 2 * 1 / 3 * 1 / 2) / 3)


COUNTRIES = {
    "Angola": ("Luanda", "cotton (2023)", "11 November 1975 (from Portugal)"),
    "Norway": ("Oslo", "fish; timber", "7 June 1905 (from Sweden)"),
}


def questions(country):
    capital, products, date = COUNTRIES[country]
    context = f"Products: {products}. Capital: {capital}. Independence: {date}."
    asked = {
        f"What is the capital of {country}?": capital,
        f"Which products does {country} make?": products.split(" (")[0].split(";")[0],
        f"When did {country} become independent?": date.split(" (")[0],
    }
    return [
        {
            "id": f"{country}-{i}",
            "title": country,
            "context": context,
            "question": question,
            "answers": {"text": [answer], "answer_start": [context.index(answer)]},
        }
        for i, (question, answer) in enumerate(asked.items())
    ]


def test_overlapping_sentence_takes_the_whole_text_of_the_best_sentence():
    result = baselines.overlapping_sentence(questions("Angola"), questions("Norway")[:2])
    assert result.predictions == ["Oslo", "fish; timber"]
    assert [counts["exact_match"] for counts in result.counts] == [1.0, 0.0]


def test_overlapping_sentence_reads_plain_prose():
    example = {
        "title": "",
        "context": "It was cold. The black cat slept all day! Nobody knew why.",
        "question": "Where did the cat sleep?",
        "answers": {"text": [], "answer_start": []},
    }
    result = baselines.overlapping_sentence([example], [example])
    assert result.predictions == ["The black cat slept all day"]
    assert result.counts == [{"questions": 1.0, "exact_match": 0.0, "f1": 0.0}]
