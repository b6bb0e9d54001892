"""One trial of a search in a process of its own.

    python -m research.experiments.trial FILE FOLDER [CORES]

The search gives the arguments; FOLDER has the trial's values.
"""

import json
import sys
from pathlib import Path

from research.errors import guarded
from research.experiments import children, search
from research.experiments.searcher import PARAMETERS
from research.training import loop


def main(file: str, folder: str, cores: str = "") -> int:
    """Trains it, or goes on."""
    children.as_child(cores)
    place = Path(folder)
    chosen = json.loads((place / PARAMETERS).read_text())
    config = search.trial_config(search.load(file), chosen)
    try:
        loop.train(config, folder, label=place.name, describe_run=False)
    except loop.Interrupted as stopped:
        print(f"{stopped}; its checkpoint is saved", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(*sys.argv[1:])))
