"""What one accelerator does with this code, in one command: train steps, attention, generation.

    python -m benchmarks.card --output=card.json --texts=/data/tinyshakespeare
    python -m benchmarks.card --table=benchmarks/card/h200.json

Each part (`benchmarks.card_parts`) is a process of its own with a limit of time, so that one that
fails or takes too long costs itself alone, and the memory that it has is its own. What is measured
is written at once. --texts is for tiny Shakespeare: a folder with train.jsonl.gz and
validation.jsonl.gz, the text split as nanoGPT splits it.
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
    "what one accelerator does with this code, in JSON, and that JSON as tables",
    optional={
        "output": "file for what is measured, JSON",
        "texts": "folder with tiny Shakespeare's train.jsonl.gz and validation.jsonl.gz",
        "seconds": Flag("of all parts together (460)", Count),
        "parts": "only these (PART,PART); the others stay as they are in the file",
        "part": "measure this part alone, in this process",
        "table": "print the tables of this file, and measure nothing",
        "tiny": Flag("shapes for a CPU: whether it runs, not how fast", bool),
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
    """Measures, or prints the tables of what was measured."""
    if bool(output) == bool(table):
        raise UserError("give --output=FILE to measure, or --table=FILE to print what it holds")
    if table:
        print("\n\n".join(tables(read(table))))
        return 0
    jsonl.check_writable(output)
    from benchmarks import card_parts  # jax: a parent that held the device would leave it no memory

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
    """What a run wrote."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"--table={path}: {error}") from error


def _write(path: str, report: Report) -> None:
    text = json.dumps(report, indent=1) + "\n"
    bucket.write_whole(Path(path), text)


def _measure(part: str, output: str, texts: str, tiny: bool) -> None:
    """Measures a part here, and writes each case when it is known."""
    from benchmarks import card_parts

    found: Report = {"device": card_parts.device(), "cases": []}
    for case in card_parts.PARTS[part].measure(tiny, texts):
        found["cases"].append(case)
        _write(output, found)
        print(f"{part}: {_short(case)}", flush=True)


def _child(part: str, seconds: float, output: str, texts: str, tiny: bool) -> Report:
    """A part's cases, measured in a process that has at most `seconds`."""
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
    found = read(str(path)) if path.exists() else {"cases": []}
    path.unlink(missing_ok=True)
    return found | {"seconds": time.monotonic() - start} | ({"error": error} if error else {})


def _short(case: Report) -> str:
    """A case in a line: what is a number or a short text."""
    plain = {k: v for k, v in case.items() if isinstance(v, str | int | float)}
    return "  ".join(
        f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in plain.items()
    )


def tables(report: Report) -> Iterator[str]:
    """The tables of a report, in Markdown."""

    def cases(name: str) -> list[Report]:
        found = report[name]["cases"] if name in report else []
        return [case for case in found if "error" not in case]

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
