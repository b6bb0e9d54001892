"""`launch.py data`."""

from research import config as configs
from research.data import inspect
from research.errors import UserError
from research.training.run import build


def run(config: str, overrides: dict[str, str], rows: str = "3") -> int:
    """Builds tokenizer, token store and row plan as a training would, and shows them."""
    if not rows.isdecimal():
        raise UserError(f"data: --rows={rows} must be a whole number")
    for line in inspect.report(build(configs.load(config, overrides)), int(rows)):
        print(line)
    return 0
