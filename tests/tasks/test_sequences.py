"""Losses, metrics and errors of the tasks on whole texts: one label, several, a number."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers as library
from scipy import stats
from sklearn import metrics as reference

from research import cli
from research.commands.evaluate import _matrix
from research.data import sources
from research.data.batch import assemble, framed
from research.data.sources import SourceConfig
from research.errors import UserError
from research.metrics import classification, multi_label, regression
from research.metrics.counts import total
from research.models import transformer
from research.tasks import TASKS, make_task
from research.tasks.batches import TaskBatches
from research.tasks.pooled import pooled
from tests import helpers
from tests.tasks import small

LABELS = ("no", "yes", "maybe")
TEXTS = ("Nam ite.", "Sen ale mol.", "Ite ite nam sen.")


def made(name, **options):
    """(task, model, params, logits [N, C]) of an encoder with drawn weights."""
    model = helpers.bert()
    tokenizer = helpers.word_pieces()
    task = make_task(
        TASKS[name].Options(**options), model, tokenizer, helpers.LENGTH, helpers.SEGMENTS
    )
    return task, model, helpers.new_params(model, (task,))


def computed(task, model, params, examples):
    """(loss, counts, outputs) of a batch with one example a row, and one row of padding."""
    rows = [task.segments(e, i, True) for i, e in enumerate(examples)]
    batch = {k: jnp.asarray(v) for k, v in assemble([*rows, []], task.layout, 0).items()}
    hidden = transformer.apply(params["backbone"], model, batch, task.pattern)
    loss, counts = task.loss(params, model, hidden, batch, None)
    mean = float(loss / task.weight(batch))
    outputs = jax.device_get(task.outputs(params, model, hidden, batch))["segment"]
    return mean, counts, {k: v[: len(examples), 0] for k, v in outputs.items()}


def labelled(labels, key="label"):
    return [
        {"id": f"e{i}", "text": text, key: label}
        for i, (text, label) in enumerate(zip(TEXTS, labels, strict=True))
    ]


GOLD = labelled(("yes", "no", "maybe"))


def test_a_pair_is_framed_as_its_tokenizer_frames_it():
    for tokenizer in (small.word_pieces(), small.two_separators()):
        parts = [tokenizer.encode(text).ids for text in small.SENTENCES[:2]]
        segment = framed(tokenizer, parts, 200)
        if tokenizer is small.two_separators():
            own = library.Tokenizer.from_str(tokenizer.to_json())
            assert segment.tokens.tolist() == own.encode(*small.SENTENCES[:2]).ids
        cut = framed(tokenizer, parts, 12)
        assert len(cut.tokens) == len(cut.types) == 12
        assert (cut.tokens == tokenizer.sep).sum() == len(tokenizer.frame(2)) - 1
        assert cut.types.tolist() == sorted(cut.types.tolist())


def probabilities(task, model, params):
    return computed(task, model, params, GOLD)[2]["probability"]


def test_dropout_before_the_head_keeps_the_mean_of_its_outputs():
    """The head is linear, so the mean over draws is the output without dropout."""
    task, model, params = made("sequence_classification", labels=LABELS, dropout=0.4)
    rows = [task.segments(e, i, True) for i, e in enumerate(GOLD)]
    batch = {k: jnp.asarray(v) for k, v in assemble(rows, task.layout, 0).items()}
    hidden = transformer.apply(params["backbone"], model, batch, "full")

    def scores(keys, rate):
        other = made("sequence_classification", labels=LABELS, dropout=rate)[0]
        return other.logits(params, model, hidden, batch, keys)

    keys = jax.random.split(jax.random.key(0), (4000, len(GOLD)))
    plain, drawn = scores(None, 0.4), jax.vmap(lambda k: scores(k, 0.4))(keys)
    error = drawn.std(0) / jnp.sqrt(len(keys))
    assert float(error.max()) > 0 and bool((jnp.abs(drawn.mean(0) - plain) < 5 * error)[:, 0].all())
    np.testing.assert_array_equal(scores(keys[0], 0.0), plain)
    with_keys = task.loss(params, model, hidden, batch, keys[0])[0]
    without = task.loss(params, model, hidden, batch, None)[0]
    assert float(with_keys) != float(without)


@pytest.mark.parametrize(("has_pooler", "stands_for"), [(True, "pooler"), (False, "first")])
def test_pooling_is_by_the_backbone_where_nothing_is_said(has_pooler, stands_for):
    model = helpers.bert(pooler=has_pooler)
    hidden = jax.random.normal(jax.random.key(0), (1, 6, model.width))
    batch = {"first": jnp.array([[0, 3]]), "last": jnp.array([[2, 5]])}
    pooler = transformer.Pooler(model).init(jax.random.key(1), hidden)["params"]
    params = {"backbone": {"pooler": pooler}}
    auto, named, other = (
        pooled(params, model, hidden, batch, pooling) for pooling in ("auto", stands_for, "last")
    )
    np.testing.assert_array_equal(auto, named)
    assert not np.array_equal(auto, other)


def test_class_weights_are_those_of_torch():
    """torch.nn.CrossEntropyLoss(weight=w): sum of w[y] * nll over the sum of w[y]."""
    task, model, params = made("sequence_classification", labels=LABELS, class_weights=(1, 2, 0.5))
    logp = np.log(probabilities(task, model, params))
    weights = np.array([2, 1, 0.5])
    nll = -logp[[0, 1, 2], [1, 0, 2]]
    found, _, _ = computed(task, model, params, GOLD)
    assert found == pytest.approx(float((weights * nll).sum() / weights.sum()), rel=1e-5)


def test_label_smoothing_is_that_of_torch():
    """torch.nn.CrossEntropyLoss(weight=w, label_smoothing=e)."""
    options = {"labels": LABELS, "class_weights": (1.0, 2.0, 0.5), "label_smoothing": 0.3}
    task, model, params = made("sequence_classification", **options)
    logp = np.log(probabilities(task, model, params))
    w, gold = np.array([1, 2, 0.5]), [1, 0, 2]
    hard = -(w[gold] * logp[[0, 1, 2], gold]).sum()
    soft = -(w * logp).sum() / 3
    expected = (0.7 * hard + 0.3 * soft) / w[gold].sum()
    assert computed(task, model, params, GOLD)[0] == pytest.approx(float(expected), rel=1e-5)


def test_accuracy_is_not_weighted():
    task, model, params = made("sequence_classification", labels=LABELS, class_weights=(1, 2, 0.5))
    _, counts, outputs = computed(task, model, params, GOLD)
    right = (outputs["probability"].argmax(-1) == [1, 0, 2]).mean()
    found = task.loss_metrics({k: float(v) for k, v in counts.items()})
    assert found["label_accuracy"] == pytest.approx(float(right))


def test_several_labels_have_a_loss_each():
    task, model, params = made("multi_label", labels=LABELS)
    examples = labelled((["yes", "maybe"], [], ["no"]), "labels")
    found, _, outputs = computed(task, model, params, examples)
    p = outputs["probability"]
    gold = np.array([[0, 1, 1], [0, 0, 0], [1, 0, 0]])
    expected = -(gold * np.log(p) + (1 - gold) * np.log(1 - p)).mean()
    assert found == pytest.approx(float(expected), rel=1e-5)
    prediction = task.predict(examples[0], [], [{"probability": np.array([0.4, 0.6, 0.5])}])
    assert prediction["labels"] == ["yes", "maybe"]
    assert task.show(examples[1], prediction) == "Sen ale mol. → yes (60%), maybe (50%)"


def test_a_number_has_a_squared_error():
    task, model, params = made("regression")
    examples = labelled(("1.5", "-2", "0.25"))
    found, _, outputs = computed(task, model, params, examples)
    expected = np.mean((outputs["value"] - [1.5, -2, 0.25]) ** 2)
    assert found == pytest.approx(float(expected), rel=1e-5)
    prediction = task.predict(examples[0], [], [{"value": np.float32(0.5)}])
    assert prediction == {"value": 0.5} and task.metric == "correlation"


CHOICES = [
    {"id": "a", "text": "Nam ite.", "choices": ["Sen.", "Mol ale.", "Tin."], "label": "1"},
    {"id": "b", "text": "Ale.", "choices": ["Nam sen.", "Ite."], "label": "Nam sen."},
    {"id": "c", "text": "Mol.", "choices": ["Ale.", "Ite.", "Sen."], "label": "2"},
]


def test_choices_share_a_row_and_a_softmax():
    model, tokenizer = helpers.bert(), helpers.word_pieces()
    config = TASKS["multiple_choice"].Options(choices=3)
    task = make_task(config, model, tokenizer, 2 * helpers.LENGTH, 6)
    params = helpers.new_params(model, (task,))
    segments = [task.segments(e, i, True) for i, e in enumerate(CHOICES)]
    data = TaskBatches(segments, task.layout, 0, examples=3, seed=0)
    found = data.batch(0)
    rows = [set(row[row >= 0]) for row in found["example"]]
    assert sorted(e for row in rows for e in row) == [0, 1, 2] and max(map(len, rows)) == 2
    batch = {k: jnp.asarray(v) for k, v in found.items()}
    hidden = transformer.apply(params["backbone"], model, batch, "full")
    loss, counts = task.loss(params, model, hidden, batch, None)
    scores = np.asarray(task.outputs(params, model, hidden, batch)["segment"]["score"])
    expected = correct = 0.0
    for number, gold in enumerate((1, 0, 2)):
        own = scores[found["example"] == number]
        expected += float(np.log(np.exp(own).sum()) - own[gold])
        correct += float(own.argmax() == gold)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(counts["correct"]) == correct and float(counts["count"]) == 3
    prediction = task.predict(CHOICES[0], [], [{"score": s} for s in (0.0, 1.0, -1.0)])
    assert prediction["choice"] == 1 and prediction["text"] == "Mol ale."
    assert sum(prediction["probabilities"]) == pytest.approx(1.0, abs=1e-5)
    assert task.compute_metrics(task.counts(CHOICES[0], prediction)) == {"accuracy": 1.0}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"choices": ["a"]}, "has 1 choices; it needs 2 to config.task.choices=3"),
        ({"label": "3"}, "label '3' is neither one of its choices nor the index"),
        ({"label": "Mol al."}, "did you mean 'Mol ale.'"),
    ],
)
def test_choices_that_cannot_be(change, said):
    config = TASKS["multiple_choice"].Options(choices=3)
    task = make_task(config, helpers.bert(), helpers.word_pieces(), helpers.LENGTH, 6)
    with pytest.raises(UserError, match=said):
        task.segments(CHOICES[0] | change, 0, True)


def drawn(seed, count=200):
    rng = np.random.default_rng(seed)
    return rng.normal(size=count).round(1), rng.normal(size=count).round(1)


def test_correlations_equal_scipys():
    gold, other = drawn(0)
    predicted = (gold + other).round(1)
    pairs = zip(gold, predicted, strict=True)
    found = regression.compute(total([regression.count(float(a), float(b)) for a, b in pairs]))
    assert found["pearson"] == pytest.approx(stats.pearsonr(gold, predicted).statistic)
    assert found["spearman"] == pytest.approx(stats.spearmanr(gold, predicted).statistic)
    assert found["mean_squared_error"] == pytest.approx(np.mean((gold - predicted) ** 2))
    constant = regression.compute(total([regression.count(1.0, x) for x in (1.0, 2.0)]))
    assert constant["correlation"] == 0.0


def test_binary_metrics_equal_scikit_learns():
    gold, other = (np.where(x > 0, "yes", "no") for x in drawn(1))
    predicted = np.where(np.random.default_rng(2).random(len(gold)) < 0.7, gold, other)
    pairs = zip(gold, predicted, strict=True)
    found = classification.binary(total([classification.count(*p) for p in pairs]), ("no", "yes"))
    assert found["f1"] == pytest.approx(reference.f1_score(gold, predicted, pos_label="yes"))
    assert found["matthews"] == pytest.approx(reference.matthews_corrcoef(gold, predicted))
    none = classification.binary(total([classification.count("no", "no")]), ("no", "yes"))
    assert none == {"f1": 0.0, "matthews": 0.0}


def test_multi_label_metrics_equal_scikit_learns():
    rng = np.random.default_rng(3)
    gold, predicted = rng.random((2, 100, 3)) < 0.4
    sets = [[[n for n, y in zip(LABELS, row, strict=True) if y] for row in m]
            for m in (gold, predicted)]  # fmt: skip
    pairs = zip(*sets, strict=True)
    found = multi_label.compute(total([multi_label.count(*p) for p in pairs]), LABELS)
    assert found["micro_f1"] == pytest.approx(reference.f1_score(gold, predicted, average="micro"))
    assert found["macro_f1"] == pytest.approx(reference.f1_score(gold, predicted, average="macro"))
    assert found["exact_match"] == pytest.approx(reference.accuracy_score(gold, predicted))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("sequence_classification", {"labels": ("a",)}, "needs two or more different"),
        ("sequence_classification", {"labels": LABELS, "class_weights": (1.0,)}, "class_weights"),
        ("sequence_classification", {"labels": LABELS, "metric": "f1"}, "for two labels, not 3"),
        ("multi_label", {"labels": ()}, "labels"),
        ("multiple_choice", {"choices": 1}, "config.task.choices=1 must be from 2"),
        ("multiple_choice", {"choices": 5}, "config.task.choices=5 must be from 2 to .*=4"),
    ],
)
def test_options_that_cannot_be(name, options, said):
    with pytest.raises(UserError, match=said):
        made(name, **options)


@pytest.mark.parametrize("name", ["sequence_classification", "multi_label", "regression"])
def test_a_pooler_that_is_not_there(name):
    options = {} if name == "regression" else {"labels": LABELS}
    model = helpers.gpt()
    with pytest.raises(UserError, match="config.model.pooler=true"):
        make_task(TASKS[name].Options(**options), model, helpers.byte_pairs(), 48, 4)
    with pytest.raises(UserError, match="config.model.pooler=true"):
        make_task(TASKS[name].Options(pooling="pooler", **options), helpers.bert(pooler=False),
                  helpers.word_pieces(), 48, 4)  # fmt: skip
    last = make_task(
        TASKS[name].Options(pooling="last", **options), model, helpers.byte_pairs(), 48, 4
    )
    assert last.pattern == "causal" and not last.head(model).bias


def test_labels_that_are_not_known():
    task = made("multi_label", labels=LABELS)[0]
    with pytest.raises(UserError, match="'yess' is not one of config.task.labels; did you mean"):
        task.segments({"id": "a", "text": "Nam.", "labels": ["yess"]}, 0, True)
    task = made("regression")[0]
    with pytest.raises(UserError, match="example 'a': label 'good' is not a number"):
        task.segments({"id": "a", "text": "Nam.", "label": "good"}, 0, True)


def test_sources_read_lists_of_labels(tmp_path):
    rows = [{"text": "a", "labels": ["x", "y"]}, {"text": "b", "labels": []}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "b.csv").write_text('text,labels\na,"[""x"", ""y""]"\n')
    found = list(sources.read(SourceConfig(f"files:{tmp_path}/a.jsonl"), "multi_label"))
    assert [e["labels"] for e in found] == [["x", "y"], []]
    found = list(sources.read(SourceConfig(f"files:{tmp_path}/b.csv"), "multi_label"))
    assert found[0]["labels"] == ["x", "y"]
    (tmp_path / "c.jsonl").write_text('{"text": "a", "labels": "x"}\n')
    with pytest.raises(UserError, match="line 1.*'labels'"):
        list(sources.read(SourceConfig(f"files:{tmp_path}/c.jsonl"), "multi_label"))


def test_the_confusion_matrix_as_it_is_printed():
    counts = [classification.count(*pair) for pair in (("no", "yes"), ("no", "no"), ("yes", "yes"))]
    assert _matrix(*classification.confusion(total(counts))) == [
        "  in the data   predicted:   no  yes",
        "  no                          1    1",
        "  yes                         0    1",
    ]


@pytest.mark.long
@pytest.mark.parametrize("name", ["multi_label", "regression", "multiple_choice"])
def test_train_evaluate_predict(name, tmp_path, capsys):
    values = helpers.run_values("sentiment", tmp_path, steps=2)
    key, given, options = {
        "multi_label": ("labels", [["x"], ["x", "y"]], {"labels": ["x", "y"]}),
        "regression": ("label", [0.5, 2], {}),
        "multiple_choice": ("label", [0, "Sen."], {"choices": 2}),
    }[name]
    rows = [{"id": f"r{i}", "text": "Nam ite.", key: given[i % 2]} for i in range(8)]
    rows = [row | ({"choices": ["Mol.", "Sen."]} if options.get("choices") else {}) for row in rows]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values["data"] |= {"train": f"files:{file}", "validation": f"files:{file}"}
    values["task"] = {"name": name} | options
    config = tmp_path / "config.py"
    config.write_text(
        "from ml_collections import ConfigDict\n\n\n"
        f"def get_config(arg=''):\n    return ConfigDict({values!r})\n"
    )
    workdir = tmp_path / "run"
    assert cli.main(["train", f"--config={config}", f"--workdir={workdir}"]) == 0
    assert cli.main(["evaluate", f"--checkpoint={workdir}"]) == 0
    expected = {"multi_label": "micro_f1", "regression": "spearman", "multiple_choice": "accuracy"}
    assert expected[name] in capsys.readouterr().out
    assert cli.main(["predict", f"--checkpoint={workdir}", f"--input={file}"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    fields = {"multi_label": "labels", "regression": "value", "multiple_choice": "choice"}
    assert len(found) == 8 and all(fields[name] in line for line in found)
    if name != "multiple_choice":  # whose choices are a list, which only a file can hold
        assert cli.main(["predict", f"--checkpoint={workdir}", "--text=Nam ite."]) == 0
        assert "Nam ite. → " in capsys.readouterr().out
