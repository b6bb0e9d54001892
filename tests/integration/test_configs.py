"""Invariant: every config file builds. At its own size as far as no data is needed, and tiny."""

import dataclasses
import json
import re
from pathlib import Path

import jax
import pytest

from research import config as configs
from research.checkpoints import checkpoint
from research.config import file as config_file
from research.data.config import DataConfig, TokenizerConfig
from research.data.sources import SourceConfig
from research.errors import UserError
from research.lab import experiment, search
from research.models import config as model_config
from research.models import params as parameters
from research.objectives import make_objectives
from research.objectives.objective import heads_of
from research.run import corpus
from research.run import run as runs
from research.run.manifest import check_length
from tests import helpers

ROOT = Path(__file__).parents[2]
PRETRAIN = sorted((ROOT / "configs/pretrain").glob("*.py"))
FINETUNE = sorted((ROOT / "configs/finetune").glob("*.py"))
# Of sets that are not there.
TFDS = [f for f in FINETUNE if "tfds:" in f.read_text() or f.stem == "chat"]
LENGTH = 64


def named(files: list[Path]):
    return pytest.mark.parametrize("file", files, ids=[f.stem for f in files])


def test_there_are_config_files():
    assert {"bert", "gpt"} <= {f.stem for f in PRETRAIN}
    assert {"sentiment", "question_answering", "story"} <= {f.stem for f in FINETUNE}


def test_no_tale_is_in_two_splits_of_the_stories():
    config = configs.load(str(ROOT / "configs/finetune/story.py"), {"init_from": "gpt"})
    splits = ("train", "validation", "test")
    read = [corpus.split(config.data, "story", name) for name in splits]
    titles = [[example["title"] for example in split.examples] for split in read]
    assert [len(each) for each in titles] == [43, 5, 6]
    assert len({title for each in titles for title in each}) == 54
    assert titles[1][:2] == ["Cinderella", "Clever Gretel"]  # the same five, whoever asks


def shrunk(values: dict, folder: Path) -> dict:
    """The same run on little text, with short rows and a narrow model."""
    values["data"] |= {"length": LENGTH, "segments": 4, "cache": str(folder / "cache")}
    for split in ("train", "validation", "test"):
        if split in values["data"]:
            values["data"][split] = dict(values["data"][split]) | {"take": 4}
    values["train"] |= {"batch_size": 4}
    if "objective" in values:
        # Documents enough for both splits; the first two sources stand for all.
        sources = [dict(source) | {"take": 12} for source in values["data"]["corpus"][:2]]
        values["data"] |= {"corpus": sources, "held_out_percent": 30.0}
        values["tokenizer"]["vocab_size"] = 800
        shape = {"layers": 2, "width": 16, "heads": 2, "kv_heads": 0, "mlp_width": 32}
        shape["max_positions"] = LENGTH
        values["model"] |= shape
        values["train"]["batch_size"] = 8 * LENGTH
    return values


def builds(values: dict, file: Path) -> runs.Run:
    """Builds a run and traces its train step on its first batch."""
    run = runs.build(configs.from_values(values, file.name), jax.devices()[:1], quiet=True)
    shapes = run.param_shapes
    optimizer = jax.eval_shape(run.optimizer.init, shapes)
    state = runs.State(jax.ShapeDtypeStruct((), "int32"), shapes, optimizer)
    after, metrics = jax.eval_shape(run.train_step, state, run.train.batch(0))
    assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(lambda x: x.shape, state)
    assert {"loss", "gradient_norm"} <= metrics.keys()
    assert run.validation.epoch_batches(0) >= 1 and run.steps >= 1
    assert "parameters: backbone" in runs.describe(run)
    return run


@named(PRETRAIN)
def test_a_pre_training_builds(file, tmp_path):
    own = configs.load(str(file))
    vocab = own.tokenizer.vocab_size
    model = dataclasses.replace(own.model, vocab_size=vocab)
    model_config.check(model)
    check_length(model, own.data.length)
    assert corpus.batch_rows(own.data, own.train, 1, 8) % 8 == 0, "a host of eight devices"
    heads = heads_of(make_objectives(own.objective), model)
    assert parameters.count(parameters.shapes(model, heads), model) > 1e6
    arg = ":size=tiny" if "size=tiny" in file.read_text() else ""
    builds(shrunk(config_file.values(f"{file}{arg}"), tmp_path), file)


@pytest.mark.parametrize("size", ["tiny", "mini", "small", "medium", "base", "large"])
def test_bert_has_all_its_sizes(size):
    found = configs.load(f"{ROOT}/configs/pretrain/bert.py:size={size}")
    assert found.model.preset == f"bert_{size}" and found.objective.next_sentence
    alone = configs.load(f"{ROOT}/configs/pretrain/bert.py:size={size},nsp=false")
    assert alone.objective.next_sentence is None


@pytest.mark.parametrize("size", ["tiny", "mini", "small", "medium", "large", "xl"])
def test_gpt_has_all_its_sizes(size):
    found = configs.load(f"{ROOT}/configs/pretrain/gpt.py:size={size}")
    assert found.model.preset == f"gpt2_{size}" and found.objective.causal_lm


@pytest.mark.parametrize("size", ["135m", "7b", "70b"])
def test_llama_has_all_its_sizes(size):
    found = configs.load(f"{ROOT}/configs/pretrain/llama.py:size={size}")
    assert found.model.preset.endswith(f"_{size}") and found.objective.causal_lm


@pytest.mark.parametrize("file", ["bert.py", "gpt.py"])
def test_an_unknown_size_is_named_with_the_sizes_there_are(file):
    with pytest.raises(UserError) as error:
        configs.load(f"{ROOT}/configs/pretrain/{file}:size=tinny")
    assert "tinny" in str(error.value) and "_tiny'" in str(error.value)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A tiny checkpoint of each family, with a tokenizer of English."""
    folder = tmp_path_factory.mktemp("checkpoints")
    text = DataConfig(
        corpus=(SourceConfig("bundled:corpus/factbook_background", take=40),),
        cache=str(folder / "cache"),
    )
    for kind, tokens in (("bert", "wordpiece"), ("gpt", "byte_bpe")):
        tokenizer = corpus.make_tokenizer(TokenizerConfig(tokens, 600), text)
        run = helpers.run_config(kind, folder, steps=1)
        model = dataclasses.replace(
            run.model, vocab_size=tokenizer.vocab_size, max_positions=LENGTH
        )
        params = helpers.new_params(model, make_objectives(run.objective))
        saved = configs.to_values(dataclasses.replace(run, model=model))
        place = str(folder / kind)
        checkpoint.write_checkpoint(place, 1, params, saved, tokenizer.to_json(), {"data": ""})
    return folder


@named([f for f in FINETUNE if f not in TFDS])
def test_a_fine_tuning_builds_on_the_family_its_header_names(file, checkpoints, tmp_path):
    family = re.search(r"--config.init_from=runs/(bert|gpt)_", file.read_text()).group(1)
    values = config_file.values(str(file)) | {"init_from": str(checkpoints / family)}
    own = configs.from_values(values, file.name)
    values = shrunk(values, tmp_path)
    if own.task.__class__.__name__ == "SpanQAConfig":
        values["task"] |= {"stride": 16}
    if own.task.__class__.__name__ == "TextGenerationConfig":
        values["task"] |= {"overlap": 16, "max_new_tokens": 16}
    run = builds(values, file)
    assert run.task.metric and set(run.heads) <= {run.task.name}
    with pytest.raises(UserError, match=r"config\.\w+\.\w+='checkpoint' takes the"):
        configs.load(str(file))


GLUE = ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"]
METRICS = {"cola": "matthews", "mrpc": "f1", "qqp": "f1", "stsb": "correlation"}


@pytest.mark.parametrize("arg", [*(f"glue.py:task={t}" for t in GLUE), "squad.py:version=1",
                                 "squad.py:version=2"])  # fmt: skip
def test_a_public_benchmark_builds_on_rows_like_its_own(arg, checkpoints, tmp_path):
    file = ROOT / "configs" / "finetune" / arg
    values = config_file.values(str(file)) | {"init_from": str(checkpoints / "bert")}
    own = configs.from_values(values, arg)
    name = arg.partition("=")[2]
    assert all(source.name.startswith("tfds:") for source in (own.data.train, own.data.validation))
    if "squad" in arg:
        answers = {"text": ["cat"], "answer_start": [2]}
        rows = [{"context": "A cat sat.", "question": "Who sat?", "answers": answers}]
        assert own.task.unanswerable == (name == "2")
    else:
        labels = getattr(own.task, "labels", ("0.5", "4.8"))
        pair = {"text_a": "A cat sat.", "text_b": "It sat."}
        texts = {"text": "A cat."} if name in ("cola", "sst2") else pair
        rows = [texts | {"label": label} for label in labels]
    for split in ("train", "validation", "test"):
        if split in values["data"]:
            path = tmp_path / f"{split}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            values["data"][split] = {"name": f"files:{path}"}
    values = shrunk(values, tmp_path)
    if "squad" in arg:
        values["task"] |= {"stride": 16, "max_question": 8}
    run = builds(values, file)
    assert run.task.metric == METRICS.get(name, "f1" if "squad" in arg else "accuracy")
    assert ("test" in values["data"]) == (name == "mnli")


def test_conversations_of_ones_own_build(checkpoints, tmp_path):
    file = ROOT / "configs" / "finetune" / "chat.py"
    values = config_file.values(str(file)) | {"init_from": str(checkpoints / "gpt")}
    path = tmp_path / "talks.jsonl"
    path.write_text('{"instruction": "Name a colour.", "input": "", "output": "Blue."}\n' * 4)
    values["data"] |= {split: {"name": f"files:{path}"} for split in ("train", "validation")}
    values = shrunk(values, tmp_path)
    values["task"] |= {"overlap": 16, "max_new_tokens": 16}
    assert builds(values, file).task.metric == "perplexity"


def test_an_unknown_benchmark_is_named():
    with pytest.raises(UserError, match="task='mrcp' is not known; did you mean 'mrpc'"):
        configs.load(f"{ROOT}/configs/finetune/glue.py:task=mrcp")
    with pytest.raises(UserError, match="version=3 is not known; valid: 1, 2"):
        configs.load(f"{ROOT}/configs/finetune/squad.py:version=3")


FILES = sorted((ROOT / "configs/experiments").glob("*.py"))
EXPERIMENTS = [p.name for p in FILES if "def get_experiment(" in p.read_text()]
EXPERIMENTS += ["objectives.py:size=cpu,seeds=2", "architecture.py:size=base,task_seeds=2"]
EXPERIMENTS += [f"minilm.py:set={name}" for name in ("tweeteval", "wikiann", "xquad")]


def test_the_shipped_search(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert search.load("configs/experiments/sentiment_search.py:trials=3").trials == 3


@pytest.mark.parametrize("spec", EXPERIMENTS)
def test_every_run_of_an_experiment_is_a_config(spec, tmp_path, monkeypatch):
    """A checkpoint that a run starts from outside of the experiment is taken to be there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "research").symlink_to(ROOT / "research")
    loaded = experiment.load(f"configs/experiments/{spec}")
    for run in loaded.runs.values():
        if run.start.startswith("."):
            (tmp_path / run.start).mkdir(parents=True, exist_ok=True)
    found = experiment.jobs(loaded, tmp_path / "runs")
    assert {job.run for job in found} == loaded.runs.keys()
    assert len({job.workdir for job in found}) == len(found)
    assert loaded.table.runs() and set(loaded.table.runs()) <= loaded.runs.keys()
    for column in loaded.table.columns:
        measured = {row[column] for row in loaded.table.rows.values()}
        budgets = {
            (j.config.train, j.config.data, j.config.task) for j in found if j.run in measured
        }
        assert len(budgets) == 1, "all rows have the same data and the same number of steps"
