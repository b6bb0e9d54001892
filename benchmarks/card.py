"""Benchmarks one accelerator in one command: train steps, attention, generation.

    python -m benchmarks.card --output=card.json --texts=/data/tinyshakespeare
    python -m benchmarks.card --table=benchmarks/card/h200.json

Each part (`benchmarks.card_parts`) runs in its own process with a time limit: one that fails or
takes too long does not affect the others, and each has the memory to itself. Results are written at
once. --texts is a folder with tiny Shakespeare as train.jsonl.gz and validation.jsonl.gz, split as
nanoGPT splits it.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tabulate import tabulate

from research import bucket, cli
from research.data import jsonl
from research.errors import UserError, nearest
from research.values import Count
from research.verbs import Flag, Verb

VERB = Verb(
    "benchmarks.card:run",
    "benchmark one accelerator and write JSON, or print that JSON as tables",
    optional={
        "output": "file for the results, JSON",
        "texts": "folder with tiny Shakespeare's train.jsonl.gz and validation.jsonl.gz",
        "seconds": Flag("time limit of all parts together (460)", Count),
        "parts": "only these (PART,PART); the file keeps its results of the others",
        "part": "measure only this part, in this process",
        "table": "only print the tables of this file",
        "tiny": Flag("small shapes, to test on a CPU that everything runs", bool),
    },
)
Report = dict[str, Any]
STEPS = ("gpt2_small", "bert_large_128", "bert_large_512")  # parts that are train steps


def run(
    output: str = "",
    texts: str = "",
    seconds: int = 460,
    parts: str = "",
    part: str = "",
    table: str = "",
    tiny: bool = False,
) -> int:
    """Measures and writes the results, or prints the tables of earlier results."""
    if bool(output) == bool(table):
        raise UserError("give --output=FILE to measure, or --table=FILE to print its tables")
    if table:
        print("\n\n".join(tables(read(table))))
        return 0
    jsonl.check_writable(output)
    from benchmarks import card_parts  # late: a parent with jax would hold the device's memory

    wanted = [part] if part else parts.split(",") if parts else list(card_parts.PARTS)
    for name in wanted:
        if name not in card_parts.PARTS:
            raise UserError(f"no part named {name!r}{nearest(name, card_parts.PARTS)}")
    if part:
        _measure(part, output, texts, tiny)
        return 0
    report = read(output) if parts and Path(output).exists() else {}
    until = time.monotonic() + seconds
    for name in wanted:
        left = until - time.monotonic()
        left = left if tiny else min(left, card_parts.PARTS[name].seconds)
        report[name] = _child(name, left, output, texts, tiny)
        _write(output, report)
    print("\n\n".join(tables(report)))
    return 0


def read(path: str) -> Report:
    """Reads the report that a run wrote. Raises UserError if it cannot."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"--table={path}: {error}") from error


def _write(path: str, report: Report) -> None:
    text = json.dumps(report, indent=1) + "\n"
    bucket.write_whole(Path(path), text)


def _measure(part: str, output: str, texts: str, tiny: bool) -> None:
    """Measures a part in this process, and writes each case at once."""
    from benchmarks import card_parts

    report: Report = {"device": card_parts.device(), "cases": []}
    for case in card_parts.PARTS[part].measure(tiny, texts):
        report["cases"].append(case)
        _write(output, report)
        print(f"{part}: {_short(case)}", flush=True)


def _child(part: str, seconds: float, output: str, texts: str, tiny: bool) -> Report:
    """Measures a part in a new process, for at most `seconds`; returns its report."""
    path, start = Path(f"{output}.{part}"), time.monotonic()
    command = [sys.executable, "-m", "benchmarks.card", f"--part={part}", f"--output={path}"]
    command += [f"--texts={texts}"] if texts else []
    command += ["--tiny"] if tiny else []
    error = ""
    if seconds < 10:
        return {"cases": [], "error": "no time was left"}
    try:
        done = subprocess.run(command, timeout=seconds, stderr=subprocess.PIPE, check=False)
        if done.returncode:
            error = done.stderr.decode(errors="replace")[-2000:]
    except subprocess.TimeoutExpired:
        error = f"stopped after {seconds:.0f} s"
    if error:
        print(f"{part}: {error}", flush=True)
    report = read(str(path)) if path.exists() else {"cases": []}
    path.unlink(missing_ok=True)
    return report | {"seconds": time.monotonic() - start} | ({"error": error} if error else {})


def _short(case: Report) -> str:
    """A case on one line: its numbers and texts."""
    plain = {k: v for k, v in case.items() if isinstance(v, str | int | float)}
    return "  ".join(
        f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in plain.items()
    )


def tables(report: Report) -> Iterator[str]:
    """Yields the tables of a report, in Markdown."""

    def cases(name: str) -> list[Report]:
        measured = report[name]["cases"] if name in report else []
        return [case for case in measured if "error" not in case]

    products = {c["case"].rpartition(", ")[2]: c["flops"] for c in cases("machine")}
    reached = ", ".join(f"{v / 1e12:,.0f} TFLOP/s of {k}" for k, v in products.items())
    where = next(iter(report.values()))["device"]
    yield f"{where['device']}, jax {where['jax']}: a matrix product in bfloat16 reaches {reached}."
    steps = [(name, case) for name in STEPS for case in cases(name)]
    yield _table(
        "train step|rows|dropout|remat|attention|step|rows/s|tokens/s|MFU|step memory",
        [
            [
                name,
                c["case"],
                c["dropout"],
                c["remat"],
                c["attention"],
                f"{1e3 * statistics.median(c['step_seconds']):,.0f} ms",
                f"{c['rows_per_second']:,.0f}",
                f"{c['tokens_per_second']:,.0f}",
                f"{c['mfu']:.1%}" if c["mfu"] else "",
                f"{c['memory']['step'] / 2**30:,.1f} GiB",
            ]
            for name, c in steps
        ],
    )
    profiles = [(name, c["case"], c["profile"]["kinds"]) for name, c in steps if c["profile"]]
    yield _table(
        "profile of a step|rows|matrix products|copies|others",
        [
            [name, rows, *(f"{kinds[k]:,.0f} ms" for k in ("matrix products", "copies", "others"))]
            for name, rows, kinds in profiles
        ],
    )
    yield _table(
        "attention alone, forward and backward|kernel|time|temporaries|difference of the result",
        [
            [
                f"{c['case']}, {c['rows']} x {c['length']}, {c['heads']} heads",
                c["kernel"],
                f"{1e3 * c['seconds']:,.2f} ms",
                f"{c['temporaries'] / 2**20:,.0f} MiB",
                f"{c['difference'][0]:.1g}",
            ]
            for c in cases("attention")
        ],
    )
    yield _table(
        "generation, rows x prompt + new tokens|time|tokens/s",
        [
            [c["case"], f"{1e3 * c['seconds']:,.0f} ms", f"{c['tokens_per_second']:,.0f}"]
            for c in cases("generation")
        ],
    )
    yield _table(
        "a run that went on from its middle|arrays|bit-equal",
        [[c["case"], c["arrays"], c["same"]] for c in cases("resumed")],
    )
    yield _table(
        "tiny Shakespeare|wanted loss|reached|best|tokens/s|waiting for data",
        [
            [
                c["case"],
                c["wanted"],
                _point(c["reached"]),
                _point(c["best"]),
                f"{c['tokens_per_second']:,.0f}",
                f"{c['waiting']:.0%}",
            ]
            for c in cases("shakespeare")
        ],
    )


def _point(point: Report | None) -> str:
    if not point:
        return "no"
    return f"{point['loss']:.4f} at step {point['step']:,}, {point['seconds']:.0f} s"


def _table(head: str, rows: list[list[Any]]) -> str:
    return tabulate(rows, head.split("|"), tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    sys.exit(cli.program("benchmarks.card", VERB))
