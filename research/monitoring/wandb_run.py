"""The numbers of a run in Weights & Biases, where its package is installed."""

import hashlib
import html
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research.errors import UserError


class WandbRun:
    """One run there for one workdir: a run that goes on here goes on there.

    Without a network set WANDB_MODE=offline; `wandb sync WORKDIR/wandb/offline-run-…` sends it.
    """

    def __init__(self, project: str, workdir: str, folder: Path, config: Mapping[str, Any]):
        """
        workdir: names the run; folder: where the package keeps its files.

        Raises UserError where the package is missing.
        """
        require()
        import wandb

        self._run = wandb.init(
            project=project,
            id=hashlib.sha256(workdir.encode()).hexdigest()[:16],
            name=workdir.rstrip("/").rpartition("/")[2],
            resume="allow",
            dir=str(folder),
            config=dict(config),
        )

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Numbers of a step. Of a step before the newest there is nothing is kept."""
        self._run.log(dict(values), step=step)

    def text(self, step: int, name: str, text: str) -> None:
        """A text of a step."""
        import wandb

        self._run.log({name: wandb.Html(f"<pre>{html.escape(text)}</pre>")}, step=step)

    def close(self) -> None:
        """Sends what is left."""
        self._run.finish()


def require() -> None:
    """Raises UserError where the package is missing."""
    if importlib.util.find_spec("wandb") is None:
        raise UserError("config.train.wandb needs the package wandb: pip install wandb")
