"""`launch.py data`."""

from research import config as configs
from research.commands.numbers import whole
from research.data import inspect
from research.training.run import build


def run(config: str, overrides: dict[str, str], rows: str = "3") -> int:
    """Builds tokenizer, token store and row plan as a training would, and shows them."""
    count = whole("rows", rows, least=0)
    for line in inspect.report(build(configs.load(config, overrides)), count):
        print(line)
    return 0
