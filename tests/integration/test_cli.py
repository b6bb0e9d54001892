"""The verbs of the command line on tiny runs, in this process on eight devices and as commands."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import loader, train_step
from research import cli
from research.config import from_values
from research.errors import UserError
from research.evaluation import predictor
from research.run import run as runs
from research.run.loaded import load_model
from tests import helpers

ROOT = Path(__file__).parents[2]
CONTEXT = "Nam katora mol. Ite sen katora lar tin."
ASKED: dict[str, list[tuple[dict[str, str], str]]] = {
    "bert": [
        ({"text": "Nam [MASK] mol [MASK]."}, r"→ (\S+ \d+\.\d%(, |; |$)){10}"),
        ({"text_a": "Nam ite mol.", "text_b": "Sen lar."}, r"→ next sentence with \d+\.\d%"),
    ],
    "gpt": [({"text": "Nam ite"}, r"Nam ite → (\S+ \d+\.\d%(, |$)){5}")],
    "sentiment": [
        (
            {"text": "Nam ite mol."},
            r"→ (good|bad|plain) \(\d+%\)\n  good .*\n  bad .*\n  plain .*%",
        ),
        ({"text_a": "Nam ite.", "text_b": "Sen mol."}, r"Nam ite. / Sen mol. → (good|bad|plain)"),
    ],
    "entities": [
        ({"text": "Nam katora, ite sen"}, r" → no entity$|\[[\w, ]+\|LOC 0\.\d\d\]"),
        ({"tokens": "Nam katora ite sen"}, r" → no entity$|\[[\w ]+\|LOC 0\.\d\d\]"),
    ],
    "answers": [
        (
            {"question": "Sen mol?", "context": CONTEXT},
            r"Sen mol\? → .+ \(\d+%\)(\n +\d.*%  .+){5}$",
        )
    ],
    "story": [({"title": "Mol", "text": "Nam ite ale"}, r"Mol\s+Nam ite ale → \S")],
    "document": [({"question": "Sen mol?", "context": CONTEXT}, r"Sen mol\? → ")],
}
CASES = [
    pytest.param(kind, flags, pattern, id=f"{kind}-{'-'.join(flags)}")
    for kind, asked in ASKED.items()
    for flags, pattern in asked
]


def call(*arguments: str) -> None:
    assert cli.main(list(arguments)) == 0


def start(*arguments: str) -> subprocess.Popen:
    """A command as it is typed by hand: one device."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=helpers.child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("kind,flags,pattern", CASES)
def test_every_checkpoint_predicts(tiny, capsys, kind, flags, pattern):
    call(
        "predict",
        f"--checkpoint={tiny(kind).checkpoint}",
        *(f"--{k}={v}" for k, v in flags.items()),
    )
    assert re.search(pattern, capsys.readouterr().out.strip()), pattern


@pytest.mark.parametrize("kind", ASKED)
def test_a_file_gives_what_its_lines_give_one_by_one(tiny, tmp_path, kind):
    """Whatever the order, the lengths and what else is in the file; of all forms at once."""
    checkpoint = tiny(kind).checkpoint
    rows = []
    for i in range(3):
        for flags, _ in ASKED[kind]:
            fields = {k: f"{v} {'Nam ite sen. ' * (i % 2)}".strip() for k, v in flags.items()}
            if "tokens" in fields:
                fields["tokens"] = fields["tokens"].split()
            rows.append({"id": f"{kind}{len(rows)}", "unused": 1} | fields)
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out.jsonl"
    call(
        "predict",
        f"--checkpoint={checkpoint}",
        f"--input={tmp_path / 'in.jsonl'}",
        f"--output={out}",
    )
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line.pop("id") for line in found] == [row["id"] for row in rows]
    loaded = load_model(checkpoint)
    last = len(ASKED[kind])
    if kind == "story":  # draws are keyed by the place in the file
        assert all(line["text"] for line in found)
        assert found[0]["text"] == predictor.predict(loaded, rows[:1])[0]["text"]
        return
    for row, prediction in zip(rows[-last:], found[-last:], strict=True):
        assert flat(predictor.predict(loaded, [row])[0]) == flat(prediction)


def flat(prediction: object) -> list:
    """The values of a prediction, numbers to be compared up to rounding."""
    if isinstance(prediction, dict):
        return [x for value in prediction.values() for x in flat(value)]
    if isinstance(prediction, list):
        return [x for value in prediction for x in flat(value)]
    return [pytest.approx(prediction, abs=1e-4) if isinstance(prediction, float) else prediction]


def test_predictions_without_an_output_file_are_lines_of_json(tiny, tmp_path, capsys):
    (tmp_path / "in.jsonl").write_text('{"text": "Nam ite."}\n\n{"text": "Sen."}\n')
    call("predict", f"--checkpoint={tiny('sentiment').checkpoint}", f"--input={tmp_path}/in.jsonl")
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["id"] for line in found] == ["in.jsonl:1", "in.jsonl:3"]
    assert all(set(line["probabilities"]) == {"good", "bad", "plain"} for line in found)


def test_fillings_are_the_most_probable_first(tiny):
    loaded = load_model(tiny("bert").checkpoint)
    one, both = ({"text": f"Nam [MASK] ite{more}"} for more in ("", " [MASK] mol"))
    masks = [p["masks"] for p in predictor.predict(loaded, [one, both])]
    assert [len(m) for m in masks] == [1, 2]
    for choices in (choices for m in masks for choices in m):
        shares = [c["probability"] for c in choices]
        assert len(shares) == 5 and shares == sorted(shares, reverse=True) and sum(shares) <= 1


def test_evaluate_repeats_the_losses_of_the_training(tiny, capsys):
    run = tiny("bert")
    lines = (Path(run.checkpoint) / "metrics.jsonl").read_text().splitlines()
    last = {}
    for line in lines:
        last |= json.loads(line)
    trained = {k.removeprefix("validation/"): v for k, v in last.items() if "validation/" in k}
    call("evaluate", f"--checkpoint={run.checkpoint}", "--config.train.batch_size=384")
    written = json.loads((Path(run.checkpoint) / "evaluation_validation.json").read_text())
    assert trained and written["metrics"] == pytest.approx(trained, rel=1e-5)
    assert written["step"] == 2 and written["config"] == {"train.batch_size": "384"}
    shown = capsys.readouterr().out
    assert all(name in shown for name in trained)


def test_evaluate_measures_each_source_of_a_corpus_alone(tiny, tmp_path, capsys):
    """One of them has a sentence in each document, so no pair of them."""
    run = tiny("bert")
    lines = [json.dumps({"text": f"Nam ite {n} mol."}) for n in range(30)]
    (tmp_path / "short.jsonl").write_text("\n".join(lines))
    own = run.values["data"]["corpus"][0]
    corpora = json.dumps([own, f"files:{tmp_path}/short.jsonl"])
    call("evaluate", f"--checkpoint={run.checkpoint}", f"--config.data.corpus={corpora}",
         f"--config.data.cache={tmp_path}/cache")  # fmt: skip
    written = json.loads((Path(run.checkpoint) / "evaluation_validation.json").read_text())
    (long, first), (short, second) = written["sources"].items()
    assert first.keys() == written["metrics"].keys()
    assert set(second) == {"masked_loss", "masked_perplexity", "masked_accuracy"}
    losses = [m["masked_loss"] for m in (first, written["metrics"], second)]
    assert losses == sorted(losses) or losses == sorted(losses, reverse=True)
    row = next(line for line in reversed(capsys.readouterr().out.splitlines()) if short in line)
    assert row.split()[-1] == "-" and long != short


@pytest.mark.parametrize("kind", ["sentiment", "entities", "answers", "story", "document"])
def test_evaluate_scores_the_predictions_that_it_writes(tiny, tmp_path, kind):
    run, out = tiny(kind), tmp_path / "predictions.jsonl"
    source = run.values["data"]["validation"]
    call("evaluate", f"--checkpoint={run.checkpoint}", "--split=test", f"--output={out}",
         f"--config.data.test={source}")  # fmt: skip
    rows = [json.loads(x) for x in Path(source.removeprefix("files:")).read_text().splitlines()]
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["id"] for line in found] == [row["id"] for row in rows]
    written = json.loads((Path(run.checkpoint) / "evaluation_test.json").read_text())
    assert written["examples"] == len(rows)
    task = load_model(run.checkpoint).task
    assert task.metric in written["metrics"]
    if kind == "sentiment":
        right = [line["label"] == row["label"] for line, row in zip(found, rows, strict=True)]
        assert written["metrics"]["accuracy"] == sum(right) / len(right)


def test_data_shows_masks_segments_and_labels(tiny, capsys):
    call("data", f"--config={tiny('bert').config}:size=tiny", "--rows=2")
    shown = capsys.readouterr().out
    documents = [int(n) for n in re.findall(r"(?:train|validation): (\d+) documents", shown)]
    assert len(documents) == 2 and sum(documents) == 30
    assert len(re.findall(r"^row \d+: \d+ of 48 tokens", shown, re.MULTILINE)) == 2
    assert "⟨[MASK] → " in shown and "[CLS]" in shown and "[SEP]" in shown
    assert re.search(r"segment 1, tokens 0 to \d+: B is (random|what follows A)", shown)
    assert re.search(r"\d+\.\d% real tokens; a row has \d\.\d segments, \d+\.\d predicted", shown)
    assert "wordpiece, 180 entries" in shown and "tokens per word" in shown and "█" in shown


@pytest.mark.parametrize(
    "kind,marks",
    [
        ("gpt", ["<|endoftext|>", "documents"]),
        ("sentiment", ["good ", "[CLS]", "60 examples in 60 segments"]),
        ("entities", [" B-LOC⟩", " I-LOC⟩", "3 examples"]),
        ("answers", ["[CLS] Sen mol", "Nam ⟦ ", " ⟧ mol"]),
        ("story", ["⟦ ", "Mol Nam ite"]),
        ("document", ["Question: Sen mol? Answer: ⟦ ", " ⟧"]),
    ],
)
def test_data_shows_every_kind(tiny, capsys, kind, marks):
    call("data", f"--config={tiny(kind).config}")
    shown = capsys.readouterr().out
    assert all(mark in shown for mark in marks), shown
    assert len(re.findall(r"^row \d+: ", shown, re.MULTILINE)) >= 1


def test_data_compares_what_is_measured_with_what_the_start_has_read(tiny, capsys):
    start, config = tiny("bert").checkpoint, tiny("sentiment").config
    flags = ["--config.model.preset=checkpoint", "--config.tokenizer.kind=checkpoint"]
    call("data", f"--config={config}", f"--config.init_from={start}", *flags, "--rows=0")
    shown = capsys.readouterr().out
    assert re.search(
        rf"\n  validation and what {start} has read: \d+\.\d\d % of the examples", shown
    )
    assert "not compared" not in shown


def test_a_store_is_made_in_shards_and_then_read(tiny, tmp_path, capsys):
    config, cache = f"--config={tiny('bert').config}", f"--config.data.cache={tmp_path}"
    call("data", config, cache, "--shard=1/2")
    assert "1 of 1 blocks are left to the other shards" in capsys.readouterr().out
    workdir = f"--workdir={tmp_path / 'run'}"
    assert cli.main(["train", config, cache, workdir]) == 2
    assert re.search(r"lacks 1 blocks in .*: 0; .* I/N = 0/2;", capsys.readouterr().err)
    call("data", config, cache, "--shard=0/2")
    assert len(re.findall("whole: 1 blocks", capsys.readouterr().out)) == 2
    call("data", config, cache, "--rows=1")


def test_sources_are_mixed_by_weight(tiny, tmp_path, capsys):
    run = tiny("bert")
    sources = [run.values["data"]["corpus"][0], helpers.write_corpus(tmp_path / "b.jsonl", 30, 3)]
    flags = [f"--config.data.corpus={sources}", "--config.data.weights=[3, 1]"]
    call("data", f"--config={run.config}", *flags, "--rows=1")
    shown = capsys.readouterr().out
    for source, share in zip(sources, ("75.00%", "25.00%"), strict=True):
        assert f"train, {share} of the rows from {source}: " in shown
        assert f"rows of 48 tokens from {source}: " in shown
    call("train", f"--config={run.config}", *flags, f"--workdir={tmp_path / 'run'}")
    assert (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.long
def test_the_benchmark_reads_stores_and_leaves_none(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loader, "BATCHES", 5)
    assert loader.run("0.01,0.03", str(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [int(line.split()[1]) for line in lines] == [2, 6]
    assert not list(tmp_path.iterdir())
    for wrong in ("x", "0", "1e9"):
        with pytest.raises(UserError, match="--gigabytes="):
            loader.run(wrong, str(tmp_path))


def test_the_benchmark_measures_a_step(tiny, capsys, monkeypatch):
    monkeypatch.setattr(train_step, "LEAST_SECONDS", 0.05)
    arguments = [f"--config={tiny('gpt').config}", "--repeats=1"]
    assert cli.execute("train_step", train_step.VERB, arguments) == 0
    shown = capsys.readouterr().out
    assert re.search(r"speed +[\d,]+ tokens/s", shown) and re.search(r"MFU +\d+\.\d%", shown)
    assert "synthetic data" in shown and re.search(r"step [\d,]+ MiB per device", shown)


@pytest.mark.parametrize("kind", ["bert", "gpt"])
def test_synthetic_rows_are_laid_out_like_real_ones(tiny, kind):
    loaded = from_values(tiny(kind).values)
    real = runs.build(loaded, quiet=True).train.batch(0)
    made = train_step.synthetic_run(loaded).train.batch(0)
    assert {k: (v.shape, v.dtype) for k, v in made.items()} == {
        k: (v.shape, v.dtype) for k, v in real.items()
    }


def test_help_lists_every_verb_with_its_flags(capsys):
    call("help")
    shown = capsys.readouterr().out
    for name, verb in cli.VERBS.items():
        assert f"  {name}\n" in shown
        assert all(f"--{flag}" in shown for flag in (*verb.required, *verb.optional))
    call("train", "--help")
    shown = capsys.readouterr().out
    assert "--workdir=…" in shown and "--checkpoint" not in shown


@pytest.mark.parametrize("name", cli.VERBS)
def test_help_of_a_verb_says_what_its_flags_mean(name, capsys):
    call(name, "--help")
    shown = capsys.readouterr().out
    verb = cli.VERBS[name]
    joined = re.sub(r"\n {8,}", " ", shown)  # a long one takes several lines
    for name, flag in verb.flags.items():
        line = rf"^  .*--{name}\b.*  {re.escape(flag.meaning)}$"
        assert re.search(line, joined, re.MULTILINE), name
    assert max(map(len, shown.splitlines())) <= 120


@pytest.mark.smoke
def test_each_verb_as_a_command(tiny, tmp_path):
    """All at once, since most of the time is Python's start."""
    (tmp_path / "one.py").write_text(
        "from research.lab.experiment import Experiment, Run\n\n\n"
        "def get_experiment():\n"
        f"    return Experiment('one', {{'first': Run({tiny('gpt').config!r})}})\n"
    )
    gpt, sentiment = tiny("gpt").checkpoint, tiny("sentiment")
    expected = {
        "help": ([], "--workdir=…"),
        "predict": ([f"--checkpoint={sentiment.checkpoint}", "--text=Nam ite."], "Nam ite. → "),
        "generate": ([f"--checkpoint={gpt}", "--prompt=Nam", "--max_tokens=4"], "Nam"),
        "evaluate": ([f"--checkpoint={gpt}/checkpoints/2"], "perplexity"),
        "data": ([f"--config={sentiment.config}", "--rows", "1"], "row 0: "),
        "experiment": ([f"--config={tmp_path / 'one.py'}", "--dry_run"], "first"),
    }
    started = {verb: start("launch.py", verb, *flags) for verb, (flags, _) in expected.items()}
    for verb, process in started.items():
        out, error = process.communicate(timeout=300)
        assert process.returncode == 0 and "Traceback" not in error, error
        assert expected[verb][1] in out


def test_a_python_without_the_packages_says_where_they_are():
    command = [sys.executable, "-S", "launch.py", "data", "--config=configs/pretrain/bert.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "is not installed for" in done.stderr and ".venv/bin/python" in done.stderr


def test_a_dry_run_shows_what_only_chooses(capsys):
    line = ["experiment", "--config=configs/experiments/quickstart.py", "--dry_run"]
    assert cli.main([*line, "--only=story-seed0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    runs = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert lines[0] == "runs/quickstart" and runs == ["run", "story-seed0", "to run"]
    assert cli.main([*line, "--only=storry"]) == 2
    assert "fits no run; did you mean 'story'" in capsys.readouterr().err


def test_a_config_of_the_other_kind_says_what_it_is_for(capsys):
    train = ["train", "--config=configs/experiments/quickstart.py", "--workdir=x"]
    assert cli.main(train) == 2
    assert "which is for `launch.py experiment`" in capsys.readouterr().err
    assert cli.main(["experiment", "--config=configs/pretrain/bert.py"]) == 2
    assert "which is for `launch.py train`" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's setting")
@pytest.mark.parametrize("given,seen", [(None, "glibc.malloc.hugetlb=1"), ("", "")])
def test_a_command_runs_on_huge_pages_unless_told_otherwise(tmp_path, given, seen):
    (tmp_path / "shown.py").write_text(
        "import os, sys\nfrom research import huge_pages\nhuge_pages.use()\n"
        "print(repr(os.environ['GLIBC_TUNABLES']), sys.argv[1:])\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    environment |= {"PYTHONPATH": str(ROOT)} | ({} if given is None else {"GLIBC_TUNABLES": given})
    command = [sys.executable, str(tmp_path / "shown.py"), "--a=b c"]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout == f"{seen!r} ['--a=b c']\n"


@pytest.mark.smoke
def test_ctrl_c_saves_and_the_line_it_prints_goes_on(tiny, tmp_path):
    run = tiny("bert")
    workdir = tmp_path / "run"
    flags = ["--config.train.steps=100000", "--config.train.accumulation=1"]
    line = [f"--config={run.config}", f"--workdir={workdir}", *flags]
    steps = []
    arguments = ["launch.py", "train", *line]
    for _ in range(2):
        out = interrupted(arguments, workdir / "metrics.jsonl")
        stopped = int(re.search(r"stopped at step ([\d,]+)", out).group(1).replace(",", ""))
        assert (workdir / "checkpoints" / str(stopped)).is_dir()
        steps.append(stopped)
        again = shlex.split(out.strip().splitlines()[-1])
        assert again[:3] == ["python", "launch.py", "train"]
        arguments = again[1:]
    assert f"resuming {workdir}/checkpoints at step {steps[0]}" in out and steps[1] > steps[0]
    logged = [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").open()]
    assert logged == list(range(1, steps[1] + 1))


def interrupted(arguments: list[str], metrics: Path) -> str:
    """What a training prints that gets Ctrl-C after it has written to `metrics`."""
    before = metrics.stat().st_size if metrics.exists() else 0
    process = start(*arguments)
    try:
        until = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < until:
            if metrics.exists() and metrics.stat().st_size > before:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, error
    assert "Traceback" not in error and "To resume:" in out
    return out
