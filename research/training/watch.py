"""What is done about bad steps: their verdicts are read where the loop looks at numbers anyway."""

import dataclasses
import functools
import io
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from research.errors import Diverged
from research.models import params as parameters
from research.models import transformer
from research.objectives.protocol import Batch
from research.sharding import processes
from research.training import step as steps
from research.training.guard import BROKEN, GOOD
from research.training.run import Run

MOST_UNREAD = 100  # steps whose verdicts wait to be read
DIVERGED = 10.0  # times the loss of guessing, or of the first step: it has not learned
FOLDER = "bad_batches"


class RolledBack(Exception):
    """A bad step, from which the run goes back to its last checkpoint; the batches of the steps
    between them are left out."""

    def __init__(self, step: int):
        super().__init__(f"step {step} is bad")
        self.step = step


class Watch:
    """The verdicts of a run's steps.

    In a run of several processes all of them read the same verdicts and do the same.
    """

    def __init__(self, run: Run, folder: epath.Path, meta: dict[str, Any]):
        """meta: of the checkpoint that the run goes on from."""
        found = meta.get("watch", {})
        self.skipped, self._in_a_row = found.get("skipped", 0), found.get("in_a_row", 0)
        self.offset = found.get("offset", 0)  # batches that were left out by going back
        self._first_loss = found.get("first_loss", 0.0)
        self._run, self._folder = run, folder
        self._unread: list[tuple[int, jax.Array, jax.Array]] = []

    def to_json(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {
            "skipped": self.skipped,
            "in_a_row": self._in_a_row,
            "offset": self.offset,
            "first_loss": self._first_loss,
        }

    def add(self, step: int, found: dict[str, jax.Array], params: Any) -> None:
        """Notes the verdict of a step, without waiting for it."""
        self._unread.append((step, found["verdict"], found["loss"]))
        if len(self._unread) >= MOST_UNREAD:
            self.read(params)

    def read(self, params: Any) -> None:
        """Reads all verdicts that are there, waiting for the last step.

        Raises:
            Diverged: a step is bad and config.train.on_bad_step is "stop", or too many are.
            RolledBack: a step is bad, and the run is to go back.
        """
        unread, self._unread = self._unread, []
        losses = []
        for step, verdict, loss in jax.device_get(unread):
            losses.append(float(loss))
            if step == 1:
                self._first_loss = losses[0] if math.isfinite(losses[0]) else 0.0
            if verdict == GOOD:
                self._in_a_row = 0
            elif verdict == BROKEN:
                raise self._diverged(
                    step, losses[-1], "its parameters are not finite", self._first_in(params)
                )
            else:
                self._bad(step, losses[-1], params)
        limit = DIVERGED * max(math.log(self._run.model.vocab_size), self._first_loss)
        if losses and min(losses) > limit:
            raise self._diverged(
                unread[-1][0], losses[-1], f"a loss above {limit:.4g} is worse than guessing", ""
            )

    def _bad(self, step: int, loss: float, params: Any) -> None:
        train = self._run.config.train
        what = "its loss is a spike" if math.isfinite(loss) else "its loss is not finite"
        if math.isfinite(loss) and not train.spike:
            what = "its gradient is not finite"
        if train.on_bad_step == "rollback":
            raise RolledBack(step)
        if train.on_bad_step == "stop":
            raise self._diverged(step, loss, what, self._first_of(step, params))
        self.skipped += 1
        self._in_a_row += 1
        batch = self.batch(step)
        written = self._write(step, batch)
        if processes.first():
            print(f"\nstep {step:,} is left out: {what} ({loss:.4g}); its batch: {written}")
        if self._in_a_row >= train.bad_steps:
            raise self._diverged(
                step,
                loss,
                f"{self._in_a_row} steps in a row were bad (config.train.bad_steps)",
                self._first_of(step, params),
            )

    def batch(self, step: int) -> Batch:
        """The rows of the batch that a step took."""
        return self._run.train.batch(step - 1 + self.offset)

    def _write(self, step: int, batch: Batch) -> str:
        """Writes a batch aside; returns where."""
        place = self._folder / FOLDER / f"{step}.npz"
        if processes.first():
            place.parent.mkdir(parents=True, exist_ok=True)
            content = io.BytesIO()
            np.savez_compressed(content, **batch)
            place.write_bytes(content.getvalue())
        return str(place)

    def _diverged(self, step: int, loss: float, what: str, first: str) -> Diverged:
        c = self._run.config.optimizer
        return Diverged(
            f"training has diverged at step {step:,}: {what}; the loss is {loss:.4g}"
            f"{f'; not finite first: {first}' if first else ''}. Nothing of it is saved. Try a "
            f"lower config.optimizer.learning_rate than {c.learning_rate} or more "
            "config.optimizer.warmup, from the last checkpoint with --rewind=STEP"
        )

    def _first_in(self, params: Any) -> str:
        return next(iter(not_finite(params)), "")

    def _first_of(self, step: int, params: Any) -> str:
        """The first part that is not finite, in the order of the forward pass: of the parameters,
        then of what the layers make of the step's batch, then of the gradient."""
        if jax.process_count() > 1:  # a part of a batch is not the batch of all
            return self._first_in(params)
        return self._first_in(params) or first_layer(self._run, params, self.batch(step))


def not_finite(tree: Any) -> list[str]:
    """Paths of what is not finite, "PATH, layer 3" within a stack of layers."""

    @jax.jit
    def finite(tree: Any) -> dict[str, jax.Array]:
        return {
            path: jnp.isfinite(x).all(
                axis=tuple(range(1 if path.startswith(parameters.STACKED) else 0, x.ndim))
            )
            for path, x in parameters.by_path(tree).items()
        }

    found = []
    for path, good in sorted(jax.device_get(finite(tree)).items()):
        at = np.flatnonzero(~np.atleast_1d(good))
        if at.size:
            found.append(f"{path}, layer {at[0]}" if path.startswith(parameters.STACKED) else path)
    return found


def first_layer(run: Run, params: Any, batch: Batch) -> str:
    """The first part of the forward pass, or else of the gradient, that is not finite; "" if all
    is. Dropout is off."""
    backbone, pattern = params["backbone"], run.objectives[0].pattern
    part = steps.rows_of(run.objectives[0], {k: jnp.asarray(v) for k, v in batch.items()})

    @functools.partial(jax.jit, static_argnums=2)
    def finite(backbone: Any, part: Batch, layers: int) -> jax.Array:
        cut = backbone | {"layers": jax.tree.map(lambda x: x[:layers], backbone["layers"])}
        model = dataclasses.replace(run.model, layers=layers)
        return jnp.isfinite(transformer.apply(cut, model, part, pattern)).all()

    def embedded(backbone: Any, part: Batch) -> jax.Array:
        places = (part["tokens"], part["positions"], part["token_types"])
        return jnp.isfinite(transformer.embed(backbone, run.model, *places)).all()

    if not jax.jit(embedded)(backbone, part):
        return "the embedding"
    if not finite(backbone, part, run.model.layers):
        low, high = 0, run.model.layers  # the output of `low` layers is finite, of `high` not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if finite(backbone, part, middle) else (low, middle)
        return f"layer {low}"
    gradient = jax.jit(
        lambda p, b: steps.gradients(p, run.model, run.objectives, b, None, 1, run.frozen)[0]
    )(params, batch)
    paths = not_finite(gradient)
    return f"the gradient of {paths[0]}" if paths else ""
