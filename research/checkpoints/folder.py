"""The folder of a checkpoint: its layout, and which step of a run is good.

    DIRECTORY/STEP/params/     arrays, written by Orbax (OCDBT, zstd)
                   opt_state/  arrays; absent in a shipped checkpoint
                   about/      config.json, tokenizer.json, meta.json: the text items,
                               arrays.json: path -> shape, dtype, checksum of every array,
                               format.json: the number of this layout, the version that wrote it,
                               SHA256SUMS of the five, as `sha256sum -c` reads it

DIRECTORY is WORKDIR/checkpoints in a run. Paths may be on a bucket (gs://…).
"""

import contextlib
import dataclasses
import functools
import gc
import hashlib
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from flax.traverse_util import unflatten_dict
from jax.experimental import multihost_utils

import research
from research import bucket, shipped
from research.errors import UserError, at_most, nearest

T = TypeVar("T")
Json = dict[str, Any]

TEXTS = ("config.json", "tokenizer.json", "meta.json", "arrays.json")
SUMS = "SHA256SUMS"
# The layout's number, "format" in format.json; it increases when older code could not read the
# step. Steps without the file are older than it, and have format 1. Later formats must keep this
# file and SHA256SUMS as they are, so that older code can say that it is older.
FORMAT, FORMAT_FILE = 1, "format.json"

BEST = "best"  # WORKDIR/best means the best step
MAX_LINES = 10  # of a message that lists things


class DamagedError(Exception):
    """This step cannot be used, for the reason in the message; an older one may be good."""


@dataclasses.dataclass(frozen=True)
class Info:
    """The texts of a step; arrays: item -> path -> {"shape", "dtype", "checksum"}."""

    step: int
    config: Json
    tokenizer_json: str
    meta: Json
    arrays: dict[str, dict[str, Json]]

    @functools.cached_property
    def shapes(self) -> Any:
        """The tree of its params, with a `jax.ShapeDtypeStruct` at each leaf."""
        leaves = {
            path: jax.ShapeDtypeStruct(tuple(entry["shape"]), jnp.dtype(entry["dtype"]))
            for path, entry in self.arrays["params"].items()
        }
        return unflatten_dict(leaves, sep="/")

    @property
    def fingerprint(self) -> str:
        """A hash that changes when any param changes."""
        entries = json.dumps(self.arrays["params"], sort_keys=True)  # with their checksums
        return hashlib.sha256(entries.encode()).hexdigest()[:16]


def texts_of(config: Json, tokenizer_json: str, meta: Json, arrays: Json) -> dict[str, str]:
    """The files of the about folder, by name."""
    texts = {
        "config.json": json.dumps(config, indent=1),
        "tokenizer.json": tokenizer_json,
        "meta.json": json.dumps(meta, indent=1),
        "arrays.json": json.dumps(arrays, indent=None, separators=(",", ":")),
    }
    form = {"format": FORMAT, "version": research.__version__}
    texts[FORMAT_FILE] = json.dumps(form)
    sums = [_sum_line(name, text) for name, text in texts.items()]
    return {**texts, SUMS: "\n".join(sums) + "\n"}


def write_meta(folder: epath.Path, meta: Json) -> None:
    """Replaces the meta.json of a step. Meanwhile SHA256SUMS lists both the old and the new one."""
    about, text = folder / "about", json.dumps(meta, indent=1)
    sums = (about / SUMS).read_text().splitlines()
    new = [line for line in sums if not line.endswith("  meta.json")] + [
        _sum_line("meta.json", text)
    ]
    bucket.write_whole(about / SUMS, "\n".join([*sums, new[-1]]) + "\n")
    bucket.write_whole(about / "meta.json", text)
    bucket.write_whole(about / SUMS, "\n".join(new) + "\n")


def read_about(folder: epath.Path) -> Info:
    """Reads and checks the texts of one step, in every process. Raises DamagedError."""
    return read_by_all("about", lambda: texts_in(folder))


def texts_in(folder: epath.Path) -> Info:
    """Reads and checks the texts of one step. Raises ValueError or OSError if they are damaged, and
    UserError if a later version of the code wrote them."""
    if not (folder / "about" / SUMS).exists():
        raise ValueError(f"{SUMS} is missing")
    sums = (folder / "about" / SUMS).read_text().splitlines()

    def checked(name: str) -> str:
        if not (folder / "about" / name).exists():
            raise ValueError(f"{name} is missing")
        text = (folder / "about" / name).read_bytes().decode()
        if _sum_line(name, text) not in sums:
            raise ValueError(f"{name} does not match its SHA-256")
        return text

    if any(line.endswith(f"  {FORMAT_FILE}") for line in sums):
        form = json.loads(checked(FORMAT_FILE))
        if form["format"] > FORMAT:
            raise UserError(
                f"{folder} was made by a newer version of the code, {form['version']}: it has "
                f"format {form['format']}, and this version, {research.__version__}, reads formats "
                f"up to {FORMAT}"
            )
    texts = {name: checked(name) for name in TEXTS}
    arrays = json.loads(texts["arrays.json"])
    for item, entries in arrays.items():
        if entries and not (folder / item).is_dir():
            raise ValueError(f"the folder {item} beside it is missing")
    return Info(
        step=int(folder.name),
        config=json.loads(texts["config.json"]),
        tokenizer_json=texts["tokenizer.json"],
        meta=json.loads(texts["meta.json"]),
        arrays=arrays,
    )


def absolute(path: str) -> epath.Path:
    """Returns `path` as an absolute path or a URL, as Orbax needs it."""
    return bucket.path(path if bucket.is_remote(path) else os.path.abspath(path))


def steps_in(directory: epath.Path) -> list[int]:
    """The steps in a checkpoints folder, ascending, good or not."""
    try:
        names = [entry.name for entry in directory.iterdir() if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):  # on a bucket, an empty folder does not exist
        return []
    return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))


def rewind(directory: epath.Path, step: int) -> None:
    """Renames the steps after `step` to "STEP.rewound", which nothing takes for a step.

    Raises UserError if `step` does not exist; 0 means before the first step.
    """
    steps = steps_in(directory)
    if step and step not in steps:
        hint = nearest(str(step), steps)
        raise UserError(f"--rewind={step}: {directory} does not hold this step{hint}")
    for later in steps:
        if later > step:
            rename(directory, later, "rewound")


def rename(directory: epath.Path, step: int, why: str) -> None:
    """Renames a step to "STEP.WHY", or "STEP.WHY2" and so on: it is kept, but never restored."""
    place, number = directory / f"{step}.{why}", 1
    while place.exists():
        number += 1
        place = directory / f"{step}.{why}{number}"
    (directory / str(step)).rename(place)


def locate(path: str) -> tuple[epath.Path, int | None]:
    """Returns the checkpoints folder that `path` means, and the step if `path` names one.

    path: a workdir, its checkpoints folder, the folder of one step, WORKDIR/best (the best step by
        the metric config.train.best), or the name of a shipped checkpoint.

    Raises UserError if there is no checkpoint, with what the folder holds instead.
    """
    place = absolute(shipped.checkpoint(path))
    if place.name == BEST and not place.exists() and place.parent.is_dir():
        directory, _ = locate(str(place.parent))
        best = first_good(directory, None, read_about)[0].meta.get("best") or {}
        if not best.get("step"):
            raise UserError(f"{path}: this run did not look for its best step (config.train.best)")
        return directory, best["step"]
    if not place.exists():
        siblings = [entry.name for entry in place.parent.iterdir()] if place.parent.is_dir() else []
        hint = _short(nearest(place.name, [*siblings, *shipped.names()]))
        raise UserError(f"no checkpoint in {path}: there is no such folder{hint}")
    if not place.is_dir():
        raise UserError(f"no checkpoint in {path}: it is a file; give the folder of a run")
    directory = place / "checkpoints" if (place / "checkpoints").is_dir() else place
    if steps_in(directory):
        return directory, None
    if place.name.isdecimal() and place.name in map(str, steps_in(place.parent)):
        return place.parent, int(place.name)
    raise UserError(f"no checkpoint in {path}: {_contents(directory)}")


def first_good(
    directory: epath.Path, step: int | None, load: Callable[[epath.Path], T]
) -> tuple[T, list[int]]:
    """Calls `load` on the newest good step, or on `step`.

    Returns:
        The result of `load`, and the damaged steps that were skipped, for each of which a line on
        stderr says why.

    Raises:
        UserError: no step, no good step, or `step` is not good; with the reason for each.
    """
    steps = sorted(steps_in(directory), reverse=True)
    if not steps:
        raise UserError(f"no checkpoint in {directory}: {_contents(directory)}")
    if step is not None and step not in steps:
        raise UserError(f"no step {step} in {directory}{nearest(str(step), map(str, steps))}")
    reasons: dict[int, str] = {}
    for candidate in steps if step is None else [step]:
        try:
            return load(directory / str(candidate)), list(reasons)
        except DamagedError as error:
            reasons[candidate] = str(error)
            if step is None and jax.process_index() == 0:
                shipped.tell(f"warning: {directory / str(candidate)} is damaged: {error}")
    lines = [f"step {number}: {reason}" for number, reason in reasons.items()]
    head = f"no good checkpoint in {directory}:"
    raise UserError("\n  ".join([head, *at_most(lines, MAX_LINES)]))


def read_by_all(what: str, read: Callable[[], T]) -> T:
    """Returns read(), or raises DamagedError in all processes if it fails in one, so none waits.

    Orbax and TensorStore report damage by almost any exception; but a lack of memory does not mean
    damage, and a UserError is the same in all processes.
    """
    value, reason = None, ""
    with quiet():
        try:
            value = read()
        except Exception as error:
            if isinstance(error, MemoryError | UserError) or "RESOURCE_EXHAUSTED" in str(error):
                raise
            reason = first_line(error)
            settle()
    if not agreed(not reason):
        raise DamagedError(f"{what}: {reason or 'another process could not read it'}")
    return value


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the tracebacks of threads and abandoned coroutines.

    When one read or write fails, Orbax closes the event loop under the others; each of them, and
    each exception that is never retrieved, would print a traceback.
    """
    hook, logger = sys.unraisablehook, logging.getLogger("asyncio")
    disabled = logger.disabled
    sys.unraisablehook, logger.disabled = (lambda _: None), True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # "… was never awaited"
            yield
    finally:
        sys.unraisablehook, logger.disabled = hook, disabled


def settle() -> None:
    """Lets the remains of a failure end, within `quiet`."""
    time.sleep(0.1)
    gc.collect()


def agreed(good: bool) -> bool:
    """Whether `good` is true in every process; waits for all of them."""
    if jax.process_count() == 1:
        return good
    return bool(multihost_utils.process_allgather(np.asarray(good)).all())


def first_line(error: BaseException) -> str:
    """The root cause of an exception in one line of at most 200 characters."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = (str(error).strip().splitlines() or [""])[0]
    return _short(text if type(error) is ValueError else f"{type(error).__name__}: {text}", 200)


@dataclasses.dataclass
class TextSave(ocp.args.CheckpointArgs):
    """Text files, by name, as an item of an Orbax checkpoint."""

    texts: dict[str, str]


class TextHandler(ocp.JsonCheckpointHandler):
    """Writes TextSave in the background. Orbax's own handler would store a tokenizer as an escaped
    string, which is half as large again."""

    async def async_save(self, directory: epath.Path, args: TextSave) -> list[ocp.future.Future]:
        write = self._write(directory, args.texts)
        return [ocp.future.CommitFutureAwaitingContractedSignals(write, name="texts")]

    async def _write(self, directory: epath.Path, texts: dict[str, str]) -> None:
        if jax.process_index() == 0:
            for name, text in texts.items():
                bucket.write_whole(directory / name, text)


ocp.args.register_with_handler(TextHandler, for_save=True, for_restore=True)(TextSave)


def _sum_line(name: str, text: str) -> str:
    return f"{hashlib.sha256(text.encode()).hexdigest()}  {name}"


def _contents(directory: epath.Path) -> str:
    """Says what a folder without steps holds, and which of its folders hold checkpoints."""
    if not directory.exists():
        return "there is no such folder"
    folders = sorted(entry.name for entry in directory.iterdir() if entry.is_dir())
    runs = [
        name
        for name in folders
        if steps_in(directory / name) or steps_in(directory / name / "checkpoints")
    ]
    if runs:
        return _short(f"did you mean one of its folders? {', '.join(runs)}")
    names = sorted(entry.name for entry in directory.iterdir())
    return _short(f"it holds {', '.join(names)}") if names else "it is empty"


def _short(text: str, width: int = 300) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
