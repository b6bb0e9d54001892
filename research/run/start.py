"""Starts a run's state from new weights or from the newest good checkpoint of its workdir."""

from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from research.checkpoints.checkpoint import Checkpoints
from research.checkpoints.folder import absolute, steps_in
from research.checkpoints.reading import read_info
from research.config import flat, is_free, of_checkpoint, to_values
from research.errors import UserError, at_most, differing
from research.optim import averaging
from research.run import restore, watch
from research.run.run import Run
from research.run.step import State
from research.sharding import processes


def check_shared(run: Run, folder: epath.Path) -> None:
    """Raises UserError if a process has other data or another workdir than the first process."""
    checkpoints = folder / "checkpoints"
    if processes.first():
        checkpoints.mkdir(parents=True, exist_ok=True)
    processes.together("the workdir", processes.DAY)  # one may still have texts to tokenise
    processes.same(
        "their data or workdir",
        {
            "data and tokenizer": run.data_key,
            f"{checkpoints} is there": checkpoints.is_dir(),
            "newest checkpoint": max(steps_in(absolute(str(checkpoints))), default=None),
        },
        "all processes must share the workdir and read the same texts",
    )


def start(
    run: Run, checkpoints: Checkpoints, quiet: bool, free: tuple[str, ...] = ()
) -> tuple[State, dict[str, Any]]:
    """Returns the state to continue from, and its meta item.

    free: groups of the config that may differ from the checkpoint's run.

    Raises UserError if the checkpoints belong to another run.
    """
    losses = run.guard.first_losses()
    if checkpoints.latest() is None:
        params, table = restore.initial_params(run)
        if run.config.init_from and not quiet:
            print(table, flush=True)
        opt_state = jax.jit(run.optimizer.init, out_shardings=run.state_shardings.opt_state)(params)
        step = jax.device_put(jnp.zeros((), jnp.int32), run.state_shardings.step)
        losses = jax.device_put(losses, run.state_shardings.losses)
        return State(step, params, opt_state, losses), {"metrics": {}}

    wanted = {"params": run.state_shapes.params, "opt_state": run.state_shapes.opt_state}
    _check_same_run(run, checkpoints, free)
    info, trees = checkpoints.restore(None, wanted)
    if not quiet:
        print(f"resuming {checkpoints.directory} at step {info.step}", flush=True)
    step = jax.device_put(jnp.asarray(info.step, jnp.int32), run.state_shardings.step)
    losses = jax.device_put(watch.losses_of(info.meta, losses), run.state_shardings.losses)
    params, opt_state = averaging.exchanged(trees["params"], trees["opt_state"])
    return State(step, params, opt_state, losses), info.meta


def _check_same_run(run: Run, checkpoints: Checkpoints, free: tuple[str, ...]) -> None:
    """Raises UserError that names each key whose value differs between run and checkpoints."""
    info = read_info(str(checkpoints.directory))
    stored = of_checkpoint(info.config, str(checkpoints.directory))
    now, before = flat(to_values(run.config)), flat(to_values(stored))
    differ = [
        f"  config.{key}: {before.get(key)!r} then, {now.get(key)!r} now"
        for key in differing(now, before)
        if not is_free(key) and key.partition(".")[0] not in free
    ]
    if info.meta["data"] != run.data_key:
        differ.append("  the data (or the tokenizer) has changed since")
    if differ:
        listed = "\n".join(at_most(differ, 8))
        raise UserError(
            f"{checkpoints.directory} holds a run with another config:\n{listed}\nresume with "
            "its own config, or give a new --workdir (and --config.init_from to start from its "
            "weights); --rewind=STEP goes back to a checkpoint with another config.optimizer"
        )
