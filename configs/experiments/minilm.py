"""A public sentence encoder on public benchmarks, against new weights of the same shape.

    make .cache/public/minilm
    python launch.py experiment --config=configs/experiments/minilm.py:set=wnut17,folder=/data

The encoder is all-MiniLM-L6-v2 (22.7 M parameters). The data sets are not shipped: the folder must
have NAME/train.jsonl.gz, validation and test for the names below, with the fields of docs/tasks.md.
benchmarks/finetune.py repeats the runs in PyTorch with the same batch sizes, epochs and learning
rates; the rate is not tuned for new weights. On 2 CPU cores a run takes 5 minutes for wnut17, 3 for
wikiann, 6 for tweeteval, 20 for xquad. Finding: the same scores as PyTorch with the same weights,
in half its time, on xquad in two thirds (docs/results.md).
"""

from typing import NamedTuple

from research.config import arguments
from research.errors import UserError, nearest
from research.lab.experiment import Experiment, Run
from research.lab.table import Column, Table

ENCODER = ".cache/public/minilm"


class Benchmark(NamedTuple):
    """A data set: its config in configs/finetune, the folder with its train and validation files,
    and the folder with its test file."""

    config: str
    train: str
    test: str
    baseline: str
    metrics: tuple[str, ...]
    overrides: dict


def _tags(*kinds: str) -> tuple[str, ...]:
    return ("O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI"))


SETS = {
    # SemEval-2017 task 4 A (Rosenthal et al. 2017) as TweetEval has it (Barbieri et al. 2020).
    "tweeteval": Benchmark(
        "sentiment",
        "tweeteval_sentiment",
        "tweeteval_sentiment",
        "linear_svm",
        ("macro_recall", "accuracy"),
        {"train.epochs": 3.0, "optimizer.learning_rate": 1e-4},
    ),
    # Emerging entities (Derczynski et al. 2017).
    "wnut17": Benchmark(
        "named_entities",
        "wnut17",
        "wnut17",
        "frequent_tag",
        ("f1",),
        {
            "train.epochs": 6.0,
            "optimizer.learning_rate": 2e-4,
            "task.labels": _tags(
                "person", "location", "corporation", "group", "product", "creative-work"
            ),
        },
    ),
    # English WikiANN (Pan et al. 2017), the first 3,000 test sentences.
    "wikiann": Benchmark(
        "named_entities",
        "wikiann_en",
        "wikiann_en",
        "frequent_tag",
        ("f1",),
        {
            "train.epochs": 1.0,
            "optimizer.learning_rate": 2e-4,
            "data.test.take": 3000,
            "task.labels": _tags("PER", "ORG", "LOC"),
        },
    ),
    # Training on SquadShifts' Wikipedia part (Miller et al. 2020), test on English XQuAD (Artetxe
    # et al. 2020).
    "xquad": Benchmark(
        "question_answering",
        "squadshifts_wiki",
        "xquad_en",
        "overlapping_sentence",
        ("exact_match", "f1"),
        {
            "train.epochs": 1.0,
            "optimizer.learning_rate": 1e-4,
            "data.length": 384,
            "task.stride": 128,
            "task.max_question": 64,
            "task.max_answer": 30,
        },
    ),
}


def get_experiment(arg: str = "") -> Experiment:
    """Arguments: set (tweeteval, wnut17, wikiann, xquad), folder, seeds (how many)."""
    args = arguments(arg, set="wnut17", folder="data", seeds=3)
    if args.set not in SETS:
        raise UserError(f"config argument set={args.set!r} is not known{nearest(args.set, SETS)}")
    if args.seeds < 1:
        raise UserError(f"config argument seeds={args.seeds}: at least 1")
    chosen = SETS[args.set]
    folders = {"train": chosen.train, "validation": chosen.train, "test": chosen.test}
    overrides = chosen.overrides | {"train.eval_batches": 4}
    for split, name in folders.items():
        overrides[f"data.{split}.name"] = f"files:{args.folder}/{name}/{split}.jsonl.gz"
    config, seeds = f"configs/finetune/{chosen.config}.py", tuple(range(args.seeds))
    scratch = f"{args.set}-scratch"
    runs = {
        args.set: Run(config, overrides, ENCODER, seeds=seeds),
        scratch: Run(config, overrides, ENCODER, fresh=True, seeds=seeds),
    }
    columns = {metric: Column(metric, chosen.baseline) for metric in chosen.metrics}
    sides = {"from scratch": scratch, "from the encoder": args.set}
    rows = {side: dict.fromkeys(columns, run) for side, run in sides.items()}
    return Experiment(f"minilm-{args.set}", runs, table=Table(rows, columns, "from scratch"))
