"""Logs a run's metrics to Weights & Biases, if its package is installed."""

import html
import importlib.util
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research.errors import UserError

ID = "wandb_id"  # a file of the workdir


class WandbRun:
    """One W&B run for one workdir: if the workdir's run resumes, so does the W&B run.

    Without a network set WANDB_MODE=offline; `wandb sync WORKDIR/wandb/offline-run-…` uploads it.
    """

    def __init__(self, project: str, workdir: str, folder: Path, config: Mapping[str, Any]):
        """
        workdir: names the run; folder: holds the package's files and the run's key (ID).

        Raises UserError if the package is missing.
        """
        require()
        import wandb

        if not (folder / ID).exists():
            (folder / ID).write_text(uuid.uuid4().hex)
        self._run = wandb.init(
            project=project,
            id=(folder / ID).read_text(),
            name=workdir.rstrip("/").rpartition("/")[2],
            resume="allow",
            dir=str(folder),
            config=dict(config),
        )

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Logs values of a step; W&B drops those of a step before its newest one."""
        self._run.log(dict(values), step=step)

    def text(self, step: int, name: str, text: str) -> None:
        """Logs a text of a step."""
        import wandb

        self._run.log({name: wandb.Html(f"<pre>{html.escape(text)}</pre>")}, step=step)

    def close(self) -> None:
        """Sends the remaining values and ends the W&B run."""
        self._run.finish()


def require() -> None:
    """Raises UserError if the package is missing."""
    if importlib.util.find_spec("wandb") is None:
        raise UserError("config.train.wandb needs the package wandb: python -m pip install wandb")
