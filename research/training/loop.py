"""The training loop: resume, step, log, evaluate, save."""

import dataclasses
import json
import math
import os
import signal
import threading
import time
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath
from jax.experimental import multihost_utils

from research import bucket
from research.config import Config, changed_keys, flat, is_free, of_checkpoint, to_values
from research.data.loader import Ahead
from research.errors import UserError
from research.evaluation import samples, validation
from research.monitoring import starts
from research.monitoring.progress import Progress
from research.monitoring.writers import MetricWriter
from research.sharding import mesh as meshes
from research.sharding import processes
from research.training import averaging, flops, restore
from research.training.best import Best, from_meta
from research.training.checkpoint import Checkpoints, read_info
from research.training.checkpoint_folder import absolute, steps_in
from research.training.run import Run, build, describe
from research.training.step import State


class Interrupted(Exception):
    """The run was asked to stop; the checkpoint of `step` is saved."""

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step}")
        self.step = step


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished run: its folder, its last step, the last metrics of the validation split, and the
    best step where one was looked for."""

    workdir: str
    step: int
    metrics: dict[str, float]
    best: Best


class _Stop:
    """Turns Ctrl-C and SIGTERM into what the loop reads; a second Ctrl-C ends at once, and says
    which steps are lost.

    Of several processes all stop after the same step, whichever of them was asked: jax listens to
    SIGTERM then, and agrees on a step that none has finished.
    """

    def __init__(self, step: int):
        self.asked = False
        self.saved = self.done = step  # the last one that a checkpoint has, and that was made
        self._several = jax.process_count() > 1
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_Stop":
        if self._several:
            processes.share_stops()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT,) if self._several else (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: object) -> None:
        if self.asked and number == signal.SIGINT:  # a cluster may send SIGTERM more than once
            last = f"that of step {self.saved:,}" if self.saved else "none"
            raise KeyboardInterrupt(
                f"{self.done - self.saved:,} steps are lost; the newest checkpoint is {last}"
            )
        if not self.asked and processes.first():
            text = "stopping after this step, with a checkpoint; Ctrl-C again: without one"
            os.write(2, f"\n{text}\n".encode())  # print may be at work in what was interrupted
        self.asked = True
        if self._several:
            signal.raise_signal(signal.SIGTERM)

    def after(self, step: int) -> bool:
        """Whether the run stops after this step; to be asked once for each."""
        if self._several:
            return multihost_utils.reached_preemption_sync_point(step)
        return self.asked


def train(
    config: Config,
    workdir: str,
    label: str = "train",
    quiet: bool = False,
    describe_run: bool = True,
) -> Result:
    """Trains to the config's end in `workdir`, going on from its newest good checkpoint.

    Raises:
        UserError: anything wrong with the config, its data, or a checkpoint of another run.
        Interrupted: Ctrl-C or SIGTERM, after the step's checkpoint was saved.
    """
    active = processes.first()
    quiet = quiet or not active
    processes.same(
        "their configs", to_values(config), "start all of them with the same command and code"
    )
    folder = bucket.path(workdir)
    for place in (folder, folder / "checkpoints"):
        bucket.require_writable(place)
    run = build(config, quiet=quiet)
    validation.check(run)
    if jax.process_count() > 1:
        _check_shared(run, folder)
    with (
        meshes.use(run.mesh, run.config.mesh),
        Checkpoints(
            str(folder / "checkpoints"), config.train.keep, check=config.train.check_saves
        ) as checkpoints,
    ):
        state, meta = _start(run, checkpoints, quiet)
        start = int(state.step)
        folder.mkdir(parents=True, exist_ok=True)
        start_key = run.start_key  # all processes agree on it, so all have to ask
        if active:
            text = json.dumps(to_values(run.config), indent=1)
            bucket.write_whole(folder / starts.CONFIG, text + "\n")
            found = starts.describe(run.data_key, start_key)
            starts.add(folder, found | {"step": start, "measured": run.measured_key})
        changed = changed_keys(run.config)
        with MetricWriter(folder, active, changed, run.config.train.wandb) as writer:
            writer.cut(start if start else -1)
            if describe_run and not quiet:
                print(describe(run), flush=True)
            progress = Progress(run.steps, label, start=start, active=not quiet)
            with progress, _Stop(start) as stop:
                state, metrics, best = _loop(run, state, meta, checkpoints, writer, progress, stop)
    return Result(workdir, int(state.step), metrics, best)


def _check_shared(run: Run, folder: epath.Path) -> None:
    """Raises UserError where a process has other data than the first one, or another folder."""
    checkpoints = folder / "checkpoints"
    if processes.first():
        checkpoints.mkdir(parents=True, exist_ok=True)
    processes.together("the workdir", processes.DAY)  # one may still have texts to tokenise
    processes.same(
        "what they see",
        {
            "data and tokenizer": run.data_key,
            f"{checkpoints} is there": checkpoints.is_dir(),
            "newest checkpoint": max(steps_in(absolute(str(checkpoints))), default=None),
        },
        "the workdir must be a folder that all of them share; the texts must be the same for all",
    )


def _start(run: Run, checkpoints: Checkpoints, quiet: bool) -> tuple[State, dict]:
    """The state to go on from, and its meta item."""
    if checkpoints.latest() is None:
        params, table = restore.initial_params(run)
        if run.config.init_from and not quiet:
            print(table, flush=True)
        opt_state = jax.jit(run.optimizer.init, out_shardings=run.state_shardings.opt_state)(params)
        step = jax.device_put(jnp.zeros((), jnp.int32), run.state_shardings.step)
        return State(step, params, opt_state), {"metrics": {}}

    wanted = {"params": run.state_shapes.params, "opt_state": run.state_shapes.opt_state}
    _check_same_run(run, checkpoints)
    restored = checkpoints.restore(None, wanted)
    if not quiet:
        print(f"resuming {checkpoints.directory} at step {restored.step}", flush=True)
    step = jax.device_put(jnp.asarray(restored.step, jnp.int32), run.state_shardings.step)
    return State(step, *averaging.exchanged(restored.params, restored.opt_state)), restored.meta


def _check_same_run(run: Run, checkpoints: Checkpoints) -> None:
    """Raises UserError naming each key in which the run of the checkpoints was another one."""
    info = read_info(str(checkpoints.directory))
    before = of_checkpoint(info.config, str(checkpoints.directory))
    ours, theirs = flat(to_values(run.config)), flat(to_values(before))
    differ = [
        f"  config.{key}: {theirs.get(key)!r} then, {ours.get(key)!r} now"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key) and not is_free(key)
    ]
    if info.meta["data"] != run.data_key:
        differ.append("  the data (or the tokenizer) has changed since")
    if differ:
        raise UserError(
            "\n".join(
                [
                    f"{checkpoints.directory} holds a run with another config:",
                    *differ[:8],
                    "resume it with its own config, or give a new --workdir (and "
                    "--config.init_from to start from its weights)",
                ]
            )
        )


def _loop(
    run: Run,
    state: State,
    meta: dict,
    checkpoints: Checkpoints,
    writer: MetricWriter,
    progress: Progress,
    stop: _Stop,
) -> tuple[State, dict[str, float], Best]:
    train = run.config.train
    start, metrics = int(state.step), meta["metrics"]
    best = from_meta(train.best, meta)
    checkpoints.best = best.step or None
    clock = _Clock(run)
    if _has_waited(best, train.patience):
        return state, metrics, best

    def save(step: int, last: bool, stopping: bool) -> bool:
        writer.upload()  # a run that goes on from this step finds the lines up to it
        epoch, batch = run.train.locate(step)
        found = {"metrics": metrics, "data": run.data_key, "epoch": epoch, "batch": batch}
        found |= {"best": best.to_json()} if train.best else {}
        params, opt_state = averaging.exchanged(state.params, state.opt_state)
        state_of = (step, params, opt_state, found, run.tokenizer.to_json(), to_values(run.config))
        if last or stopping:  # who stops us may not wait until it is read back
            checkpoints.save_surely(*state_of, check=not stopping)
            return True
        return checkpoints.save(*state_of)

    ahead = Ahead(run.train, start, run.steps, run.batch_sharding)
    try:
        for step in range(start + 1, run.steps + 1):
            with clock.waiting():
                batch = next(ahead)
            state, found = run.train_step(state, batch)
            stop.done = step
            clock.add(batch)
            last = step == run.steps
            if step % train.log_every == 0 or last or step == 1:
                _log(run, step, found, clock, writer, progress)
            evaluating = last or (run.eval_every and step % run.eval_every == 0)
            if evaluating:
                with clock.paused():
                    params = averaging.exchanged(*state[1:])[0]
                    metrics = validation.metrics(run, params)
                    writer.metrics(step, {f"validation/{k}": v for k, v in metrics.items()})
                    if train.samples:
                        writer.text(step, "samples", samples.shown(run, params))
                    progress.note(f"step {step:,}  {_line(metrics)}")
                best = best.after(step, metrics)
                checkpoints.best = best.step or None
            enough = evaluating and _has_waited(best, train.patience)
            if enough and not last:
                progress.note(
                    f"no better {best.metric} in {best.since} evaluations: stopping; the best, "
                    f"{best.value:.4g}, was at step {best.step:,}"
                )
            last = last or enough
            periodic = train.checkpoint_every and step % train.checkpoint_every == 0
            periodic = periodic or checkpoints.overdue()
            found_best = train.best and evaluating and best.step == step
            stopping = stop.after(step)  # once, or what is asked after the save would not be saved
            if last or periodic or stopping or found_best:
                with clock.paused():
                    _check_finite(run, step, found)
                    if save(step, last, stopping):
                        stop.saved = step
            if last:
                break
            if stopping:
                raise Interrupted(step)
    finally:
        ahead.close()
    return state, metrics, best


def _has_waited(best: Best, patience: int) -> bool:
    return patience > 0 and best.since >= patience


def _line(metrics: dict[str, float]) -> str:
    shown = "  ".join(f"{k.replace('_', ' ')} {v:.4g}" for k, v in metrics.items())
    return f"validation: {shown}"


def _check_finite(run: Run, step: int, found: dict) -> None:
    """Raises UserError where loss or gradient is not finite: such a state is never saved."""
    loss, norm = float(found["loss"]), float(found["gradient_norm"])
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise UserError(
            f"the loss of step {step} is {loss}, the norm of its gradient {norm}: training has "
            "diverged; try a lower config.optimizer.learning_rate than "
            f"{run.config.optimizer.learning_rate} or more config.optimizer.warmup"
        )


def _log(
    run: Run, step: int, found: dict, clock: "_Clock", writer: MetricWriter, progress: Progress
) -> None:
    """Writes the numbers of this step; those of speed are since the line before."""
    _check_finite(run, step, found)
    found = {k: float(v) for k, v in jax.device_get(found).items()}
    learning_rate = float(run.schedule(step - 1))
    loss, norm = found.pop("loss"), found.pop("gradient_norm")
    means = {
        f"{o.name}/loss": found[f"{o.name}/loss"] / max(found[f"{o.name}/count"], 1.0)
        for o in run.objectives
    }
    numbers = {"loss": loss, "learning_rate": learning_rate, "gradient_norm": norm}
    writer.metrics(step, numbers | (means if len(means) > 1 else {}))
    speed = clock.read()
    writer.timing(step, speed)
    progress.update(step, **numbers, **{k: speed[k] for k in speed if k != "seconds"})


class _Clock:
    """Tokens per second, MFU and the share of time waiting for data since the last reading."""

    def __init__(self, run: Run):
        self._run = run
        self._peak = flops.matmul_peak(run.model.dtype) * run.mesh.size
        self._begin()

    def _begin(self) -> None:
        self._since, self._waited, self._idle = time.perf_counter(), 0.0, 0.0
        self._tokens = self._flops = 0.0

    def waiting(self) -> "_Span":
        return _Span(lambda s: setattr(self, "_waited", self._waited + s))

    def paused(self) -> "_Span":
        return _Span(lambda s: setattr(self, "_idle", self._idle + s))

    def add(self, batch: dict[str, jax.Array]) -> None:
        """Counts a batch's row positions and its step's operations."""
        rows = batch["tokens"].shape[0]
        layout = self._run.train.layout
        self._tokens += rows * layout.length
        self._flops += flops.train_step(self._run.model, layout, rows, self._run.objectives)

    def read(self) -> dict[str, float]:
        """Speeds since the last reading; the caller has waited for the device."""
        seconds = max(time.perf_counter() - self._since - self._idle, 1e-9)
        found = {"seconds": seconds, "tokens_per_second": self._tokens / seconds}
        share = self._flops / seconds / self._peak
        # A peak that was measured while other work ran is too low: the share would be wrong too.
        found |= {"mfu": share} if share <= 1 else {}
        found["waiting"] = self._waited / seconds
        self._begin()
        return found


class _Span:
    def __init__(self, done):
        self._done = done

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self._done(time.perf_counter() - self._start)
