"""Wrong input: one clear message that names what is wrong, exit code 2, nothing trained."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from research import cli
from research.checkpoints import checkpoint
from research.config import from_values, to_values
from research.data.tokenizer import byte_tokenizer
from research.run.manifest import resolve
from tests import helpers
from tests.integration.conftest import Tiny, write_lines

ROOT = Path(__file__).parents[2]
GOOD = {"text": "Nam ite.", "label": "good"}


def refused(capsys, *arguments: str) -> str:
    """The message of arguments that end with exit code 2."""
    capsys.readouterr()
    code = cli.main(list(arguments))
    error = capsys.readouterr().err
    message = error[error.index("error: ") :] if "error: " in error else error
    assert code == 2, f"exit code {code}: {error}"
    assert message.startswith("error: ") and "Traceback" not in error
    assert len(message.strip().splitlines()) <= 12, message
    return message


def assert_names(message: str, names: list[str]) -> None:
    missing = [name for name in names if name not in message]
    assert not missing, f"{missing} is not in: {message}"


@pytest.mark.parametrize(
    "arguments,names",
    [
        (["trian"], ["'trian'", "did you mean 'train'?", "predict"]),
        (["predict", "--chekpoint=x"], ["--chekpoint", "did you mean 'checkpoint'?"]),
        (["predict", "checkpoint=x"], ["'checkpoint=x'", "--checkpoint=x"]),
        (["predict", "--checkpoint"], ["--checkpoint needs a value"]),
        (["predict", "--text=a"], ["--checkpoint is missing"]),
        (["generate", "--checkpoint=a", "--config.seed=1"], ["--config.seed"]),
        (["train", "--config=configs/pretrain/brt.py", "--workdir=w"], ["brt.py", "bert.py'?"]),
        (["train", "--config=configs/pretrain/bert.py"], ["--workdir is missing"]),
        (["train", "--config=configs/pretrain/bert.py", "--workdir="], ["--workdir='' is empty"]),
        (
            ["train", "--config=configs/pretrain/bert.py:siez=tiny", "--workdir=w"],
            ["'siez'", "did you mean 'size'?"],
        ),
        (
            ["train", "--config=configs/pretrain/bert.py:size=huge", "--workdir=w"],
            ["bert_huge", "bert_large"],
        ),
        (
            ["train", "--config=configs/pretrain/bert.py:nsp=maybe", "--workdir=w"],
            ["nsp", "true or false", "'maybe'"],
        ),
        (["data", "--config=configs/pretrain/bert.py:size=tiny", "--rows=x"], ["--rows=x"]),
        (["experiment", "--config=configs/experiments/quikstart.py"], ["quickstart.py'?"]),
    ],
    ids=lambda value: " ".join(value)[:40] if value and "-" in value[-1] else "",
)
def test_of_the_command_line(capsys, tmp_path, monkeypatch, arguments, names):
    assert_names(refused(capsys, *arguments), names)
    assert not Path("w").exists()


OVERRIDES: list[tuple[str, dict[str, str], list[str]]] = [
    ("bert", {"train.stpes": "3"}, ["config.train.stpes", "did you mean 'steps'?"]),
    ("bert", {"trian.steps": "3"}, ["config.trian", "did you mean 'train'?"]),
    ("bert", {"train.steps": "few"}, ["config.train.steps", "whole number", "'few'"]),
    ("bert", {"train.steps": "2.5"}, ["config.train.steps", "whole number", "2.5"]),
    ("bert", {"train.steps": "0"}, ["config.train.steps=0", "epochs"]),
    ("bert", {"optimizer.learning_rate": "fast"}, ["config.optimizer.learning_rate", "'fast'"]),
    ("bert", {"optimizer.learning_rate": "-1"}, ["config.optimizer.learning_rate=-1"]),
    ("bert", {"optimizer.name": "adamv"}, ["config.optimizer.name", "did you mean 'adamw'?"]),
    ("bert", {"model.heads": "3"}, ["model.heads=3", "model.width=16", "2, 4"]),
    ("bert", {"model.kv_heads": "-1"}, ["model.kv_heads=-1"]),
    ("bert", {"model.pooler": "false"}, ["config.objective.next_sentence", "config.model.pooler"]),
    ("bert", {"optimizer.clip": "-1"}, ["config.optimizer.clip=-1"]),
    ("bert", {"data.cache": "/proc/none"}, ["/proc/none"]),
    ("sentiment", {"task.dropout": "2"}, ["config.task.dropout=2"]),
    ("sentiment", {"task.pooling": "men"}, ["config.task.pooling", "did you mean 'mean'?"]),
    ("bert", {"model.width": "wide"}, ["config.model.width", "'wide'"]),
    ("bert", {"model": "big"}, ["config.model", "'big'"]),
    ("bert", {"objective": "masked_lm"}, ["config.objective", "'masked_lm'"]),
    ("bert", {"objective.causal_lm.chunk": "8"}, ["causal_lm", "masked_lm"]),
    ("bert", {"task": "span_qa"}, ["config.task", "'span_qa'"]),
    ("bert", {"task.name": "span_aq"}, ["'span_aq'", "did you mean 'span_qa'?"]),
    ("sentiment", {"task.lables": "[]"}, ["config.task.lables", "did you mean 'labels'?"]),
    ("sentiment", {"task.labels": "['good', 'bad']"}, ["'plain'", "config.task.labels"]),
    ("sentiment", {"data.train": "files:/no/such.jsonl"}, ["/no/such.jsonl"]),
    ("sentiment", {"data.train": "bundled:sentiment/customer_review_train"}, ["did you mean"]),
    ("sentiment", {"data.train": "flies:x.jsonl"}, ["flies", "did you mean 'files'?"]),
    ("bert", {"train.batch_size": "384"}, ["config.train.batch_size=384", "8 devices", "768"]),
    ("bert", {"train.batch_size": "100"}, ["config.train.batch_size=100", "48"]),
    ("bert", {"mesh.tensor": "3"}, ["tensor=3", "8"]),
    ("bert", {"data.length": "96"}, ["config.data.length=96", "48 positions"]),
    ("bert", {"data.corpus": "bundled:corpus/brown"}, ["config.data.corpus", "a list"]),
    ("bert", {"data.weights": "[1, 1]"}, ["config.data.weights", "2 numbers for 1 sources"]),
    ("bert", {"data.weights": "[0]"}, ["config.data.weights[0]=0 must be above 0", "source out"]),
    ("bert", {"data.weights": "[-1]"}, ["config.data.weights[0]=-1"]),
    ("bert", {"data.weights": "[1e999]"}, ["config.data.weights[0]=inf"]),
    ("sentiment", {"data.weights": "[1]"}, ["config.data.weights", "pre-training"]),
    ("bert", {"data.held_out_percent": "0"}, ["config.data.held_out_percent"]),
    ("bert", {"tokenizer.kind": "file", "tokenizer.path": "/no/vocab.txt"}, ["/no/vocab.txt"]),
    ("bert", {"tokenizer.kind": "bytes"}, ["cls", "[CLS]"]),
    ("bert", {"tokenizer.kind": "checkpoint"}, ["config.tokenizer.kind", "init_from"]),
    ("bert", {"tokenizer.vocab_size": "10"}, ["vocab_size 10"]),
    ("bert", {"init_from": "/no/such/run"}, ["/no/such/run", "no checkpoint"]),
    ("bert", {"init": "fresh"}, ["config.init", "config.init_from"]),
]


@pytest.mark.parametrize(
    "kind,overrides,names", OVERRIDES, ids=[f"{k}-{'-'.join(o)}-{i}" for i, (k, o, _) in
                                           enumerate(OVERRIDES)],
)  # fmt: skip
def test_of_the_config(tiny, capsys, tmp_path, kind, overrides, names):
    workdir = tmp_path / "run"
    flags = [f"--config.{key}={value}" for key, value in overrides.items()]
    assert_names(train(capsys, tiny(kind).config, workdir, *flags), names)
    assert not (workdir / "metrics.jsonl").exists()


def train(capsys, config: str, workdir: Path | str, *flags: str) -> str:
    return refused(capsys, "train", f"--config={config}", f"--workdir={workdir}", *flags)


@pytest.mark.parametrize(
    "text,names",
    [
        ("import jax_typo\n", ["line 1", "jax_typo"]),
        ("def get_config(arg=''):\n    return {}[arg]\n", ["line 2", "KeyError"]),
        ("def get_config(arg=''):\n    return 1 +\n", ["line 2"]),
        ("def get_config(arg=''):\n    return 5\n", ["get_config", "ConfigDict", "int"]),
        ("x = 1\n", ["get_config"]),
        ("def get_config(arg=''):\n    return {}\n", ["objective", "task"]),
    ],
)
def test_of_a_config_file(capsys, tmp_path, text, names):
    (tmp_path / "mine.py").write_text(text)
    message = train(capsys, str(tmp_path / "mine.py"), tmp_path / "run")
    assert_names(message, ["mine.py", *names])


@pytest.mark.parametrize(
    "rows,names",
    [
        ([GOOD, '{"text": "Nam'], ["line 2", "not JSON"]),
        ([GOOD, "[1]"], ["line 2", "list"]),
        ([GOOD, {"text": "Nam"}], ["line 2", "'label'", "text"]),
        ([GOOD, GOOD | {"text": 7}], ["line 2", "'text'", "7"]),
        ([GOOD, GOOD | {"label": "godo"}], ["'godo'", "did you mean 'good'?"]),
        ([], ["is empty"]),
    ],
)
def test_of_a_data_file(tiny, capsys, tmp_path, rows, names):
    file = write_lines(tmp_path / "mine.jsonl", rows)
    for verb, split in (("train", "train"), ("data", "train"), ("train", "validation")):
        flags = [f"--config={tiny('sentiment').config}", f"--config.data.{split}=files:{file}"]
        more = [f"--workdir={tmp_path / 'run'}"] if verb == "train" else []
        message = refused(capsys, verb, *flags, *more)
        assert_names(message, [file, *names])


def test_of_an_answer_that_is_not_in_its_context(tiny, capsys, tmp_path):
    row = {"id": "a", "title": "", "question": "Sen?", "context": "Nam ite sen."}
    good = row | {"answers": {"text": ["ite"], "answer_start": [4]}}
    bad = row | {"answers": {"text": ["ite"], "answer_start": [5]}}
    file = write_lines(tmp_path / "mine.jsonl", [good, bad])
    flags = [f"--config.data.train=files:{file}"]
    message = train(capsys, tiny("answers").config, tmp_path / "run", *flags)
    assert_names(message, [file, "line 2", "answer_start 5", "'ite'"])


def checkpoint_without_backbone(tiny: Callable[[str], Tiny], folder: Path) -> None:
    manifest = resolve(from_values(tiny("bert").values))
    params = {"heads": {"masked_lm": {"bias": helpers.np.zeros(3, helpers.np.float32)}}}
    values, tokenizer = to_values(manifest.config), manifest.tokenizer.to_json()
    checkpoint.write_checkpoint(str(folder), 1, params, values, tokenizer, {})


def test_of_a_checkpoint_to_start_from(tiny, capsys, tmp_path):
    bert, sentiment = tiny("bert"), tiny("sentiment").config
    (tmp_path / "empty").mkdir()
    checkpoint_without_backbone(tiny, tmp_path / "headless")
    (tmp_path / "tokenizer.json").write_text(byte_tokenizer().to_json())
    restore = f"--config.init_from={bert.checkpoint}"
    vocabulary = [f"--config.tokenizer.path={tmp_path}", "--config.tokenizer.kind=file"]
    for flags, names in (
        ([f"--config.init_from={tmp_path / 'empty'}"], ["no checkpoint", "empty"]),
        ([restore, "--config.model.layers=3"], ["model.layers: 2", "3 here"]),
        ([restore, "--config.model.max_positions=64"], ["model.max_positions", "48", "64"]),
        ([restore, *vocabulary], ["258 entries", "180 rows", bert.checkpoint]),
        ([f"--config.init_from={tmp_path / 'headless'}"], ["headless", "no backbone"]),
    ):
        assert_names(train(capsys, sentiment, tmp_path / "run", *flags), names)
    message = refused(capsys, "predict", f"--checkpoint={tmp_path / 'headless'}", "--text=a")
    assert_names(message, ["headless", "no backbone"])


def test_of_a_resumption(tiny, capsys, tmp_path):
    bert = tiny("bert")
    other = helpers.write_corpus(tmp_path / "other.jsonl", 60, seed=1)
    for flags, names in (
        (["--config.train.batch_size=1536"], ["config.train.batch_size: 768 then, 1536 now"]),
        (["--config.optimizer.schedule=cosine"], ["config.optimizer.schedule", "'cosine' now"]),
        ([f"--config.data.corpus=['{other}']"], ["config.data.corpus", other]),
    ):
        message = train(capsys, bert.config, bert.checkpoint, *flags)
        assert_names(message, [bert.checkpoint, *names])
    # The same names with another content: the data have changed.
    corpus = Path(bert.values["data"]["corpus"][0].removeprefix("files:"))
    before = corpus.read_text()
    try:
        corpus.write_text(before.replace("id", "id", 1) + '{"id": "new", "text": "Nam ite."}\n')
        assert_names(train(capsys, bert.config, bert.checkpoint), ["the data", "has changed"])
    finally:
        corpus.write_text(before)


def test_of_a_workdir_or_an_output(tiny, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    message = train(capsys, tiny("bert").config, tmp_path / "file")
    assert_names(message, [str(tmp_path / "file")])
    run, good = tiny("sentiment").checkpoint, write_lines(tmp_path / "in.jsonl", [GOOD])
    for verb, flags in (
        ("predict", [f"--input={good}", f"--output={tmp_path}/no/out.jsonl"]),
        ("evaluate", [f"--output={tmp_path}"]),
    ):
        message = refused(capsys, verb, f"--checkpoint={run}", *flags)
        assert_names(message, ["cannot write", str(tmp_path)])


@pytest.mark.parametrize(
    "kind,flags,names",
    [
        ("sentiment", ["--question=a"], ["--question", "sequence_classification", '--text="…"']),
        ("sentiment", [], ["nothing to predict", "--text_b"]),
        ("sentiment", ["--text=a", "--context=b"], ["--context"]),
        ("sentiment", ["--text=a", "--input=b"], ["--input", "--text", "not both"]),
        ("sentiment", ["--input=/no/file.jsonl"], ["/no/file.jsonl"]),
        ("bert", ["--text=Nam ite."], ["no [MASK]"]),
        ("bert", ["--text_a=Nam ite."], ["--text_a", "--text_b"]),
        ("bert", [f"--text={'Nam ' * 100}[MASK]"], ["46", "tokens"]),
        ("gpt", ["--text_a=a", "--text_b=b"], ["--text_a", "causal_lm", "next tokens"]),
        ("answers", ["--text=a"], ["--text", "--question", "--context"]),
        ("document", ["--question=a"], ["--question", "--context"]),
    ],
)
def test_of_what_is_to_be_predicted(tiny, capsys, kind, flags, names):
    message = refused(capsys, "predict", f"--checkpoint={tiny(kind).checkpoint}", *flags)
    assert_names(message, names)


@pytest.mark.parametrize(
    "line,names",
    [
        ('{"text": "Nam"', ["not JSON"]),
        ('{"txt": "Nam"}', ["txt", "text_a"]),
        ('{"text": ["Nam"]}', ["'text'", "Nam"]),
    ],
)
def test_of_a_line_to_be_predicted(tiny, capsys, tmp_path, line, names):
    file, out = write_lines(tmp_path / "in.jsonl", [GOOD, line]), tmp_path / "out.jsonl"
    run = tiny("sentiment").checkpoint
    message = refused(
        capsys, "predict", f"--checkpoint={run}", f"--input={file}", f"--output={out}"
    )
    assert_names(message, [f"{file}, line 2", *names])
    assert not out.exists()


@pytest.mark.parametrize(
    "kind,flags,names",
    [
        ("bert", ["--split=tset"], ["'tset'", "did you mean 'test'?"]),
        ("bert", ["--split=test"], ["validation"]),
        ("bert", ["--output=x"], ["--output", "predict"]),
        ("sentiment", ["--split=test"], ["config.data.test"]),
        ("sentiment", ["--config.model.width=3"], ["config.model.width", "config.data"]),
        ("sentiment", ["--config.data.lenght=3"], ["did you mean 'length'?"]),
        ("sentiment", ["--config.data.length=64"], ["config.data.length=64", "48 positions"]),
    ],
)
def test_of_what_is_to_be_evaluated(tiny, capsys, kind, flags, names):
    message = refused(capsys, "evaluate", f"--checkpoint={tiny(kind).checkpoint}", *flags)
    assert_names(message, names)


def test_of_a_checkpoint_that_is_none(capsys, tmp_path):
    (tmp_path / "notes.txt").write_text("")
    for verb, flags in (
        ("evaluate", []), ("predict", ["--text=a"]), ("generate", ["--prompt=a"])
    ):  # fmt: skip
        for path, names in ((tmp_path, ["notes.txt"]), (tmp_path / "gone", ["no such folder"])):
            message = refused(capsys, verb, f"--checkpoint={path}", *flags)
            assert_names(message, ["no checkpoint", str(path), *names])


@pytest.mark.smoke
@pytest.mark.parametrize(
    "arguments,name",
    [
        (["train", "--config=configs/pretrain/bert.py", "--workdir=w", "--config.sede=3"], "sede"),
        (["data", "--confg=configs/pretrain/bert.py"], "--confg"),
        (["evaluate", "--chekpoint=/no/such"], "--chekpoint"),
        (["predict", "--checkpoint=/no/such", "--txt=a"], "--txt"),
        (["generate", "--checkpoint=/no/such"], "--prompt"),
        (["experiment", "--workdir=w"], "--config"),
        (["evalute"], "evalute"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_as_a_command(arguments, name):
    done = subprocess.run(
        [sys.executable, "launch.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2 and name in done.stderr and done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) <= 12 and not done.stdout


@pytest.mark.parametrize(
    "error,names",
    [
        (RuntimeError("Unable to initialize backend 'tpu': in use\nmore"), ["'tpu': in use"]),
        (AssertionError(), ["JAX_PLATFORMS=cuda"]),
    ],
)
def test_without_a_device(tiny, capsys, monkeypatch, error, names):
    def devices():
        raise error

    config = tiny("bert").config
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr("jax.devices", devices)
    assert_names(refused(capsys, "data", f"--config={config}"), ["no device", *names])


@pytest.mark.parametrize("shard", ["3/2", "2/2", "x", "1", "-1/2", "0/0", ""])
def test_of_a_shard(tiny, capsys, shard):
    message = refused(capsys, "data", f"--config={tiny('bert').config}", f"--shard={shard}")
    assert_names(message, [f"--shard={shard} must be I/N", "--shard=0/2"])


def test_of_what_makes_a_store(tiny, capsys):
    for kind, flags, names in (
        ("bert", ["--shard=0/2", "--rows=2"], ["--rows, --shard and --beam"]),
        ("sentiment", ["--shard=0/2"], ["--shard", "a task has examples"]),
    ):
        message = refused(capsys, "data", f"--config={tiny(kind).config}", *flags)
        assert_names(message, names)
