"""`launch.py train`."""

import shlex
import sys

from research import config as configs
from research.config import Config
from research.errors import UserError
from research.lab.launchers import launch
from research.lab.launchers.request import Request


def run(
    config: str,
    workdir: str,
    overrides: dict[str, str],
    options: dict[str, str],
    on: str = launch.LOCAL,
    dry_run: bool = False,
    rewind: int | None = None,
) -> int:
    """Trains, here or where `on` and its options say."""
    launch.check(on, options)
    loaded = configs.load(config, overrides)
    flags = tuple(f"--config.{k}={v}" for k, v in overrides.items())
    if on == launch.LOCAL and not dry_run:
        return _train(loaded, config, workdir, flags, rewind)
    if rewind is not None:
        raise UserError("train: --rewind needs a run on this machine, without --on")
    request = Request("train", config, workdir, flags, (loaded,))
    return launch.launch(request, on, options, dry_run)


def _train(
    loaded: Config, config: str, workdir: str, flags: tuple[str, ...], rewind: int | None
) -> int:
    """Trains here; prints the result, or after an interrupt the command that resumes."""
    # jax is imported late: a launch elsewhere does not need it
    from research.sharding import processes
    from research.training import loop

    try:
        result = loop.train(
            loaded, workdir, label="pretrain" if loaded.objective else "finetune", rewind=rewind
        )
    except loop.Interrupted as stopped:
        processes.together("the end")
        if not processes.first():
            return 130
        again = ["python", "launch.py", "train", f"--config={config}", f"--workdir={workdir}"]
        print(f"\n{stopped}; its checkpoint is saved. To resume:\n  {shlex.join([*again, *flags])}")
        return 130
    processes.together("the end")
    if not processes.first():
        return 0
    measured = "  ".join(f"{k.replace('_', ' ')} {v:.4g}" for k, v in result.metrics.items())
    print(f"done: step {result.step:,}  validation: {measured}\ncheckpoint: {workdir}")
    sys.stdout.flush()
    return 0
