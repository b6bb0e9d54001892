import math

import numpy as np
import pytest
import tokenizers

from research.data.tokenizer import Tokenizer
from research.errors import UserError
from research.objectives import causal_lm
from research.objectives.objective import heads_of
from research.tasks.task import Task
from research.tasks.text_generation import TextGeneration, TextGenerationConfig, split_opening
from tests.tasks import small

TALE = {
    "id": "king",
    "title": "The King",
    "text": "Once upon a time there was a king  who had three sons.\nThe capital is Luanda.",
}
ASKED = {
    "id": "capital",
    "title": "Angola",
    "context": "The coastline of Angola is long. The capital is Luanda.",
    "question": "What is the capital?",
    "answers": {"text": ["Luanda"], "answer_start": [48]},
}
STORY = {"kind": "story", "prompt": "{title}\n\n{opening}", "completion": "{rest}"}
QUESTION = {
    "kind": "question",
    "prompt": "{context}\nQuestion: {question}\nAnswer:",
    "completion": " {answer}",
}


def task(
    options: dict, length: int = 128, segments: int = 4, chunk: int = 16, model=None, **more
) -> Task:
    given = {"opening_words": 4, "overlap": 8, "max_new_tokens": 10} | options | more
    tokenizer = small.byte_pairs()
    model = model or small.decoder(tokenizer, length)
    return TextGeneration(
        TextGenerationConfig(**given, chunk=chunk), model, tokenizer, length, segments
    )


def predicted(segments) -> np.ndarray:
    """The targets that count, in order."""
    return np.concatenate([s.targets[s.target_weights > 0] for s in segments])


@pytest.mark.parametrize(
    "options,example,prompt,completion",
    [
        (STORY, TALE, "The King\n\nOnce upon a time", TALE["text"][16:]),
        (
            QUESTION,
            ASKED,
            f"{ASKED['context']}\nQuestion: {ASKED['question']}\nAnswer:",
            " Luanda",
        ),
    ],
    ids=["story", "question"],
)
def test_only_the_completion_and_its_end_count(options, example, prompt, completion):
    gen, tokenizer = task(options), small.byte_pairs()
    (segment,) = gen.segments(example, 7, True)
    assert segment.example == 7 and segment.weight == 1.0
    assert segment.tokens[0] == tokenizer.eos and segment.targets[-1] == tokenizer.eos
    np.testing.assert_array_equal(segment.tokens[1:], segment.targets[:-1])
    counted = segment.targets[segment.target_weights > 0]
    assert tokenizer.decode(counted[:-1]) == completion and counted[-1] == tokenizer.eos
    assert tokenizer.decode(segment.targets[segment.target_weights == 0]) == prompt
    assert gen.prompt(example) == prompt
    assert gen.layout.targets and gen.kind == options["kind"]


def sentence_pieces() -> Tokenizer:
    """As in Llama 2: a text gets a space before it, spaces are ▁."""
    merges = [("y", "e"), ("ye", "s"), ("▁", "yes"), ("▁", "?"), ("▁", "▁")]
    names = ["<unk>", "<s>", "</s>", *"▁?yes", *("".join(pair) for pair in merges)]
    vocab = {name: number for number, name in enumerate(names)}
    inner = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, merges, unk_token="<unk>"))
    blanks = [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
    inner.normalizer = tokenizers.normalizers.Sequence(blanks)
    inner.add_special_tokens(["<unk>", "<s>", "</s>"])
    return Tokenizer(inner)


@pytest.mark.parametrize(
    ("prompt", "completion", "asked", "counted", "sizes"),
    [
        ("{question}", " {answer}", "▁?", ["▁yes"], [4]),
        ("{question}", "{answer}", "▁?", ["yes"], [3]),
        ("{question} ", "{answer}", "▁? ▁", ["▁yes"], [3]),  # "▁yes" would reach over
    ],
)
def test_a_completion_has_the_tokens_that_it_has_behind_its_prompt(
    prompt, completion, asked, counted, sizes
):
    """As in TRL and transformers: the ids of both as one text, without those of the prompt."""
    tokenizer = sentence_pieces()
    config = TextGenerationConfig("question", prompt, completion, overlap=8, max_new_tokens=4)
    gen = TextGeneration(config, small.decoder(tokenizer, 32), tokenizer, 32, 2)
    example = ASKED | {"question": "?", "answers": {"text": ["yes"], "answer_start": [0]}}
    (segment,) = gen.segments(example, 0, True)
    here = segment.target_weights > 0
    named = [tokenizer.token(int(i)) for i in segment.targets[here]]
    assert named == [*counted, "</s>"] and segment.target_bytes[here].tolist() == [*sizes, 0]
    before = [tokenizer.token(int(i)) for i in segment.tokens[: -len(counted)]]
    assert before[1:] == asked.split()


def test_an_opening_is_cut_between_words():
    assert split_opening("  One two\n three", 2) == ("  One two", "\n three")
    assert split_opening("One two", 5) == ("One two", "")
    assert split_opening("One", 0) == ("", "One")
    assert split_opening("", 3) == ("", "")


def test_a_long_story_goes_on_in_windows_that_predict_each_token_once():
    whole = task(STORY, length=256).segments(TALE, 0, True)
    gen = task(STORY, length=24)
    segments = gen.segments(TALE, 0, True)
    assert len(whole) == 1 and len(segments) > 2
    np.testing.assert_array_equal(predicted(segments), predicted(whole))
    assert all(len(s) == 24 for s in segments[:-1])
    for one, other in zip(segments, segments[1:], strict=False):
        np.testing.assert_array_equal(one.tokens[-8:], other.tokens[:8])
        assert other.target_weights[:8].sum() == 0
        assert (other.target_weights[8:] == 1).all()


def test_of_a_long_prompt_the_end_is_kept():
    gen = task(QUESTION, length=32)
    (segment,) = gen.segments(ASKED, 0, True)
    (whole,) = task(QUESTION, length=256).segments(ASKED, 0, True)
    tokenizer = small.byte_pairs()
    assert len(segment) == 32 and segment.tokens[0] == tokenizer.eos
    np.testing.assert_array_equal(segment.tokens[1:], whole.tokens[-31:])
    np.testing.assert_array_equal(predicted([segment]), predicted([whole]))
    text = gen.prompt(ASKED)
    assert len(tokenizer.encode(text).ids) + 1 + gen.max_new_tokens <= 32
    assert task(QUESTION, length=256).prompt(ASKED).endswith(text) and text.endswith("Answer:")
    # A long completion leaves the prompt half a row.
    segments = task(STORY, length=16, opening_words=8, overlap=2).segments(TALE, 0, True)
    assert [int(s.target_weights.sum()) for s in segments][0] == 16 - 8
    (whole,) = task(STORY, length=256, opening_words=8).segments(TALE, 0, True)
    np.testing.assert_array_equal(predicted(segments), predicted([whole]))


def test_without_a_label_nothing_counts():
    hidden = {k: v for k, v in ASKED.items() if k not in ("answers", "title", "id")}
    gen = task(QUESTION)
    (segment,) = gen.segments(hidden, 0, False)
    assert segment.weight == 0.0 and segment.target_weights.sum() == 0
    assert gen.predict(hidden, [segment], [{"loss": np.ones(len(segment))}]) == {}
    assert gen.prompt(hidden) == task(QUESTION).prompt(ASKED)
    opening = {"text": "Once upon a time", "title": "The King"}
    (segment,) = task(STORY).segments(opening, 0, False)
    assert task(STORY).predict(opening, [segment], [{"loss": np.ones(len(segment))}]) == {}
    assert task(STORY).prompt(opening) == task(STORY).prompt(TALE)


def test_a_question_without_an_answer_is_answered_by_nothing():
    empty = {**ASKED, "answers": {"text": [], "answer_start": []}}
    gen = task(QUESTION)
    (segment,) = gen.segments(empty, 0, True)
    assert small.byte_pairs().decode(predicted([segment])).strip() == ""
    assert gen.compute_metrics(gen.counts(empty, {"text": " "}))["f1"] == 1.0
    assert gen.compute_metrics(gen.counts(empty, {"text": "Luanda"}))["f1"] == 0.0


@pytest.mark.parametrize("chunk", [16, 128])
def test_loss_by_hand_over_packed_rows(chunk):
    gen = task(STORY, chunk=chunk)
    other = {"id": "o", "title": "A", "text": "The capital of the country is Luanda."}
    examples = [TALE, other]
    batch, places = small.rows_of(gen, examples)
    assert [r for _, r, _ in places] == [0, 0], "both tales must share a row"
    model = small.decoder(small.byte_pairs(), 128)
    draw = np.random.default_rng(0)
    hidden = draw.normal(size=(2, 128, 8)).astype(np.float32)
    table = draw.normal(size=(model.padded_vocab, 8)).astype(np.float32)
    params = {"backbone": {"embedding": {"word": table}}, "heads": {}}
    total, counts = gen.loss(params, model, hidden, batch, None)
    losses = np.asarray(gen.outputs(params, model, hidden, batch)["token"]["loss"])
    expected = tokens = size = 0.0
    for example, (_, r, s) in zip(examples, places, strict=True):
        (segment,) = gen.segments(example, 0, True)
        here = slice(batch["first"][r, s], batch["last"][r, s] + 1)
        logp = small.log_softmax(hidden[r, here] @ table[: model.vocab_size].T)
        by_position = -logp[np.arange(len(segment)), segment.targets]
        np.testing.assert_allclose(losses[r, here], by_position, rtol=1e-4, atol=1e-4)
        mine = float(by_position @ segment.target_weights)
        text = split_opening(example["text"], 4)[1].encode()
        sums = gen.predict(example, [segment], [{"loss": losses[r, here]}])
        assert sums["loss"] == pytest.approx(mine, rel=1e-4)
        assert sums["tokens"] == segment.target_weights.sum() and sums["bytes"] == len(text)
        assert gen.counts(example, sums) == sums
        expected, tokens, size = expected + mine, tokens + sums["tokens"], size + sums["bytes"]
    assert float(total) == pytest.approx(expected, rel=1e-4)
    assert float(counts["count"]) == float(gen.weight(batch)) == tokens
    metrics = gen.loss_metrics({k: float(v) for k, v in counts.items()})
    assert metrics["perplexity"] == pytest.approx(math.exp(expected / tokens), rel=1e-3)
    assert metrics["bits_per_byte"] == pytest.approx(expected / math.log(2) / size, rel=1e-3)
    numbers = gen.compute_metrics({"loss": expected, "tokens": tokens, "bytes": size})
    assert numbers["perplexity"] == pytest.approx(metrics["perplexity"], rel=1e-3)
    assert gen.metric == "perplexity" and not gen.higher_is_better
    assert "perplexity" in gen.show(TALE, sums)


def test_packed_is_unpacked():
    gen = task(QUESTION)
    short = {**ASKED, "id": "short", "context": "Luanda."}
    model = small.decoder(small.byte_pairs(), 128)
    packed, alone = small.packed_and_alone(gen, model, [ASKED, short])
    assert packed[0] == pytest.approx(alone[0], rel=1e-5)
    for (one,), (other,) in zip(packed[1], alone[1], strict=True):
        np.testing.assert_allclose(one["loss"], other["loss"], atol=1e-4)


def test_a_generated_answer_is_measured():
    gen = task(QUESTION)
    assert gen.metric == "f1" and gen.higher_is_better and gen.max_new_tokens == 10
    numbers = gen.compute_metrics(gen.counts(ASKED, {"text": " the Luanda, they say"}))
    assert numbers == {
        "exact_match": 0.0,
        "f1": pytest.approx(2 * 1 * (1 / 3) / (1 + 1 / 3)),
        "rouge_l": pytest.approx(2 * 1 * (1 / 4) / (1 + 1 / 4)),
        "bleu": pytest.approx(0.10682, rel=1e-3),
    }
    assert gen.show(ASKED, {"text": " Luanda"}) == "What is the capital? → Luanda"


def test_the_head_is_the_pretrained_one():
    untied = small.decoder(small.byte_pairs(), tied_embeddings=False)
    gen = task(QUESTION, model=untied)
    assert gen.head_name == causal_lm.NAME and gen.pattern == "causal"
    assert list(heads_of((gen,), untied)) == [causal_lm.NAME]
    assert heads_of((task(QUESTION),), small.decoder(small.byte_pairs())) == {}


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"prompt": "{titel}"}, "names {titel}.*prompt of a question.*did you mean 'title'"),
        ({"prompt": "{answer}"}, "prompt of a question does not have"),
        ({"completion": "{rest}"}, "completion of a question.*valid: .*answer"),
        ({"prompt": "{question"}, "config.task.prompt="),
        ({"prompt": "{}"}, "config.task.prompt="),
        ({"prompt": "{question:d}"}, "config.task.prompt="),
        ({"overlap": 128}, "config.task.overlap=128"),
        ({"max_new_tokens": 127}, "config.task.max_new_tokens=127 leaves no room"),
    ],
)
def test_errors(changes, message):
    with pytest.raises(UserError, match=message):
        task(QUESTION | changes)


def test_a_tokenizer_without_an_end_of_text_cannot_generate():
    pieces = small.word_pieces()
    with pytest.raises(UserError, match="eos"):
        TextGeneration(TextGenerationConfig(**QUESTION), small.encoder(pieces), pieces, 128, 4)


def test_a_prompt_may_be_a_prefix_that_sees_itself():
    gen = task(QUESTION, prefix=True)
    (segment,) = gen.segments(ASKED, 0, True)
    known = f"{ASKED['context']}\nQuestion: {ASKED['question']}\nAnswer:"
    assert segment.prefix == 1 + len(small.byte_pairs().encode(known).ids)
    assert segment.target_weights.argmax() == segment.prefix - 1
    assert gen.pattern == "prefix" and gen.layout.prefix
    assert task(QUESTION).segments(ASKED, 0, True)[0].prefix == 0
    # Of a long text only the window with the prompt has it.
    first, *others = task(STORY, length=24, prefix=True).segments(TALE, 0, True)
    assert first.prefix and others and not any(segment.prefix for segment in others)
