import json
import math
import time

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util import tensor_util

from research.errors import UserError
from research.monitoring.writers import MetricWriter, to_line


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_have_sorted_keys_and_exact_floats(tmp_path):
    with MetricWriter(tmp_path) as writer:
        writer.metrics(3, {"train/loss": 0.1 + 0.2, "accuracy": 1 / 3, "tokens": 12})
    content = (tmp_path / "metrics.jsonl").read_bytes()
    assert content == (
        b'{"accuracy": 0.3333333333333333, "step": 3, "tokens": 12, '
        b'"train/loss": 0.30000000000000004}\n'
    )


def test_each_line_is_in_the_file_at_once(tmp_path):
    writer = MetricWriter(tmp_path)
    writer.metrics(1, {"loss": 2.0})
    writer.timing(1, {"tokens_per_second": 17012.25})
    assert read(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 2.0}]
    assert read(tmp_path / "timing.jsonl") == [{"step": 1, "tokens_per_second": 17012.25}]
    writer.close()
    writer.close()


@pytest.mark.parametrize(
    "value", [1.5, np.float32(1.5), np.array(1.5), jnp.float32(1.5), jnp.bfloat16(1.5)]
)
def test_scalars_of_all_kinds(tmp_path, value):
    with MetricWriter(tmp_path) as writer:
        writer.metrics(1, {"loss": value})
    assert read(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 1.5}]


@pytest.mark.parametrize("value", ["1.5", None, True, [1.0]])
def test_what_is_no_number_is_refused_by_name(tmp_path, value):
    with MetricWriter(tmp_path) as writer, pytest.raises(TypeError, match="best_loss"):
        writer.metrics(1, {"best_loss": value})
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""


def test_infinity_and_nan_are_valid_json_and_come_back():
    line = to_line(1, {"a": math.inf, "b": -math.inf, "c": math.nan})
    row = json.loads(line, parse_constant=pytest.fail)
    assert float(row["a"]) == math.inf
    assert float(row["b"]) == -math.inf
    assert math.isnan(float(row["c"]))


def test_step_cannot_be_a_metric():
    with pytest.raises(ValueError, match='"step"'):
        to_line(1, {"step": 2})


def test_a_resumed_run_leaves_the_same_file(tmp_path):
    def write(writer, steps):
        for step in steps:
            writer.metrics(step, {"loss": math.sin(step)})
            if step % 4 == 0:
                writer.metrics(step, {"validation/loss": math.cos(step)})
            writer.timing(step, {"seconds": 1.0})

    with MetricWriter(tmp_path / "whole") as writer:
        write(writer, range(1, 13))
    # This one goes on to step 9, dies in the middle of a line and resumes from step 8.
    killed = tmp_path / "killed"
    writer = MetricWriter(killed)
    write(writer, range(1, 10))
    writer.close()
    for name in ("metrics.jsonl", "timing.jsonl"):
        with open(killed / name, "a") as file:
            file.write('{"loss": 0.54')
    with MetricWriter(killed) as writer:
        writer.cut(8)
        write(writer, range(9, 13))
    for name in ("metrics.jsonl", "timing.jsonl"):
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in killed.iterdir()) == [
        "metrics.jsonl",
        "tensorboard",
        "timing.jsonl",
    ]


def test_cut_keeps_the_restored_step_and_minus_one_keeps_nothing(tmp_path):
    with MetricWriter(tmp_path) as writer:
        for step in (0, 5, 5, 10):
            writer.metrics(step, {"loss": 1.0})
        writer.cut(5)
        assert [row["step"] for row in read(tmp_path / "metrics.jsonl")] == [0, 5, 5]
        writer.cut(-1)
        assert (tmp_path / "metrics.jsonl").read_bytes() == b""


def test_a_half_written_line_never_swallows_the_next(tmp_path):
    with MetricWriter(tmp_path) as writer:
        writer.metrics(1, {"loss": 1.0})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"lo')
    with MetricWriter(tmp_path) as writer:
        writer.metrics(2, {"loss": 2.0})
    assert [row["step"] for row in read(tmp_path / "metrics.jsonl")] == [1, 2]


def test_a_half_written_last_line_is_dropped_by_cut_itself(tmp_path):
    with MetricWriter(tmp_path) as writer:
        writer.metrics(1, {"loss": 1.0})
        with open(tmp_path / "metrics.jsonl", "a") as file:
            file.write('{"step": 1}')
        writer.cut(7)
    assert read(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 1.0}]


@pytest.mark.parametrize("line", ["{half\n", "[1]\n", '{"loss": 1}\n', '{"step": "x"}\n'])
def test_a_foreign_line_stops_no_run_and_nothing_is_lost(tmp_path, line, capsys):
    path = tmp_path / "timing.jsonl"
    content = '{"step": 1}\n' + line + '{"step": 2}\n'
    path.write_text(content)
    with MetricWriter(tmp_path) as writer:
        writer.cut(1)
    assert path.read_text() == '{"step": 1}\n'
    assert (tmp_path / "timing.jsonl.damaged").read_text() == content
    told = capsys.readouterr().err
    assert "1 lines of" in told and "line 2; leaving them out" in told


def test_an_inactive_writer_touches_nothing(tmp_path):
    with MetricWriter(tmp_path / "run", active=False) as writer:
        writer.metrics(1, {"loss": 1.0})
        writer.timing(1, {"seconds": 1.0})
        writer.text(1, "sample", "text")
        writer.cut(0)
    assert not (tmp_path / "run").exists()


def events(folder):
    accumulator = EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    return accumulator


def test_tensorboard_reads_scalars_and_texts(tmp_path):
    with MetricWriter(tmp_path) as writer:
        writer.metrics(1, {"train/loss": 2.5, "perplexity": 1e300})
        writer.metrics(2, {"train/loss": 1.5})
        writer.timing(2, {"tokens_per_second": 100.0})
        writer.text(2, "sample", "The cat sat on the **mat** – ünï")
        seen = events(tmp_path)
        losses = [(event.step, event.value) for event in seen.Scalars("train/loss")]
        assert losses == [(1, 2.5), (2, 1.5)]
        assert seen.Scalars("timing/tokens_per_second")[0].value == 100.0
        assert seen.Scalars("perplexity")[0].value == math.inf
        (text,) = seen.Tensors("sample")
        array = tensor_util.make_ndarray(text.tensor_proto)
        assert array.item().decode() == "The cat sat on the **mat** – ünï"
        assert seen.SummaryMetadata("sample").plugin_data.plugin_name == "text"


def test_tensorboard_forgets_what_was_cut(tmp_path):
    with MetricWriter(tmp_path) as writer:
        for step in range(1, 6):
            writer.metrics(step, {"loss": 1.0})
        writer.cut(3)
        writer.metrics(4, {"loss": 2.0})
        losses = [(event.step, event.value) for event in events(tmp_path).Scalars("loss")]
    assert losses == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0)]


def test_tensorboard_compares_runs_by_their_hyperparameters(tmp_path):
    given = {"optimizer.learning_rate": 1e-3, "model.gated": True, "data.corpus": ["a", "b"]}
    with MetricWriter(tmp_path, hparams=given) as writer:
        writer.metrics(1, {"loss": 2.0})
    accumulator = EventAccumulator(str(tmp_path / "tensorboard"))
    accumulator.Reload()
    (content,) = accumulator.PluginTagToContent("hparams").values()
    found = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info

    assert found.hparams["optimizer.learning_rate"].number_value == 1e-3
    assert found.hparams["model.gated"].bool_value is True
    assert found.hparams["data.corpus"].string_value == '["a", "b"]'


def records(folder):
    """What an offline run of Weights & Biases has written: a LevelDB log of protocol buffers."""
    from wandb.proto import wandb_internal_pb2

    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    data, at, part = file.read_bytes(), 7, b""  # after the header
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # too little is left of a block for a record
            at += 32768 - at % 32768
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        part += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(part)
            part = b""


def test_weights_and_biases_gets_the_same_numbers(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with MetricWriter(tmp_path, hparams={"seed": 3}, wandb="some-project") as writer:
        writer.metrics(1, {"loss": 2.0})
        writer.timing(1, {"mfu": 0.25})
        writer.metrics(2, {"loss": 1.5})
        writer.text(2, "sample", "a < b")
    kinds, until = [], time.monotonic() + 30
    while "exit" not in kinds:  # the package's own process writes the file
        assert time.monotonic() < until
        kinds = [record.WhichOneof("record_type") for record in records(tmp_path)]
    history, runs = [], []
    for record in records(tmp_path):
        if record.WhichOneof("record_type") == "history":
            items = {".".join(i.nested_key) or i.key: i.value_json for i in record.history.item}
            history.append(items)
        elif record.WhichOneof("record_type") == "run":
            runs.append(record.run)
    assert runs[0].project == "some-project" and runs[0].display_name == tmp_path.name
    assert {u.key or u.nested_key[0]: u.value_json for u in runs[0].config.update}["seed"] == "3"
    assert history[0]["loss"] == "2" or float(history[0]["loss"]) == 2.0
    assert float(history[0]["timing/mfu"]) == 0.25
    assert float(history[1]["loss"]) == 1.5 and any("sample" in key for key in history[1])


def test_without_the_package_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="wandb needs the package wandb: python -m pip"):
        MetricWriter(tmp_path, wandb="p")
