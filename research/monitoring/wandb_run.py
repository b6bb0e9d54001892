"""The numbers of a run in Weights & Biases, where its package is installed."""

import html
import importlib.util
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research.errors import UserError

ID = "wandb_id"  # a file of the workdir


class WandbRun:
    """One run there for one workdir: a run that goes on here goes on there.

    Without a network set WANDB_MODE=offline; `wandb sync WORKDIR/wandb/offline-run-…` sends it.
    """

    def __init__(self, project: str, workdir: str, folder: Path, config: Mapping[str, Any]):
        """
        workdir: names the run; folder: where the package keeps its files, and ID the run's key.

        Raises UserError where the package is missing.
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
        """Numbers of a step; there, those of a step before the newest one are dropped."""
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
        raise UserError("config.train.wandb needs the package wandb: python -m pip install wandb")
