"""Writes a run's metrics and texts, as JSON Lines and for TensorBoard."""

import io
import itertools
import json
import math
import os
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import summary_v2 as hparams_summary
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util import tensor_util

from research import bucket, shipped
from research.errors import UserError
from research.monitoring import wandb_run
from research.monitoring.appended import Appended, warn

METRICS, TIMING, EVENTS = "metrics.jsonl", "timing.jsonl", "tensorboard"
GOODPUT = "goodput.jsonl"  # how each start spent its time
TEXTS = "texts.jsonl"  # only written if there are texts
# Keys that each line of a file must have.
FILES = {
    METRICS: ("step",),
    TIMING: ("step",),
    GOODPUT: ("step",),
    TEXTS: ("name", "step", "text"),
}
SECONDS_BETWEEN_UPLOADS = 30
EVENTS_VERSION = "brain.Event:2"  # TensorBoard's, in the first event of a file
_EVENT_FILES = itertools.count()


class MetricWriter:
    """Writes the metrics and texts of a run into its workdir.

    metrics.jsonl holds one JSON object per line, with "step" and values that depend only on the
    run's config and data, so the file of a run that was killed and resumed is byte for byte that
    of an uninterrupted run. Speed and times go to timing.jsonl, texts to texts.jsonl with their
    "name". All go to TensorBoard too.
    Every call hands its lines to the operating system: a killed process loses none. While the disk
    is full, lines are kept in memory (`appended`).

    Files on a bucket cannot be appended to. For a workdir there, the files lie in a temporary
    folder and are copied as a whole: every half minute, when `upload` is called, and at the end.

    In a run of several processes only one is active; the others write nothing.

    Args:
        hparams: the config keys by which TensorBoard compares runs.
        wandb: the project in Weights & Biases that gets the same values; "" for none.
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        active: bool = True,
        hparams: Mapping[str, Any] | None = None,
        wandb: str = "",
    ):
        self._active = active
        self._files: dict[str, Appended] = {}
        self._bucket, self._uploaded = None, 0.0
        self._workdir = Path(workdir)
        if active and bucket.is_remote(workdir):
            self._bucket = bucket.path(workdir)
            self._temporary = tempfile.TemporaryDirectory()
            self._workdir = Path(self._temporary.name)
            for name in (*FILES, wandb_run.ID):
                if (self._bucket / name).exists():
                    (self._workdir / name).write_bytes((self._bucket / name).read_bytes())
        if active:
            self._workdir.mkdir(parents=True, exist_ok=True)
            for name in FILES:
                drop_unfinished_line(self._workdir / name)
            self._open()
            (self._workdir / EVENTS).mkdir(exist_ok=True)
            # TensorBoard requires such names for event files, and reads them in this order.
            name = f"{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
            name = f"events.out.tfevents.{name}.{next(_EVENT_FILES)}"
            self._events = Appended(self._workdir / EVENTS / name)
            self._add_event(event_pb2.Event(wall_time=time.time(), file_version=EVENTS_VERSION))
            if hparams:
                self._compare_by(hparams, str(workdir))
        self._wandb = None
        if active and wandb:
            self._wandb = wandb_run.WandbRun(
                wandb, os.fspath(workdir), self._workdir, hparams or {}
            )

    def _compare_by(self, hparams: Mapping[str, Any], workdir: str) -> None:
        """Writes the run's config keys for TensorBoard's HParams; lists become strings."""
        plain = {
            name: value if isinstance(value, bool | int | float | str) else json.dumps(value)
            for name, value in hparams.items()
        }
        summary = hparams_summary.hparams_pb(plain, trial_id=workdir)
        self._add_event(event_pb2.Event(wall_time=time.time(), summary=summary))

    def metrics(self, step: int, values: Mapping[str, Any]) -> None:
        """Adds a line of deterministic numbers; raises TypeError for other values."""
        self._write(METRICS, step, values, tag="")

    def timing(self, step: int, values: Mapping[str, Any]) -> None:
        """Adds a line of numbers that differ from run to run: seconds, tokens per second."""
        self._write(TIMING, step, values, tag="timing/")

    def goodput(self, step: int, seconds: Mapping[str, float]) -> None:
        """Adds a line on how this start of the run spent its time."""
        self._write(GOODPUT, step, seconds, tag="goodput/")

    def text(self, step: int, name: str, text: str) -> None:
        """Adds a text (Markdown): predictions, a continuation."""
        if not self._active:
            return
        line = json.dumps({"name": name, "step": int(step), "text": text}, ensure_ascii=False)
        self._append(TEXTS, f"{line}\n")
        value = summary_pb2.Summary.Value(
            tag=name,
            metadata=text_metadata.create_summary_metadata(display_name="", description=""),
            tensor=tensor_util.make_tensor_proto([text.encode()]),
        )
        self._add_values(step, [value])
        if self._wandb is not None:
            self._wandb.text(step, name, text)

    def cut(self, step: int) -> int:
        """Removes all lines after `step`; call it when a run resumes from there. Returns the last
        step that had metrics.

        The lines of `step` itself stay, so they must be written before that step's checkpoint.
        -1 removes everything: the run died before its first checkpoint.
        Each file is replaced as a whole, so a crash in here leaves the old or the new one.
        """
        if not self._active:
            return 0
        self._close_files()
        last = {name: _keep_until(self._workdir / name, step) for name in FILES}
        self._open()
        # Tells TensorBoard to discard the later steps that it has read.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._add_event(event_pb2.Event(wall_time=time.time(), step=step + 1, session_log=start))
        self.upload()
        return last[METRICS]

    def upload(self) -> None:
        """Copies the files to the bucket, if the workdir is on one. On failure it warns, and the
        next call copies all again."""
        if self._bucket is None:
            return
        self._uploaded = time.monotonic()
        try:
            for file in self._workdir.rglob("*"):
                if file.is_file():
                    target = self._bucket / file.relative_to(self._workdir).as_posix()
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(file.read_bytes())
        except Exception as error:  # each package that reaches buckets has its own
            warn(f"the metrics could not be copied to {self._bucket}: {error!r:.200}")

    def close(self) -> None:
        """Closes the files; may be called twice."""
        if self._active:
            if self._wandb is not None:
                self._wandb.close()
                self._wandb = None
            self._close_files()
            self._events.close()
            self.upload()
            if self._bucket is not None:
                self._bucket = None
                self._temporary.cleanup()

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _write(self, file: str, step: int, values: Mapping[str, Any], tag: str) -> None:
        if not self._active:
            return
        numbers = {name: _number(name, value) for name, value in values.items()}
        self._append(file, to_line(step, numbers))
        self._add_values(
            step,
            [
                summary_pb2.Summary.Value(tag=tag + name, simple_value=value)
                for name, value in numbers.items()
            ],
        )
        if self._wandb is not None:
            self._wandb.log(step, {tag + name: value for name, value in numbers.items()})
        if time.monotonic() - self._uploaded > SECONDS_BETWEEN_UPLOADS:
            self.upload()

    def _add_values(self, step: int, values: list[summary_pb2.Summary.Value]) -> None:
        summary = summary_pb2.Summary(value=values)
        self._add_event(event_pb2.Event(wall_time=time.time(), step=int(step), summary=summary))

    def _add_event(self, event: event_pb2.Event) -> None:
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        self._events.add(record.getvalue())

    def _open(self, names: Sequence[str] = (METRICS, TIMING)) -> None:
        for name in names:
            self._files[name] = Appended(self._workdir / name)

    def _append(self, name: str, line: str) -> None:
        if name not in self._files:
            self._open([name])
        self._files[name].add(line.encode("utf-8"))

    def _close_files(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()


def lines(path: Path, keys: Sequence[str] = (), strict: bool = False) -> list[dict[str, Any]]:
    """Reads the complete lines of a run's file, without one that is still being written or that a
    kill cut off; none if the file does not exist.

    Args:
        keys: keys that each line must have besides those of `FILES`; "group.key" for nested ones.
        strict: raise UserError for a line that is not a JSON object, lacks a key, or has a metric
            that is not a number; default: skip the line with a warning.
    """
    *whole, _ = path.read_bytes().split(b"\n") if path.exists() else [b""]
    kept = []
    for number, line in enumerate(whole, start=1):
        where = f"{path}, line {number}"
        try:
            values = json_object(line, where, (*FILES.get(path.name, ()), *keys))
            if path.name in (METRICS, TIMING):
                check_numbers(values, where)
            kept.append(values)
        except UserError as error:
            if strict:
                raise
            shipped.tell(f"warning: {error}; skipping the line")
    return kept


def json_object(content: bytes, where: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    """Parses a file of a run, or a line of one. Raises UserError if it is damaged."""
    try:
        values = json.loads(content.decode("utf-8"))
    except ValueError as error:  # bytes that are not text, a text that is not JSON
        raise UserError(f"{where} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{where} is damaged: it is not a JSON object")
    for key in keys:
        group: Any = values
        for name in key.split("."):
            if not isinstance(group, dict) or name not in group:
                raise UserError(f"{where} is damaged: it has no {key!r}")
            group = group[name]
    return values


def check_numbers(values: Mapping[str, Any], where: str) -> None:
    """Raises UserError for a value that `to_line` does not write for any number."""
    for name, value in values.items():
        try:
            float(value)
        except (TypeError, ValueError) as error:
            raise UserError(f"{where} is damaged: {name!r} is {value!r}, not a number") from error


def to_line(step: int, numbers: Mapping[str, float]) -> str:
    """Returns one line of JSON: keys sorted, floats in their shortest exact form.

    JSON lacks infinity and NaN; they become the strings "inf", "-inf" and "nan", which `float`
    reads back.
    """
    if "step" in numbers:
        raise ValueError('"step" is the name of the step itself')
    plain = {
        name: value if isinstance(value, int) or math.isfinite(value) else repr(value)
        for name, value in numbers.items()
    }
    return json.dumps({"step": int(step), **plain}, sort_keys=True, allow_nan=False) + "\n"


def _number(name: str, value: Any) -> int | float:
    """Converts any scalar, of NumPy and jax too, to a Python number; int stays int."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r}; only numbers can be written as metrics")
    return value


def drop_unfinished_line(path: Path) -> None:
    """Truncates a line that a killed process left unfinished, so that the next one starts anew."""
    if not path.exists():
        return
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        os.truncate(path, end)


def _keep_until(path: Path, step: int) -> int:
    """Replaces a file, if it exists, by its lines of steps up to `step`; returns the last step that
    it had. A file with malformed lines is kept as NAME.damaged."""
    if not path.exists():
        return 0
    kept, strange, last = [], [], 0
    content = path.read_bytes()
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        try:
            if line.endswith(b"\n"):
                last = json.loads(line)["step"]
                if last <= step:
                    kept.append(line)
        except (ValueError, TypeError, KeyError):
            strange.append(number)
    if strange:
        aside = path.with_name(f"{path.name}.damaged")
        bucket.write_whole(aside, content)
        warn(
            f'{len(strange)} lines of {path} are not JSON objects with a "step", first line '
            f"{strange[0]}; leaving them out and keeping the whole file as {aside.name}"
        )
    bucket.write_whole(path, b"".join(kept))
    return last
