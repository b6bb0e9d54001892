"""`launch.py evaluate`."""

from research.data import jsonl
from research.errors import UserError
from research.evaluation import splits


def run(
    checkpoint: str, overrides: dict[str, str], split: str = "validation", output: str = ""
) -> int:
    """Prints the metrics of a split, and writes them beside the checkpoint."""
    loaded = splits.load(checkpoint, overrides)
    if output:
        if loaded.task is None:
            raise UserError(
                "evaluate: --output writes a task's predictions; a pre-training's evaluation has "
                "losses only (predict has its fillings and next tokens)"
            )
        jsonl.check_writable(output)
    found = splits.evaluate(loaded, split)
    count = f", {len(found.examples):,} examples" if found.examples else ""
    print(f"step {loaded.info.step:,}, {split} ({splits.source_of(loaded.config, split)}){count}")
    width = max(map(len, found.metrics))
    for name, value in found.metrics.items():
        print(f"  {name:<{width}}  {value:.4f}")
    written = [splits.record(checkpoint, split, loaded, found, overrides)]
    if output:
        pairs = zip(found.examples, found.predictions, strict=True)
        jsonl.write(output, ({"id": e["id"]} | p for e, p in pairs))
        written.append(output)
    print(f"written: {', '.join(written)}")
    return 0
