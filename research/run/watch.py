"""Acts on bad steps: reads the verdicts of finished steps, then skips, goes back or stops."""

import dataclasses
import functools
import io
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from research.errors import Diverged
from research.models import params as parameters
from research.models import transformer
from research.objectives.objective import Batch
from research.run import step as steps
from research.run.guard import BAD, BROKEN
from research.run.run import Run
from research.sharding import processes

# A run has diverged, though its numbers are finite, if its loss is FAR_WORSE times that of guessing
# or of the first step: at the end, or IN_A_ROW times in a row.
FAR_WORSE, IN_A_ROW = 10.0, 20
FOLDER = "bad_batches"


class RolledBack(Exception):
    """A bad step: the run goes back to its last checkpoint and leaves out the batches since."""

    def __init__(self, step: int, why: str):
        super().__init__(f"step {step:,} is bad: {why}")
        self.step = step


class Watch:
    """Follows the verdicts of a run's steps. All processes read the same verdicts and act alike."""

    def __init__(self, run: Run, folder: epath.Path, meta: Mapping[str, Any]):
        """meta: meta item of the checkpoint that the run continues from."""
        known = meta.get("watch", {})
        self.skipped: int = known.get("skipped", 0)
        self.offset: int = known.get("offset", 0)  # number of batches left out by going back
        self._returns: int = known.get("returns", 0)
        self._in_a_row: int = known.get("in_a_row", 0)
        self._first_loss: float = known.get("first_loss", 0.0)
        self._far_worse, self._loss = 0, 0.0
        self._run, self._folder = run, folder
        self._unread: list[tuple[int, jax.Array, jax.Array]] = []

    def to_json(self, losses: Any) -> dict[str, Any]:
        """Returns the JSON value that a checkpoint stores, with the state's losses."""
        values = {
            "skipped": self.skipped,
            "offset": self.offset,
            "returns": self._returns,
            "in_a_row": self._in_a_row,
            "first_loss": self._first_loss,
        }
        if jax.tree.leaves(losses):
            floats = np.asarray(losses).tolist()
            values["losses"] = [value if math.isfinite(value) else None for value in floats]
        return values

    def add(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Notes the verdict of a step, without waiting for it."""
        self._unread.append((step, metrics["verdict"], metrics["loss"]))

    def read(self, params: Any, newest: bool = True) -> None:
        """Reads the noted verdicts; newest: also that of the last step, which may block.

        Raises:
            Diverged: a step is bad and config.train.on_bad_step is "stop", or too many are.
            RolledBack: a step is bad and config.train.on_bad_step is "rollback".
        """
        count = len(self._unread) - (not newest)
        read, self._unread = self._unread[:count], self._unread[count:]
        for step, verdict, loss in jax.device_get(read):
            self._judge(step, int(verdict), float(loss), params)

    def end(self, step: int) -> None:
        """Raises Diverged if the last loss is far worse than guessing."""
        if self._far_worse:
            raise self._diverged(step, "it ends with a loss that is far worse than guessing")

    def after_return(self, bad: RolledBack, step: int, meta: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the watch values to continue with from the checkpoint of `step`, after going back
        from the bad step.

        Raises Diverged after too many returns.
        """
        if self._returns >= self._run.config.train.bad_steps:
            raise self._diverged(bad.step, f"the run has gone back {self._returns} times")
        known = {"offset": self.offset + bad.step - step, "returns": self._returns + 1}
        return meta.get("watch", {}) | known

    def _judge(self, step: int, verdict: int, loss: float, params: Any) -> None:
        self._loss = loss
        if step == 1 and math.isfinite(loss):
            self._first_loss = loss
        if verdict == BAD:
            self._bad(step, params)
            return
        if verdict == BROKEN:
            first = next(iter(not_finite(params)), "their norm")
            raise self._diverged(step, f"the step leaves parameters that are not finite: {first}")
        self._in_a_row = 0
        limit = FAR_WORSE * max(math.log(self._run.model.vocab_size), self._first_loss)
        self._far_worse = self._far_worse + 1 if loss > limit else 0
        if self._far_worse >= IN_A_ROW:
            raise self._diverged(step, f"{IN_A_ROW} losses in a row are above {limit:.4g}")

    def _bad(self, step: int, params: Any) -> None:
        train = self._run.config.train
        why = "its loss or its gradient is not finite"
        if train.spike and math.isfinite(self._loss):
            why += f", or its loss is above config.train.spike={train.spike:g} times the median"
        if train.on_bad_step == "rollback":
            raise RolledBack(step, why)
        if train.on_bad_step == "stop":
            again = "the same command with --config.train.on_bad_step=skip "
            again += "--config.train.bad_steps=1 names the first layer that is not finite"
            raise self._diverged(step, f"{why}; {again}")
        self.skipped += 1
        self._in_a_row += 1
        batch = self._run.train.batch(step - 1 + self.offset)
        if processes.first():
            place, content = self._folder / FOLDER / f"{step}.npz", io.BytesIO()
            np.savez_compressed(content, **batch)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content.getvalue())
            what = f"its loss is {self._loss:.4g}; its batch is in {place}"
            print(f"\nleaving out step {step:,}: {why}; {what}")
        if self._in_a_row >= train.bad_steps:
            first = first_layer(self._run, params, batch)
            raise self._diverged(
                step,
                f"{self._in_a_row} bad steps in a row (config.train.bad_steps); the first value "
                f"that is not finite: {first or 'none without dropout'}",
            )

    def _diverged(self, step: int, what: str) -> Diverged:
        rate = self._run.config.optimizer.learning_rate
        return Diverged(
            f"training has diverged at step {step:,} (loss {self._loss:.4g}): {what}. Its state is "
            f"not saved. Try a config.optimizer.learning_rate below {rate} or more "
            "config.optimizer.warmup; --rewind=STEP goes back to an earlier checkpoint"
        )


def losses_of(meta: Mapping[str, Any], fresh: Any) -> Any:
    """Returns the losses that `Watch.to_json` stored in a checkpoint, or `fresh` without any."""
    kept = meta.get("watch", {}).get("losses")
    if not kept or not jax.tree.leaves(fresh):
        return fresh
    return jnp.asarray([jnp.nan if value is None else value for value in kept], jnp.float32)


def not_finite(tree: Any) -> list[str]:
    """Returns the paths of leaves that are not finite, "PATH, layer 3" within a stack of layers."""

    @jax.jit
    def finite(tree: Any) -> dict[str, jax.Array]:
        return {
            path: jnp.isfinite(x).all(
                axis=tuple(range(int(bool(parameters.stack_of(path))), x.ndim))
            )
            for path, x in parameters.by_path(tree).items()
        }

    odd = []
    for path, good in sorted(jax.device_get(finite(tree)).items()):
        wrong = np.flatnonzero(~np.atleast_1d(good))
        if wrong.size:
            odd.append(f"{path}, layer {wrong[0]}" if parameters.stack_of(path) else path)
    return odd


def first_layer(run: Run, params: Any, batch: Batch) -> str:
    """Names the first value that is not finite: in the parameters, in the layers' outputs for a
    batch (in order), in the gradient; "" if all are finite. Dropout is off."""
    if odd := not_finite(params):
        return f"the parameter {odd[0]}"
    backbone, pattern = params["backbone"], run.objectives[0].pattern
    rows = steps.rows_of(run.objectives[0], batch)

    @functools.partial(jax.jit, static_argnums=2)
    def is_finite(backbone: Any, rows: Batch, layers: int) -> jax.Array:
        cut = backbone | {"layers": jax.tree.map(lambda x: x[:layers], backbone["layers"])}
        model = dataclasses.replace(run.model, layers=layers)
        return jnp.isfinite(transformer.apply(cut, model, rows, pattern)).all()

    if not is_finite(backbone, rows, run.model.layers):
        low, high = 0, run.model.layers  # the output of `high` layers is not finite
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if is_finite(backbone, rows, middle) else (low, middle)
        return f"the output of layer {low}"
    gradient = jax.jit(
        lambda p, b: steps.gradients(p, run.model, run.objectives, b, None, 1, run.frozen)[0]
    )(params, batch)
    odd = not_finite(gradient)
    return f"the gradient of {odd[0]}" if odd else ""
