"""Config files and command-line overrides: right ones are read, wrong ones are named."""

import dataclasses
import json
from pathlib import Path

import pytest

from research import config as configs
from research import shipped
from research.config import is_free
from research.config import keys as config_keys
from research.errors import UserError
from research.models.config import ModelConfig
from research.tasks import TASKS
from tests import helpers


def values(kind: str = "bert", **changes):
    """A valid config that reads no file."""
    found = {
        "data": {"corpus": ["bundled:corpus/brown"], "length": 64},
        "model": {"preset": "bert_tiny"},
        "objective": {"masked_lm": {}, "next_sentence": {}},
        "train": {"batch_size": 640, "steps": 10},
    }
    if kind == "task":
        del found["objective"]
        found["data"] |= {"train": "files:a.jsonl", "validation": "files:b.jsonl"}
        found["task"] = {"name": "sequence_classification", "labels": ["a", "b"]}
    return found | changes


def refuse(overrides: dict[str, str], kind: str = "bert") -> str:
    """The message for these overrides on the command line."""
    with pytest.raises(UserError) as error:
        configs.override(values(kind), overrides, "test")
    message = str(error.value)
    assert len(message.splitlines()) <= 12
    return message


def test_defaults_fill_what_is_left_out():
    found = configs.from_values(values())
    assert found.train.batch_size == 640 and found.train.keep == 2
    assert found.data.corpus[0].name == "bundled:corpus/brown"
    assert found.model.width == 128 and found.model.pooler
    assert found.objective.masked_lm.rate == 0.15 and found.objective.causal_lm is None


@pytest.mark.parametrize("kind", ["bert", "task"])
def test_what_is_written_is_read_back_the_same(kind):
    found = configs.from_values(values(kind))
    plain = configs.to_values(found)
    assert plain == json.loads(json.dumps(plain))
    assert configs.from_values(plain) == found
    assert configs.to_values(configs.from_values(plain)) == plain


@pytest.mark.parametrize(
    ("text", "get", "value"),
    [
        ("train.steps=20", lambda c: c.train.steps, 20),
        ("model.remat=none", lambda c: c.model.remat, "none"),
        ("optimizer.learning_rate=1e-3", lambda c: c.optimizer.learning_rate, 1e-3),
        ("optimizer.learning_rate=1", lambda c: c.optimizer.learning_rate, 1.0),
        ("model.tied_embeddings=false", lambda c: c.model.tied_embeddings, False),
        ("objective.next_sentence=none", lambda c: c.objective.next_sentence, None),
        ("objective.masked_lm.unit=span", lambda c: c.objective.masked_lm.unit, "span"),
        ("data.cache=some/where", lambda c: c.data.cache, "some/where"),
        ("data.corpus=('files:a.txt',)", lambda c: c.data.corpus[0].name, "files:a.txt"),
        ("tokenizer.add_tokens=['<x>']", lambda c: c.tokenizer.add_tokens, ("<x>",)),
        ("mesh.tensor=2", lambda c: c.mesh.tensor, 2),
    ],
)
def test_the_command_line_changes_a_key(text, get, value):
    key, _, given = text.partition("=")
    assert get(configs.override(values(), {key: given}, "test")) == value


@pytest.mark.parametrize("key,value", [("epochs", 2.0), ("tokens", 640), ("steps", 20)])
def test_a_length_takes_the_place_of_the_one_in_the_file(key, value):
    train = configs.override(values(), {f"train.{key}": str(value)}, "test").train
    others = {name: 0 for name in ("steps", "epochs", "examples", "tokens")}
    assert {name: getattr(train, name) for name in others} == others | {key: value}
    both = refuse({"train.epochs": "2", "train.steps": "3"})
    assert "config.train.steps=3, config.train.epochs=2.0" in both


@pytest.mark.parametrize("reverse", [False, True])
def test_a_source_that_is_a_name_takes_its_other_keys_in_any_order(reverse):
    given = {
        "data.train": "files:reviews.csv",
        "data.train.fields": '{"text": "review", "label": "stars"}',
        "data.train.take": "7",
    }
    if reverse:
        given = dict(reversed(given.items()))
    found = configs.override(values("task"), given, "test").data.train
    assert (found.name, found.take) == ("files:reviews.csv", 7)
    assert dict(found.fields) == {"text": "review", "label": "stars"}
    message = refuse({"data.train": "files:reviews.csv", "data.train.field": "{}"}, "task")
    assert "config.data.train" in message


def test_the_preset_gives_what_is_not_written():
    found = configs.override(values(), {"model.preset": "bert_base", "model.layers": "3"}, "test")
    assert (found.model.layers, found.model.width, found.model.heads) == (3, 768, 12)


def test_an_override_leaves_the_values_it_was_given_alone():
    given = values()
    before = json.dumps(given)
    configs.override(given, {"train.steps": "3", "objective.causal_lm": "none"}, "test")
    assert json.dumps(given) == before


KEYS = {
    "train.stepz": ("config.train.stepz is not a key", "'steps'"),
    "trian.steps": ("config.trian is not a key", "'train'"),
    "objective.masked_lm.rat": ("config.objective.masked_lm.rat", "'rate'"),
    "objective.maskedlm.rate": ("config.objective.maskedlm", "'masked_lm'"),
    "model.with": ("config.model.with", "'width'"),
    "optimizer.learningrate": ("config.optimizer.learningrate", "'learning_rate'"),
    "data.lenght": ("config.data.lenght", "'length'"),
    "mesh.fdsp": ("config.mesh.fdsp", "'fsdp'"),
    "tokenizer.vocabsize": ("config.tokenizer.vocabsize", "'vocab_size'"),
    "sed": ("config.sed", "'seed'"),
    "lr": ("config.lr", "did you mean config.optimizer.learning_rate?"),
    "optimizer.lr": ("config.optimizer.lr", "did you mean config.optimizer.learning_rate?"),
    "train.warmup": ("config.train.warmup", "did you mean config.optimizer.warmup?"),
    "epochs": ("config.epochs", "did you mean config.train.epochs?"),
    "train.max_seq_length": ("config.train.max_seq_length", "did you mean config.data.length?"),
}


@pytest.mark.smoke
@pytest.mark.parametrize("key", KEYS)
def test_an_unknown_key_names_itself_and_the_nearest(key):
    message = refuse({key: "3"})
    assert all(part in message for part in KEYS[key]), message


TYPES = {
    "train.steps=many": ("config.train.steps", "a whole number", "'many'"),
    "train.steps=1.5": ("config.train.steps", "a whole number", "1.5"),
    "train.steps=true": ("config.train.steps", "a whole number", "True"),
    "train.epochs=ten": ("config.train.epochs", "a number", "'ten'"),
    "model.bias=1": ("config.model.bias", "true or false", "1"),
    "data.cache=3": ("config.data.cache", "a string", "3"),
    "data.corpus=3": ("config.data.corpus", "a list", "3"),
    "data.corpus=[3]": ("config.data.corpus[0]", "a group of keys", "3"),
    "data.corpus=[{'nam': 'x'}]": ("config.data.corpus[0].nam", "'name'"),
    "data.corpus=[{}]": ("config.data.corpus[0].name is missing",),
    "train=3": ("config.train", "a group of keys", "3"),
    "data.length.x=3": ("config.data.length.x", "a value"),
    "model.width.x=3": ("config.model.width", "a whole number"),
    "model.preset=bert_tinny": ("model.preset='bert_tinny'", "'bert_tiny'"),
    "model.activation=gelo": ("config.model.activation='gelo'", "'gelu'"),
    "optimizer.name=adam": ("config.optimizer.name='adam'", "'adamw'"),
    "optimizer.schedule=cosin": ("config.optimizer.schedule='cosin'", "'cosine'"),
    "objective.masked_lm.unit=wrod": ("config.objective.masked_lm.unit='wrod'", "'word'"),
    "tokenizer.kind=bpe": ("config.tokenizer.kind='bpe'", "byte_bpe"),
    "init=frsh": ("config.init='frsh'", "'fresh'"),
    "task=sentiment": ("config.task", "a group of keys"),
    "task.name=sequence_clasification": ("task.name", "'sequence_classification'"),
}


@pytest.mark.parametrize("text", TYPES)
def test_a_wrong_type_or_choice_says_what_is_right(text):
    key, _, given = text.partition("=")
    message = refuse({key: given})
    assert all(part in message for part in TYPES[text]), message


TOGETHER = {
    "model.heads=3": ("model.heads=3", "model.width=128"),
    "train.batch_size=100": ("config.train.batch_size=100", "config.data.length=64"),
    "train.batch_size=0": ("config.train.batch_size=0", "at least 1"),
    "train.accumulation=0": ("config.train.accumulation=0", "at least 1"),
    "train={'steps': 10, 'epochs': 2}": ("config.train.steps=10", "config.train.epochs=2.0"),
    "train.steps=0": ("config.train.steps=0", "config.train.epochs=0.0"),
    "train.steps=-5": ("config.train.steps=-5",),
    "train.log_every=0": ("config.train.log_every=0", "at least 1"),
    "data.length=4": ("config.data.length=4", "at least 8"),
    "data.segments=0": ("config.data.segments=0", "at least 1"),
    "data.held_out_percent=0": ("config.data.held_out_percent=0 must be a number in (0, 100)",),
    "data.held_out_percent=100": ("config.data.held_out_percent=100",),
    "data.corpus=[]": ("config.data.corpus is empty",),
    "objective.masked_lm.rate=0": ("config.objective.masked_lm.rate=0 ", "(0, 1)"),
    "objective.masked_lm.rate=1": ("config.objective.masked_lm.rate=1 ", "(0, 1)"),
    "objective.next_sentence.short=1.5": ("config.objective.next_sentence.short=1.5",),
    "objective.causal_lm.chunk=64": (
        "full: masked_lm, next_sentence; causal: causal_lm",
        """--config.objective.rows="{'full': 1, 'causal': 1}\"""",
    ),
    "objective.sentence_order={}": ("next_sentence", "sentence_order", "what lies in a row"),
    "objective.rows={'ful': 1}": ("rows of 'ful' attention", "did you mean 'full'"),
    "objective.rows={'causal': 1}": ("rows of 'causal' attention, which no loss needs",),
    "objective.rows={'full': 2}": ("config.objective.rows={'full': 2} is for a mixture",),
    "objective={'causal_lm': {}, 'masked_lm': {}, 'rows': {'full': 0, 'causal': 1}}": (
        "config.objective.rows['full']=0 must be a whole number of at least 1",
    ),
    "objective={'causal_lm': {}, 'masked_lm': {}, 'rows': {'full': 1}}": (
        "config.objective.rows has no 'causal', which causal_lm needs",
    ),
    "objective=none": ("give either objective", "or task"),
    "objective={}": ("names no loss", "masked_lm, next_sentence, sentence_order, causal_lm"),
    "init=fresh": ("config.init='fresh'", "config.init_from"),
    "model.preset=checkpoint": ("config.model.preset='checkpoint'", "init_from"),
    "tokenizer.kind=checkpoint": ("config.tokenizer.kind='checkpoint'", "init_from"),
    "model.dropout=1.0": ("model.dropout=1.0",),
    "optimizer.rates={'a(': 1}": ("config.optimizer.rates, key='a('", "a regular expression"),
    "optimizer.freeze=['[']": ("config.optimizer.freeze[0]='['", "a regular expression"),
    "optimizer.rates={'a': -1}": ("config.optimizer.rates['a']=-1 must be a number of at least 0",),
    "optimizer.layer_decay=0": ("config.optimizer.layer_decay=0 must be a number in (0, 1]",),
    "optimizer.learning_rate=0": ("config.optimizer.learning_rate=0 must be a number above 0",),
    "optimizer.learning_rate=1e999": ("learning_rate=inf must be a finite number",),
    "optimizer.warmup=1.5": ("config.optimizer.warmup=1.5 must be a number from 0 to 1",),
    "optimizer.average=1.0": ("config.optimizer.average=1.0 must be a number in [0, 1)",),
    "train.patience=-1": ("config.train.patience=-1 must be a whole number of at least 0",),
    "model.lora=['(']": ("config.model.lora[0]='(' is not a regular expression",),
    "model.lora_dropout=1.0": ("config.model.lora_dropout=1.0 must be a number in [0, 1)",),
    "data.cache=gs://a/b": ("config.data.cache='gs://a/b' must be a folder",),
    "seed=-1": ("config.seed=-1", "from 0 to"),
    "seed=1099511627776": ("config.seed=1099511627776", "from 0 to"),
    "model.kv_heads=-1": ("model.kv_heads=-1",),
}


@pytest.mark.parametrize("text", TOGETHER)
def test_what_does_not_fit_together_names_its_keys(text):
    key, _, given = text.partition("=")
    message = refuse({key: given})
    assert all(part in message for part in TOGETHER[text]), message


def test_a_length_of_the_command_line_is_instead_of_the_files():
    own = {"batch_size": 640, "epochs": 2.0, "eval_epochs": 0.5}
    found = configs.override(values(train=own), {"train.steps": "20"}, "test").train
    assert (found.steps, found.epochs, found.eval_epochs) == (20, 0.0, 0.5)
    found = configs.override(values(train=own), {"train.eval_every": "5"}, "test").train
    assert (found.epochs, found.eval_every, found.eval_epochs) == (2.0, 5, 0.0)
    found = configs.override(values(train=own), {"train.tokens": "6400"}, "test").train
    assert (found.tokens, found.epochs) == (6400, 0.0)
    message = refuse({"train.steps": "20", "train.epochs": "2"})
    assert "config.train.steps=20" in message and "config.train.epochs=2.0" in message
    assert "config.train.steps=0" in refuse({"train.steps": "0"})


def test_labels_may_be_numbers_or_taken_from_the_file():
    task = {"name": "sequence_classification", "labels": [0, 1, True, 2.5]}
    assert configs.override(values("task", task=task), {}, "test").task.labels == (
        "0",
        "1",
        "true",
        "2.5",
    )
    found = configs.override(values("task"), {"task.labels": "auto"}, "test")
    assert found.task.labels == "auto"
    assert configs.from_values(configs.to_values(found)) == found
    assert "must be a list" in refuse({"task.labels": "atuo"}, "task")


def test_a_validation_may_be_a_share_of_the_training_source():
    given = {"data.validation": "held_out:5", "data.train.fields": "{'text': 'review'}"}
    found = configs.override(values("task"), given, "test").data
    assert found.train.part == (5.0, 100.0) and found.validation.part == (0.0, 5.0)
    assert found.train.name == found.validation.name == "files:a.jsonl"
    assert found.validation.fields == {"text": "review"}
    again = configs.from_values(configs.to_values(configs.override(values("task"), given, "test")))
    assert again.data == found
    for wrong in ("held_out:", "held_out:0", "held_out:100", "held_out:x"):
        assert "held_out:5" in refuse({"data.validation": wrong}, "task")
    keys = {"data.validation": "held_out:5", "data.validation.take": "3"}
    assert "has no keys of its own" in refuse(keys, "task")
    assert "held_out:5 is 5 %" in refuse({"data.validation": "none"}, "task")


RANGES = {
    "sequence_classification": {"labels": "['a', 'b']", "label_smoothing": "1", "dropout": "1"},
    "multi_label": {"labels": "['a', 'b']", "threshold": "0", "dropout": "-0.1"},
    "span_qa": {"stride": "0", "max_question": "0", "max_answer": "0"},
    "chat": {"overlap": "-1", "chunk": "0", "decoding.top_p": "0", "decoding.beams": "1025"},
}


@pytest.mark.parametrize("task", RANGES)
def test_a_value_of_a_task_that_is_out_of_range(task):
    own = {"name": task, **{k: ["a", "b"] for k in RANGES[task] if k == "labels"}}
    for key, value in RANGES[task].items():
        if key != "labels":
            with pytest.raises(UserError, match=rf"config\.task\.{key}={value} must be a .*number"):
                configs.override(values("task", task=own), {f"task.{key}": value}, "test")


def test_a_causal_chunk_has_a_size():
    given = {"objective": "{'causal_lm': {'chunk': 0}}", "model.preset": "gpt2_tiny"}
    assert "config.objective.causal_lm.chunk=0" in refuse(given)


def test_a_task_needs_its_examples_and_no_objective_beside_it():
    assert "config.data.train is missing" in refuse({"data.train": "none"}, "task")
    assert "give either objective" in refuse({"objective.masked_lm.rate": "0.2"}, "task")
    bare = {"task": "{'name': 'sequence_classification'}"}
    assert "config.task.labels is missing" in refuse(bare)
    message = refuse({"task.poolin": "mean"}, "task")
    assert "config.task.poolin" in message and "'pooling'" in message


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


FILE = """
from research.config import arguments

def get_config(arg=""):
    a = arguments(arg, size="tiny", nsp=True, steps=5, rate=0.1)
    return {"model": {"preset": f"bert_{a.size}"}, "data": {"corpus": ["bundled:corpus/brown"]},
            "objective": {"masked_lm": {"rate": a.rate}, "next_sentence": {} if a.nsp else None},
            "train": {"steps": a.steps}}
"""


def test_a_file_takes_arguments_and_overrides(tmp_path):
    file = write(tmp_path / "c.py", FILE)
    found = configs.load(f"{file}:size=mini,nsp=false,rate=1e-1", {"train.keep": "5"})
    assert found.model.layers == 4 and found.objective.next_sentence is None
    assert found.train == dataclasses.replace(found.train, steps=5, keep=5)


ARGUMENTS = {
    "sze=mini": ("'sze'", "'size'"),
    "size": ("'size' needs a value",),
    "mini": ("'mini': write size=mini; valid: size, nsp, steps, rate",),
    "7": ("'7': write steps=7",),
    "nsp=maybe": ("argument nsp", "true or false"),
    "steps=1.5": ("argument steps", "a whole number"),
    "size=huge": ("bert_huge", "valid: bert_base"),
}


@pytest.mark.parametrize("arg", ARGUMENTS)
def test_a_wrong_argument_is_named(tmp_path, arg):
    file = write(tmp_path / "c.py", FILE)
    with pytest.raises(UserError) as error:
        configs.load(f"{file}:{arg}")
    assert all(part in str(error.value) for part in ARGUMENTS[arg]), error.value


FILES = {
    "def get_config(arg=''):\n    return {": ("c.py, line 2",),
    "A = {'one': 1,\n     'two': 2,\n     'one': 3}": (
        "c.py, line 3: 'one' stands here a second time",
    ),
    "x = 1\n": ("c.py has no get_config",),
    "def get_config(arg=''):\n    return 3\n": ("get_config", "int"),
    "import nonsense_of_mine\n": ("c.py, line 1", "nonsense_of_mine"),
    "def get_config(arg=''):\n    y = 1\n    return {}['x']\n": ("c.py, line 3", "KeyError"),
}


@pytest.mark.parametrize("text", FILES)
def test_a_broken_file_is_named_with_its_line(tmp_path, text):
    file = write(tmp_path / "c.py", text)
    with pytest.raises(UserError) as error:
        configs.load(file)
    assert all(part in str(error.value) for part in FILES[text]), error.value


def test_a_missing_file_names_the_nearest(tmp_path):
    write(tmp_path / "sentiment.py", FILE)
    with pytest.raises(UserError, match=r"no config file.*sentimnt.*did you mean.*sentiment\.py"):
        configs.load(str(tmp_path / "sentimnt.py"))


@pytest.mark.parametrize("name", ["bert", "bert.py:tiny", "configs/bert.py", "pretrain/brt.py"])
def test_a_config_that_ships_is_known_by_its_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"did you mean 'configs/pretrain/bert\.py'\?$"):
        configs.load(name)


def test_a_config_that_ships_is_read_from_any_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shipped.tell.cache_clear()
    assert configs.load("configs/pretrain/bert.py:size=mini").model.layers == 4
    told = f"configs/pretrain/bert.py is not in this folder; it is taken from {shipped.ROOT}\n"
    assert capsys.readouterr().err == told
    (tmp_path / "configs" / "pretrain").mkdir(parents=True)
    write(tmp_path / "configs" / "pretrain" / "bert.py", FILE)
    assert configs.load("configs/pretrain/bert.py:steps=3").train.steps == 3
    assert not capsys.readouterr().err


def test_every_key_says_what_it_means():
    keys = config_keys.of_config() | {
        key: about for name in TASKS for key, about in config_keys.of_task(name).items()
    }
    assert {"optimizer.learning_rate", "objective.masked_lm", "task.decoding.stop"} <= keys.keys()
    assert all(about.meaning for about in keys.values())
    wanted = {name.rpartition(".")[2] for name in config_keys.SYNONYMS.values()}
    assert wanted <= {key.rpartition(".")[2] for key in keys}


def test_no_key_is_read_with_a_default():
    """A misspelt key must fail, so no code reads a config key that may be missing."""
    root = Path(configs.__file__).parents[1]
    assert not [str(p) for p in root.rglob("*.py") if "config.get(" in p.read_text()]


def test_the_tiny_runs_of_the_tests_are_valid(tmp_path):
    for kind in ("bert", "gpt", "sentiment"):
        assert helpers.run_config(kind, tmp_path, steps=3).train.accumulation == 2


def test_what_may_change_between_a_run_and_its_resumption():
    """A free key does not free keys with the same prefix: attention_dropout changes the run."""
    keys = {f"model.{f.name}" for f in dataclasses.fields(ModelConfig)}
    assert {key for key in keys if is_free(key)} == {"model.remat", "model.attention"}
    assert is_free("mesh.fsdp") and not is_free("train.batch_size")


def test_the_older_name_of_a_key_is_read_and_the_new_one_told(tmp_path, capsys):
    file = tmp_path / "older.py"
    file.write_text(
        "from ml_collections import ConfigDict\n\n\ndef get_config():\n"
        "    return ConfigDict({'data': {'corpus': ('bundled:corpus/brown',), 'slots': 5},\n"
        "                       'objective': {'masked_lm': {}}, 'train': {'steps': 1}})\n"
    )
    assert configs.load(str(file)).data.segments == 5
    assert capsys.readouterr().err == "config.data.slots is named config.data.segments now\n"
    assert configs.load(str(file), {"data.slots": "7"}).data.segments == 7
    assert configs.load(str(file), {"data.segments": "7"}).data.segments == 7
    older = configs.to_values(configs.load(str(file)))
    older["data"]["slots"] = older["data"].pop("segments")
    assert configs.of_checkpoint(older, "runs/older").data.segments == 5
    with pytest.raises(UserError, match="config.data.slots is the older name of config.data.seg"):
        configs.from_values(older | {"data": older["data"] | {"segments": 6}})
