"""`launch.py export`."""

from research.convert import exporter


def run(checkpoint: str, output: str) -> int:
    """Writes a checkpoint as a folder that transformers' `from_pretrained` loads."""
    done = exporter.export(checkpoint, output)
    for path in done.left_out:
        print(f"left out, {done.architecture} does not have it: {path}")
    print(f"written to {output}: {done.architecture}.from_pretrained({output!r}) loads it")
    return 0
