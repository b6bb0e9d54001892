"""Makes a checkpoint of the format that the code writes now, with what is to come of it.

    python -m tests.formats.make NAME

Once for each format (`FORMAT` of research.checkpoints.folder): what was made stays as it
is, and is read for ever after. NAME.tar.xz has a step of a run, NAME.json what the run's next steps
and an evaluation of that step give.
"""

import json
import os
import sys
import tarfile
import tempfile
from pathlib import Path

from research import cli
from tests import helpers
from tests.integration.conftest import write_config

FOLDER = Path(__file__).parent
STEPS, SAVED = 4, 2


def write_run(folder: Path) -> str:
    """Writes the data and the config file of the run into `folder`, which has to be the current
    one: the run knows its data by relative paths. Returns the config file."""
    values = helpers.run_values("bert", folder, steps=STEPS, checkpoint_every=SAVED)
    values["model"] |= {"width": 8, "mlp_width": 16, "layers": 1, "heads": 2}
    values["tokenizer"] = {"kind": "wordpiece", "vocab_size": 80}
    values["data"] |= {"corpus": ["files:corpus.jsonl"], "cache": "cache"}
    return write_config(folder / "config.py", values)


def after(workdir: Path) -> list[dict]:
    """The lines of metrics after the saved step."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["step"] > SAVED]


def evaluated(checkpoint: Path) -> dict:
    """What `evaluate` writes of a step."""
    assert cli.main(["evaluate", f"--checkpoint={checkpoint}"]) == 0
    (file,) = checkpoint.parents[1].glob("evaluation_validation.json")
    return json.loads(file.read_text())["metrics"]


def main(name: str) -> None:
    """See the module's text."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        config = write_run(Path(folder))
        assert cli.main(["train", f"--config={config}", "--workdir=run"]) == 0
        step = Path(folder, "run", "checkpoints", str(SAVED))
        expected = {"resumed": after(Path("run")), "evaluated": evaluated(step)}
        with tarfile.open(FOLDER / f"{name}.tar.xz", "w:xz") as file:
            file.add(step, str(SAVED))
        (FOLDER / f"{name}.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
