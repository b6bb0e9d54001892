"""TensorFlow Datasets: one set built here and read back, the known ones mocked, every refusal."""

import json
import re
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.data_sources.base import BaseDataSource

from research.data import sources, tfds_source
from research.data.left_out import LeftOut
from research.data.sources import SourceConfig, fingerprint, read
from research.errors import UserError

ROWS = 300


def example(i):
    words = ["Zürich", "is", "😀"][: i % 4]
    return {
        "id": f"q{i}",
        "text": f"Zürich {i} 😀",
        "label": i % 2,
        "score": 3.8,
        "tokens": words,
        "ner": [1, 0, 0][: len(words)],
        "question": f"Where {i}?",
        "answers": {"text": ["Zürich"] * (i % 3), "answer_start": [0] * (i % 3)},
    }


class TinyReviews(tfds.core.GeneratorBasedBuilder):
    """A set with every type of column that the known sets have."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        text, sequence = tfds.features.Text(), tfds.features.Sequence
        features = {
            "id": np.str_,
            "text": text,
            "label": tfds.features.ClassLabel(names=["bad", "good"]),
            "score": np.float32,
            "tokens": sequence(text),
            "ner": sequence(tfds.features.ClassLabel(names=["O", "B-LOC"])),
            "question": text,
            "answers": sequence({"text": text, "answer_start": np.int32}),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(ROWS), "test": self._generate_examples(2, -1)}

    def _generate_examples(self, count, label=None):
        for i in range(count):
            yield i, example(i) | ({} if label is None else {"label": label})


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The data_dir of the set, prepared as ArrayRecord."""
    folder = tmp_path_factory.mktemp("tfds")
    TinyReviews(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def listed(kind, name="tfds:tiny_reviews", **others):
    found = sources.placed(SourceConfig(name, **others), kind, left_out=LeftOut())
    return [example for _, example in found]


def fault(kind="document", name="tfds:tiny_reviews", **others):
    with pytest.raises(UserError) as caught:
        listed(kind, name, **others)
    message = str(caught.value)
    assert len(message.splitlines()) <= 12 and len(message) < 1200
    return message


# --- really written and read


def test_a_set_built_here_comes_back_whole(built):
    got = listed("classification", data_dir=str(built))
    assert len(got) == ROWS
    by_id = {e["id"]: e for e in got}
    for i in range(ROWS):
        label = ("bad", "good")[i % 2]
        assert by_id[f"q{i}"] == {"id": f"q{i}", "text": f"Zürich {i} 😀", "label": label}


def test_every_kind_of_column(built):
    where = {"data_dir": str(built), "take": 40}
    for e in listed("tokens", fields={"id": "id", "tags": "ner"}, **where):
        expected = example(int(e["id"][1:]))
        assert e["tokens"] == expected["tokens"] and e["tokens"]  # those without words are left out
        assert e["tags"] == [("O", "B-LOC")[i] for i in expected["ner"]]
    for e in listed("question", fields={"context": "text"}, **where):
        assert e["answers"] == example(int(e["id"][1:]))["answers"]
        assert all(type(start) is int for start in e["answers"]["answer_start"])
    scored = listed("classification", fields={"label": "score"}, **where)
    assert {e["label"] for e in scored} == {"3.8"}


def test_splits_slices_and_order(built):
    where = {"data_dir": str(built), "fields": {"text": "text"}}
    train = listed("document", split="train", **where)
    assert train == listed("document", **where)
    half = listed("document", split="train[:50%]", **where)
    assert [e["text"] for e in half] == [e["text"] for e in train[: ROWS // 2]]
    assert len(listed("document", split="train+test", **where)) == ROWS + 2


def test_a_hidden_label_is_an_error_for_a_classification_only(built):
    assert len(listed("document", split="test", data_dir=str(built))) == 2
    assert "without a label" in fault("classification", split="test", data_dir=str(built))


def test_a_missing_column_is_named(built):
    message = fault("tokens", data_dir=str(built))
    assert "tfds:tiny_reviews, train, example 0" in message
    assert "no field 'tags'" in message and "ner" in message


OTHER = [
    lambda features: features.update(pythonClassName="evil_features.Thing"),
    lambda features: _text_of(features).update(pythonClassName="evil_features.Thing"),
    lambda features: _text_of(features).update(pythonClassName="tensorflow_datasets_evil.Thing"),
    lambda features: [features.clear(), features.update(type="evil_features.Thing", content={})],
]


def _text_of(features):
    """The text in the sequence in the dict of a set's features."""
    answers = features["featuresDict"]["features"]["answers"]["sequence"]["feature"]
    return answers["featuresDict"]["features"]["text"]


@pytest.mark.parametrize("change", OTHER)
def test_a_set_that_names_a_class_of_another_module_is_refused(
    built, tmp_path, monkeypatch, change
):
    for module in ("evil_features", "tensorflow_datasets_evil"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    shutil.copytree(built / "tiny_reviews", tmp_path / "sets" / "foreign")  # without its code
    (info,) = (tmp_path / "sets").rglob("dataset_info.json")
    info.write_text(info.read_text().replace("tiny_reviews", "foreign"))
    (file,) = (tmp_path / "sets").rglob("features.json")
    features = json.loads(file.read_text())
    change(features)
    file.write_text(json.dumps(features))
    message = fault("classification", "tfds:foreign", data_dir=str(tmp_path / "sets"))
    assert "tfds:foreign: its features.json names the class" in message
    assert not {"evil_features", "tensorflow_datasets_evil"} & set(sys.modules)


READ = """
import sys
from research.data import sources, tfds_source
from research.data.sources import SourceConfig, fingerprint, read
config = SourceConfig("tfds:tiny_reviews", data_dir=sys.argv[1], split="train")
print(len(list(read(config, "classification"))), fingerprint(config))
assert "tensorflow" not in sys.modules
"""


def test_reading_needs_neither_tensorflow_nor_the_code_of_the_set(built):
    config = SourceConfig("tfds:tiny_reviews", data_dir=str(built), split="train")
    run = subprocess.run([sys.executable, "-c", READ, built], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [str(ROWS), fingerprint(config)]


def test_fingerprint_knows_the_split_and_the_columns(built):
    config = {"name": "tfds:tiny_reviews", "data_dir": str(built)}
    changes = [{}, {"split": "test"}, {"take": 1}, {"fields": {"label": "score"}}]
    assert len({fingerprint(SourceConfig(**config, **change)) for change in changes}) == 4


def as_tfds_decodes(builder, features):
    source = builder.as_data_source(split="train")
    return [tfds_source._plain(features, source[i]) for i in range(len(source))]


class MorePlain(tfds.core.GeneratorBasedBuilder):
    """Columns that the other set does not have; with `pair`, one that only TFDS decodes."""

    VERSION = tfds.core.Version("1.0.0")
    pair = None

    def _info(self):
        text = tfds.features.Text()
        features = {
            "flag": np.bool_,
            "small": np.uint8,
            "double": np.float64,
            "many": tfds.features.Sequence(np.float32),
            "three": tfds.features.Sequence(np.int32, length=3),
            "inner": {"deep": {"text": text, "words": tfds.features.Sequence(text)}},
            "hidden": tfds.features.ClassLabel(num_classes=3),
        } | ({"pair": self.pair} if self.pair else {})
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(7):
            values = {
                "flag": i % 2 == 0,
                "small": 250 + i % 5,
                "double": i / 4,
                "many": [0.1 * n for n in range(i)],
                "three": [i, -i, 0],
                "inner": {"deep": {"text": f"Grüße {i}", "words": ["ü"] * i}},
                "hidden": -1 if i == 3 else i % 3,
            }
            yield i, values | ({"pair": [i, i + 1]} if self.pair else {})


class WithPair(MorePlain):
    pair = tfds.features.Tensor(shape=(2,), dtype=np.int64)


@pytest.mark.parametrize("kind", [MorePlain, WithPair])
def test_values_are_those_that_tfds_decodes(tmp_path, monkeypatch, kind):
    builder = kind(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    features = builder.info.features
    # Not decoded by TFDS, but for the set with a column that is not plain.
    assert all(k for _, k, _, _ in tfds_source._columns(features, (), 0)) == (kind is MorePlain)
    monkeypatch.setattr(tfds_source, "CHUNK", 3)
    rows = list(tfds_source.rows(builder.name, "train", str(tmp_path)))
    assert [row.fields for row in rows] == as_tfds_decodes(builder, features)
    assert {(type(r.fields["flag"]), type(r.fields["small"])) for r in rows} == {(bool, int)}


def test_a_shard_is_read_in_chunks(built, monkeypatch):
    builder = tfds.builder_from_directory(str(built / "tiny_reviews" / "1.0.0"))
    monkeypatch.setattr(tfds_source, "CHUNK", 64)
    rows = list(tfds_source.rows("tiny_reviews", "train", str(built)))
    assert [row.fields for row in rows] == as_tfds_decodes(builder, builder.info.features)
    part = tfds_source.rows("tiny_reviews", "train", str(built), range(100, 250))
    assert list(part) == rows[100:250]
    asked, read = [], BaseDataSource.__getitems__

    def getitems(self, keys):
        asked.append(len(keys))
        return read(self, keys)

    monkeypatch.setattr(BaseDataSource, "__getitems__", getitems)
    list(tfds_source.rows("tiny_reviews", "train", str(built)))
    assert asked == [64, 64, 64, 64, 44]


# --- refusals


def test_an_unknown_set_config_version_or_split_gets_the_nearest_name(built):
    there = {"data_dir": str(built)}
    assert "did you mean 'imdb_reviews'" in fault(name="tfds:imdb_review", **there)
    assert "did you mean 'tiny_reviews'" in fault(name="tfds:tiny_review", **there)
    assert "did you mean 'mrpc'" in fault(name="tfds:glue/mrcp", **there)
    assert "no config 'v3'" in fault(name="tfds:squad/v3", **there)
    assert "only: 2.0.0" in fault(name="tfds:glue/mrpc:7.0.0", **there)
    assert "did you mean 'train'" in fault(split="trian", **there)
    assert "'train[:'" in fault(split="train[:", **there)


def test_tfrecord_says_how_to_convert(built, tmp_path):
    # As TFDS prepares by default: only the name of the format and of the files differ here.
    version = tmp_path / "tiny_reviews" / "1.0.0"
    shutil.copytree(built / "tiny_reviews" / "1.0.0", version)
    info = json.loads((version / "dataset_info.json").read_text())
    (version / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    for file in version.glob("*array_record*"):
        file.rename(version / file.name.replace("array_record", "tfrecord"))
    message = fault(data_dir=str(tmp_path))
    assert f"{version} as tfrecord" in message
    assert "tfds convert_format" in message and "--out_file_format=array_record" in message


def test_a_set_that_cannot_be_prepared_says_what_to_do(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise requests.ConnectionError("no network")

    monkeypatch.setattr(requests.Session, "get", offline)
    message = fault("classification", "tfds:imdb_reviews", data_dir=str(tmp_path))
    assert "no network" in message and "data_dir" in message and str(tmp_path) in message
    assert "tfds build imdb_reviews --file_format=array_record" in message


# --- mocked: the columns of the known sets are those that TFDS declares

CLASSIFICATION = {
    "imdb_reviews": ("text", {"neg", "pos"}),
    "glue": ("text", {"unacceptable", "acceptable"}),
    "glue/cola": ("text", {"unacceptable", "acceptable"}),
    "glue/sst2": ("text", {"negative", "positive"}),
    "glue/mrpc": ("pair", {"not_equivalent", "equivalent"}),
    "glue/qqp": ("pair", {"not_duplicate", "duplicate"}),
    "glue/stsb": ("pair", None),
    "glue/mnli": ("pair", {"entailment", "neutral", "contradiction"}),
    "glue/mnli_matched": ("pair", {"entailment", "neutral", "contradiction"}),
    "glue/mnli_mismatched": ("pair", {"entailment", "neutral", "contradiction"}),
    "glue/qnli": ("pair", {"entailment", "not_entailment"}),
    "glue/rte": ("pair", {"entailment", "not_entailment"}),
    "glue/wnli": ("pair", {"not_entailment", "entailment"}),
    "glue/ax": ("pair", {"entailment", "neutral", "contradiction"}),
}


@pytest.fixture
def mocks(monkeypatch):
    """Mocked sets of TFDS, whose method to read several examples cannot be called."""
    monkeypatch.setattr(BaseDataSource, "__getitems__", lambda self, keys: [self[k] for k in keys])


@pytest.fixture
def decoded(monkeypatch):
    """Mocked sets yield values, where files have stored examples."""
    plain = tfds_source._plain
    monkeypatch.setattr(tfds_source, "_decoder", lambda features: partial(plain, features))


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_mocked_classification(name, mocks):
    texts, labels = CLASSIFICATION[name]
    with tfds.testing.mock_data(num_examples=20):
        got = listed("classification", f"tfds:{name}", split="validation")
    assert len(got) == 20
    parts = ["text"] if texts == "text" else ["text_a", "text_b"]
    assert all(set(e) == {"id", "label", *parts} for e in got)
    if texts == "pair":
        assert all(e["text_a"] != e["text_b"] for e in got)
    if labels:
        assert {e["label"] for e in got} == labels
    else:
        assert all(re.fullmatch(r"-?[\d.e+-]+", e["label"]) for e in got)


@pytest.mark.parametrize(
    "name", ["wikipedia", "wikipedia/20230601.de", "c4", "c4/realnewslike", "lm1b", "imdb_reviews"]
)
def test_mocked_documents(name, mocks):
    with tfds.testing.mock_data(num_examples=3):
        got = listed("document", f"tfds:{name}", split="train")
    assert [e["id"] for e in got] == ["train:0", "train:1", "train:2"]
    assert all(e["text"] for e in got)
    assert all(bool(e["title"]) == name.startswith("wikipedia") for e in got)


class Rows(list):
    def __getitems__(self, keys):
        return [self[key] for key in keys]


def mocked(rows, check):
    """TFDS with these rows, as it stores them, in every set; `check` sees their features."""

    def as_data_source(self, split, **kwargs):
        check(self.info.features)
        return Rows(rows)

    return tfds.testing.mock_data(as_data_source_fn=as_data_source)


@pytest.mark.parametrize(("name", "column"), [("conll2003", "ner"), ("wikiann/en", "tags")])
def test_mocked_tokens(name, column, decoded):
    rows = [
        {"tokens": [b"Z\xc3\xbcrich", b"is"], column: np.array([5, 0])},
        {"tokens": [], column: np.array([], np.int64)},
        {"tokens": np.array([b"Ann"], object), column: [np.int64(1)]},
    ]
    with mocked(rows, lambda features: features[column].feature.names):
        got = listed("tokens", f"tfds:{name}", split="test")
    assert got == [
        {"id": "test:0", "tokens": ["Zürich", "is"], "tags": ["B-LOC", "O"]},
        {"id": "test:2", "tokens": ["Ann"], "tags": ["B-PER"]},
    ]


@pytest.mark.parametrize("name", ["squad", "squad/v1.1", "squad/v2.0"])
def test_mocked_questions(name, decoded):
    row = {
        "id": b"57",
        "title": b"T_1",
        "context": "Grüße aus Köln".encode(),
        "question": b"Where?",
        "answers": {"text": np.array(["Köln".encode()], object), "answer_start": np.array([10])},
    }
    none = {"text": np.array([], object), "answer_start": np.array([], np.int32)}
    rows = [row, row | {"answers": none}]
    if name == "squad/v2.0":
        rows = [r | {"is_impossible": np.bool_(False), "plausible_answers": none} for r in rows]
    with mocked(rows, lambda features: features["answers"]["answer_start"]):
        got = listed("question", f"tfds:{name}", split="validation")
    assert got[0] == {
        "id": "57",
        "title": "T_1",
        "context": "Grüße aus Köln",
        "question": "Where?",
        "answers": {"text": ["Köln"], "answer_start": [10]},
    }
    assert got[1]["answers"] == {"text": [], "answer_start": []}


def test_pieces_in_order_are_what_is_read(built, monkeypatch):
    monkeypatch.setattr(sources, "PIECE", 70)
    for split, count in (("train", 5), ("train[10:150]", 2), ("test", 1)):
        source = SourceConfig("tfds:tiny_reviews", split=split, data_dir=str(built), percent=50.0)
        found = [list(piece()) for piece in sources.pieces(source)]
        assert len(found) == count
        assert [e for piece in found for e in piece] == list(read(source, "document"))
    assert len(sources.pieces(SourceConfig("tfds:tiny_reviews", take=9, data_dir=str(built)))) == 1
