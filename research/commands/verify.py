"""`launch.py verify`."""

from research.checkpoints import arrays as checkpoint_arrays
from research.checkpoints.folder import locate, steps_in


def run(checkpoint: str) -> int:
    """Reads every step of a checkpoint and prints which are damaged; returns 2 if any is."""
    directory, step = locate(checkpoint)
    reasons = {}
    for number in steps_in(directory) if step is None else [step]:
        reasons[number] = checkpoint_arrays.damage(directory / str(number))
        state = f"damaged: {reasons[number]}" if reasons[number] else "good"
        print(f"{directory / str(number)}: {state}", flush=True)
    bad = sum(map(bool, reasons.values()))
    print(f"{len(reasons) - bad} good, {bad} damaged")
    return 2 if bad else 0
