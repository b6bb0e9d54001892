"""`launch.py embed`."""

from pathlib import Path

import numpy as np

from research.commands import standard_input
from research.data import files, jsonl
from research.errors import UserError
from research.evaluation import embedding
from research.training.inference import load_model


def run(
    checkpoint: str, input: str, output: str, pooling: str = "mean", normalize: str = ""
) -> int:
    """Writes a vector for each text of a file: to a .npz (ids, vectors) or as JSON Lines."""
    if not output.endswith((".npz", ".jsonl")):
        raise UserError(f"--output={output} must end in .npz or .jsonl")
    jsonl.check_writable(output)
    if input == standard_input.SIGN:
        rows = standard_input.rows()
    else:
        rows = files.rows(files.find(input), text_lines=True)
    examples = [_example(row) for row in rows]
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
        pairs = zip(ids, vectors, strict=True)
        jsonl.write(output, ({"id": i, "vector": v.tolist()} for i, v in pairs))
    count, width = vectors.shape
    print(f"{count:,} vectors of {width} numbers written to {output}")
    return 0


def _example(row: files.Row) -> dict:
    names = ("text",) if "text" in row.fields else ("text_a", "text_b")
    for name in names:
        if not isinstance(row.fields.get(name), str):
            raise UserError(f"{row.where}: expected a text in 'text', or in 'text_a' and 'text_b'")
    return {"id": str(row.fields.get("id", row.fallback_id))} | {n: row.fields[n] for n in names}
