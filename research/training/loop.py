"""The training loop: resume, step, log, evaluate, save."""

import contextlib
import dataclasses
import json
import time
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from research import bucket, lock
from research.checkpoints import folder as checkpoint_folder
from research.checkpoints import lineage
from research.checkpoints.checkpoint import Checkpoints
from research.checkpoints.folder import absolute
from research.config import Config, changed_keys, to_values
from research.data.loader import Ahead
from research.errors import Diverged
from research.evaluation import samples, validation
from research.monitoring import starts
from research.monitoring.progress import Progress
from research.monitoring.writers import MetricWriter
from research.optim import averaging
from research.run import start
from research.run.best import Best, from_meta
from research.run.run import Run, build, describe
from research.run.step import State
from research.run.watch import RolledBack, Watch
from research.sharding import mesh as meshes
from research.sharding import processes
from research.training import faults
from research.training.clock import Clock, summary
from research.training.stop import Stop, Stopping
from research.training.watchdog import Watchdog


class Interrupted(Exception):
    """The run was asked to stop; the checkpoint of `step` is saved."""

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step}")
        self.step = step


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished run: its workdir, its last step, the last metrics of the validation split, and the
    best step if config.train.best is set."""

    workdir: str
    step: int
    metrics: dict[str, float]
    best: Best


def train(
    config: Config,
    workdir: str,
    label: str = "train",
    quiet: bool = False,
    describe_run: bool = True,
    rewind: int | None = None,
) -> Result:
    """Trains to the config's last step in `workdir`, resuming its newest good checkpoint.

    rewind: resume from the checkpoint of this step instead; config.optimizer may then differ, and
        newer checkpoints are set aside as STEP.rewound. 0: start over.

    Raises:
        UserError: the config or its data is wrong, or the checkpoints belong to another run.
        Interrupted: Ctrl-C or SIGTERM; the step's checkpoint is saved.
        Diverged: bad steps, as config.train.on_bad_step says; their states are not saved.
    """
    began = time.perf_counter()
    quiet = quiet or not processes.first()
    processes.same(
        "their configs",
        to_values(config) | {"rewind": rewind},
        "start all of them with the same command and code",
    )
    folder = bucket.path(workdir)
    for place in (folder, folder / "checkpoints"):
        bucket.require_writable(place)
    with contextlib.ExitStack() as stack:
        alone = lock.alone(folder, lock.TRAINING)
        processes.by_first("the workdir's lock", lambda: stack.enter_context(alone))
        run = build(config, quiet=quiet)
        validation.check(run)
        if rewind is not None:
            steps = absolute(str(folder / "checkpoints"))
            processes.by_first(
                "the step to go back to", lambda: checkpoint_folder.rewind(steps, rewind)
            )
        if jax.process_count() > 1:
            start.check_shared(run, folder)
        stack.enter_context(meshes.use(run.mesh, run.config.mesh))
        checkpoints = Checkpoints(
            str(folder / "checkpoints"), config.train.keep, check=config.train.check_saves
        )
        stack.enter_context(checkpoints)
        begin = start.start(run, checkpoints, quiet, ("optimizer",) if rewind else ())
        step = int(begin[0].step)
        _note_start(run, folder, step, rewind)
        progress = Progress(run.steps, label, start=step, active=not quiet)
        # The handlers stay until the last save is committed and all lines are written.
        stop = stack.enter_context(Stop(step))
        shown = describe(run) if describe_run and not quiet else ""
        writer = MetricWriter(
            folder, processes.first(), changed_keys(run.config), run.config.train.wandb
        )
        with writer:
            _cut(writer, folder, step, quiet)
            if shown:
                print(shown, flush=True)
            clock = Clock(run, began)
            loop = _Loop(run, folder, checkpoints, writer, progress, stop, clock)
            try:
                loop.train(*begin)
                with clock.span("saving"):
                    checkpoints.wait()
            finally:  # also if the run was stopped
                spent = clock.spent()
                writer.goodput(loop.step, spent)
                if not quiet:
                    print(summary(spent), flush=True)
        return Result(str(folder), loop.step, loop.metrics, loop.best)


def _note_start(run: Run, folder: epath.Path, step: int, rewind: int | None) -> None:
    """Records what it takes to reproduce this start of the run."""
    folder.mkdir(parents=True, exist_ok=True)
    start_key = run.start_key  # a collective operation: every process must call it
    if not processes.first():
        return
    text = json.dumps(to_values(run.config), indent=1)
    bucket.write_whole(folder / starts.CONFIG, text + "\n")
    record = starts.describe(run.data_key, start_key)
    record |= {"step": step, "measured": run.measured_key}
    if rewind is not None:
        record |= {"rewind": rewind, "optimizer": to_values(run.config)["optimizer"]}
    starts.add(folder, record)


def _cut(writer: MetricWriter, folder: epath.Path, step: int, quiet: bool) -> None:
    """Removes the metrics of steps after the checkpoint, with a warning."""
    last = writer.cut(step if step else -1)
    if last > step and not quiet:
        print(
            f"warning: steps {step + 1:,} to {last:,} were trained before, but no checkpoint in "
            f"{folder} holds them: training them again and rewriting their metrics",
            flush=True,
        )


class _Loop:
    """Runs the steps of a run from a state until its end or until it is stopped."""

    def __init__(
        self,
        run: Run,
        folder: epath.Path,
        checkpoints: Checkpoints,
        writer: MetricWriter,
        progress: Progress,
        stop: Stop,
        clock: Clock,
    ):
        self._run, self._folder = run, folder
        self._checkpoints, self._writer, self._progress = checkpoints, writer, progress
        self._stop, self._clock = stop, clock
        train = run.config.train
        self._watchdog = Watchdog(train.watchdog_seconds, train.watchdog_factor)
        self.step, self.metrics, self.best = 0, {}, Best(train.best)

    def train(self, state: State, meta: dict[str, Any]) -> None:
        """Trains to the end; returns to the last checkpoint whenever a bad step asks for it.

        Raises:
            Interrupted: the run was asked to stop; the step's checkpoint is saved.
            Diverged: as in `Watch.read`.
        """
        with self._progress, self._watchdog:
            while True:
                self._begin(state, meta)
                try:
                    self._to_the_end()
                    return
                except RolledBack as bad:
                    state, meta = self._back(bad)

    def _begin(self, state: State, meta: dict[str, Any]) -> None:
        self._state = state
        self.step = self._start = int(state.step)
        self.metrics = meta["metrics"]
        self._read = meta.get(lineage.READ) or lineage.of_run(self._run.config)
        self.best = from_meta(self._run.config.train.best, meta)
        self._checkpoints.best = self.best.step or None
        self._watch = Watch(self._run, self._folder, meta)
        self._due = bool(meta.get("evaluation_due"))  # the one after step `start` was interrupted
        self._of_step: dict[str, jax.Array] = {}  # metrics of the last step
        self._saved = time.monotonic()

    def _back(self, bad: RolledBack) -> tuple[State, dict[str, Any]]:
        """Returns state and meta of the last checkpoint; leaves out the batches up to the bad step.

        Raises Diverged if there is no checkpoint, or after too many returns.
        """
        self._checkpoints.wait()
        if self._checkpoints.latest() is None:
            raise Diverged(f"{bad}, and there is no checkpoint to go back to") from bad
        state, meta = start.start(self._run, self._checkpoints, quiet=True)
        step = int(state.step)
        meta |= {"watch": self._watch.after_return(bad, step, meta)}
        self._writer.cut(step)
        self._stop.done = self._stop.saved = step
        self._progress.note(
            f"{bad}: back at step {step:,}, leaving out the batches since; left out so far: "
            f"{meta['watch']['offset']:,}"
        )
        return state, meta

    def _to_the_end(self) -> None:
        run, train = self._run, self._run.config.train
        if self.best.has_waited(train.patience):
            return
        if self._due:
            self._after_step(evaluating=True)
        offset = self._watch.offset
        ahead = Ahead(run.train, self._start + offset, run.steps + offset, run.batch_sharding)
        with contextlib.closing(ahead):
            while self.step < run.steps and not self.best.has_waited(train.patience):
                self._one_step(ahead)
                last = self.step == run.steps
                if last or self.step == 1 or _is_every(train.log_every, self.step):
                    self._log()
                self._after_step(last or _is_every(run.eval_every, self.step))

    def _one_step(self, ahead: Ahead) -> None:
        number = self.step + 1
        faults.before(number)
        clock = self._clock
        with clock.span("waiting"):
            batch = next(ahead)
        with clock.span("steps" if self.step > self._start else "first_step"):
            before = self._of_step
            self._state, self._of_step = self._run.train_step(self._state, batch)
            # At most one step is in flight, so a stop need not wait for a queue of steps.
            jax.block_until_ready(before if self.step > self._start else self._of_step)
        self.step = number
        self._stop.done = number
        self._watchdog.ended(number)
        self._watch.add(number, self._of_step)
        self._watch.read(self._state.params, newest=False)
        clock.add(batch)

    def _after_step(self, evaluating: bool) -> None:
        """Evaluates and saves if due, and stops if asked to."""
        run, train, step = self._run, self._run.config.train, self.step
        if evaluating:
            try:
                self._evaluate()
            except Stopping:
                self._save(surely=True, check=False, due=True)
                raise Interrupted(step) from None
        enough = evaluating and self.best.has_waited(train.patience)
        if enough and step < run.steps:
            self._progress.note(
                f"no better {self.best.metric} in {self.best.since} evaluations: stopping; the "
                f"best, {self.best.value:.4g}, was at step {self.best.step:,}"
            )
        last = enough or step == run.steps
        due = (
            step == self._start
            or _is_every(train.checkpoint_every, step)
            or self._checkpoints.overdue()
            or self._is_time()
            or (train.best and evaluating and self.best.step == step)
        )
        stopping = self._stop.reached()  # ask once: a stop during the save would come too late
        if last:
            self._watch.read(self._state.params)
            self._watch.end(step)
        if last or due or stopping:
            # A scheduler that stops the run may not wait for the save to be read back.
            self._save(surely=last or stopping, check=not stopping)
        if stopping and not last:
            raise Interrupted(step)

    def _evaluate(self) -> None:
        run, step = self._run, self.step
        with (
            self._clock.span("evaluation"),
            self._watchdog.slow(f"the evaluation of step {step:,}"),
        ):
            self._watch.read(self._state.params)
            params = averaging.exchanged(self._state.params, self._state.opt_state)[0]
            self.metrics = validation.metrics(run, params, self._stop.check)
            texts = ""
            if run.config.train.samples:
                texts, sampled = samples.shown(run, params)
                self.metrics |= sampled
        self._writer.metrics(step, {f"validation/{k}": v for k, v in self.metrics.items()})
        if texts:
            self._writer.text(step, "samples", texts)
        shown = "  ".join(f"{k.replace('_', ' ')} {v:.4g}" for k, v in self.metrics.items())
        self._progress.note(f"step {step:,}  validation: {shown}")
        self.best = self.best.after(step, self.metrics)
        self._checkpoints.best = self.best.step or None

    def _is_time(self) -> bool:
        """Whether the last save is older than config.train.checkpoint_minutes. With several
        processes the first one's clock counts, at the steps that log metrics."""
        train = self._run.config.train
        if not train.checkpoint_minutes:
            return False
        due = time.monotonic() - self._saved >= 60 * train.checkpoint_minutes
        if jax.process_count() == 1:
            return due
        if self.step % train.log_every:
            return False
        return bool(multihost_utils.broadcast_one_to_all(np.asarray(due)))

    def _save(self, surely: bool, check: bool, due: bool = False) -> None:
        """Saves a checkpoint. surely, check: as in `Checkpoints.save_surely`; due: the evaluation
        of this step is still due."""
        with self._clock.span("saving"), self._watchdog.slow(f"the save of step {self.step:,}"):
            self._watch.read(self._state.params)
            self._writer.upload()  # a run that resumes from this step needs the lines up to it
            epoch, batch = self._run.train.locate(self.step + self._watch.offset)
            meta = {
                "metrics": self.metrics,
                "data": self._run.data_key,
                "epoch": epoch,
                "batch": batch,
                "watch": self._watch.to_json(self._state.losses),
                lineage.READ: self._read,
            }
            meta |= {"best": self.best.to_json()} if self._run.config.train.best else {}
            meta |= {"evaluation_due": True} if due else {}
            params, opt_state = averaging.exchanged(self._state.params, self._state.opt_state)
            config, tokenizer = to_values(self._run.config), self._run.tokenizer.to_json()
            save = (self.step, params, opt_state, meta, tokenizer, config)
            if self.step == self._start:  # its arrays are saved already
                self._checkpoints.amend(self.step, meta)
            elif surely:
                self._checkpoints.save_surely(*save, check=check)
            elif not self._checkpoints.save(*save):
                return
        self._stop.saved, self._saved = self.step, time.monotonic()

    def _log(self) -> None:
        """Writes the metrics of this step, and the speed since the line before."""
        with self._clock.span("steps"):
            jax.block_until_ready(self._of_step)
        with self._clock.span("writing"):
            self._write_line()

    def _write_line(self) -> None:
        run, step, writer = self._run, self.step, self._writer
        self._watch.read(self._state.params)
        counts = {k: float(v) for k, v in jax.device_get(self._of_step).items()}
        learning_rate = float(run.schedule(step - 1))
        loss, norm = counts["loss"], counts["gradient_norm"]
        means = {
            f"{o.name}/loss": counts[f"{o.name}/loss"] / max(counts[f"{o.name}/count"], 1.0)
            for o in run.objectives
        }
        metrics = {"loss": loss, "learning_rate": learning_rate, "gradient_norm": norm}
        more = means if len(means) > 1 else {}
        more |= {"skipped": self._watch.skipped} if self._watch.skipped else {}
        writer.metrics(step, metrics | more)
        speed = self._clock.read()
        writer.timing(step, speed)
        shown = {k: speed[k] for k in speed if k != "seconds"}
        self._progress.update(step, **metrics, **shown)


def _is_every(steps: int, step: int) -> bool:
    """Whether `step` is a multiple of `steps`; never for 0."""
    return steps > 0 and step % steps == 0
