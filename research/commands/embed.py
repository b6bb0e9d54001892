"""`launch.py embed`."""

from pathlib import Path

import numpy as np

from research.data import files, formats, jsonl
from research.errors import UserError
from research.evaluation import embedding
from research.training.inference import load_model


def run(
    checkpoint: str,
    input: str,
    output: str,
    pooling: str = "mean",
    normalize: str = "",
    format: str = "",
) -> int:
    """Writes a vector for each text of a file: to a .npz (ids, vectors) or as JSON Lines."""
    if not output.endswith((".npz", ".jsonl")):
        raise UserError(f"--output={output} must end in .npz or .jsonl")
    jsonl.check_writable(output)
    formats.check(format)
    paths = files.find(input, format)
    examples = [_example(row) for row in files.rows(paths, format=format, document="line")]
    if not examples:
        raise UserError(f"{input} is empty: there is not one text in it")
    vectors = embedding.embed(load_model(checkpoint), examples, pooling, quiet=False)
    if normalize:
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    ids = [example["id"] for example in examples]
    if output.endswith(".npz"):
        part = Path(f"{output}.part")
        with open(part, "wb") as file:
            np.savez(file, ids=np.array(ids), vectors=vectors)
        part.replace(output)
    else:
        rows = ({"id": i, "vector": v.tolist()} for i, v in zip(ids, vectors, strict=True))
        jsonl.write(output, rows)
    count, width = vectors.shape
    print(f"{count:,} vectors of {width} numbers written to {output}")
    return 0


def _example(row: files.Row) -> dict:
    if row.left_out:
        raise UserError(f"{row.where}: {row.left_out}")
    names = ("text",) if "text" in row.fields else ("text_a", "text_b")
    for name in names:
        if not isinstance(row.fields.get(name), str):
            raise UserError(f"{row.where}: expected a text in 'text', or in 'text_a' and 'text_b'")
    return {"id": str(row.fields.get("id", row.fallback_id))} | {n: row.fields[n] for n in names}
