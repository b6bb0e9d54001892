"""`launch.py train`."""

import shlex
import sys

from research import config as configs
from research.sharding import processes
from research.training import loop


def run(config: str, workdir: str, overrides: dict[str, str]) -> int:
    """Trains, and says where the checkpoint is and what can be done with it."""
    loaded = configs.load(config, overrides)
    try:
        result = loop.train(loaded, workdir, label="pretrain" if loaded.objective else "finetune")
    except loop.Interrupted as stopped:
        processes.together("the end")
        if not processes.first():
            return 130
        again = ["python", "launch.py", "train", f"--config={config}", f"--workdir={workdir}"]
        again += [f"--config.{k}={v}" for k, v in overrides.items()]
        print(f"\n{stopped}; its checkpoint is saved. To go on:\n  {shlex.join(again)}")
        return 130
    processes.together("the end")
    if not processes.first():
        return 0
    numbers = "  ".join(f"{k.replace('_', ' ')} {v:.4g}" for k, v in result.metrics.items())
    print(f"done: step {result.step:,}  validation: {numbers}\ncheckpoint: {workdir}")
    sys.stdout.flush()
    return 0
