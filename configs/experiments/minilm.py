"""A public sentence encoder on public benchmarks, beside new weights of the same shape.

    make .cache/public/minilm
    python launch.py experiment --config=configs/experiments/minilm.py:set=wnut17,folder=/data

The encoder is all-MiniLM-L6-v2 (22.7 M parameters). The sets are not shipped: FOLDER/NAME/SPLIT
.jsonl.gz with the fields of docs/data.md, for the names and splits below. Batch sizes, epochs and
rates are the ones that benchmarks/finetune.py repeats in PyTorch; new weights have the same rate,
which has not been tuned for them. Of wnut17 a run from the encoder takes 5 minutes on 2 CPU cores.
"""

from typing import NamedTuple

from research.config import arguments
from research.errors import UserError, nearest
from research.experiments.experiment import Experiment, Row, Run

ENCODER = ".cache/public/minilm"


class Benchmark(NamedTuple):
    """config: of configs/finetune; train, validation, test: names under the folder."""

    config: str
    train: str
    validation: str
    test: str
    baseline: str
    metrics: tuple[str, ...]
    rate: float
    scratch_rate: float
    overrides: dict


def _tags(*kinds: str) -> tuple[str, ...]:
    return ("O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI"))


SETS = {
    # SemEval-2017 task 4 A (Rosenthal et al. 2017) as TweetEval has it (Barbieri et al. 2020).
    "tweeteval": Benchmark(
        "sentiment",
        "tweeteval_sentiment/train",
        "tweeteval_sentiment/validation",
        "tweeteval_sentiment/test",
        "linear_svm",
        ("macro_recall", "accuracy"),
        1e-4,
        1e-4,
        {"train.epochs": 3.0},
    ),
    # Emerging entities (Derczynski et al. 2017).
    "wnut17": Benchmark(
        "named_entities",
        "wnut17/train",
        "wnut17/validation",
        "wnut17/test",
        "frequent_tag",
        ("f1",),
        2e-4,
        2e-4,
        {
            "train.epochs": 6.0,
            "task.labels": _tags(
                "person", "location", "corporation", "group", "product", "creative-work"
            ),
        },
    ),
    # English WikiANN (Pan et al. 2017), the first 3,000 test sentences.
    "wikiann": Benchmark(
        "named_entities",
        "wikiann_en/train",
        "wikiann_en/validation",
        "wikiann_en/test",
        "frequent_tag",
        ("f1",),
        2e-4,
        2e-4,
        {
            "train.epochs": 1.0,
            "data.test.take": 3000,
            "task.labels": _tags("PER", "ORG", "LOC"),
        },
    ),
    # Training on SquadShifts' Wikipedia part (Miller et al. 2020), test on English XQuAD (Artetxe
    # et al. 2020).
    "xquad": Benchmark(
        "question_answering",
        "squadshifts_wiki/train",
        "squadshifts_wiki/validation",
        "xquad_en/test",
        "overlapping_sentence",
        ("exact_match", "f1"),
        1e-4,
        1e-4,
        {
            "train.epochs": 1.0,
            "data.length": 384,
            "task.stride": 128,
            "task.max_question": 64,
            "task.max_answer": 30,
        },
    ),
}


def get_experiment(arg: str = "") -> Experiment:
    """Arguments: set (tweeteval, wnut17, wikiann, xquad), folder, seeds (how many)."""
    given = arguments(arg, set="wnut17", folder="data", seeds=3)
    if given.set not in SETS:
        raise UserError(f"config argument set={given.set!r} is not known{nearest(given.set, SETS)}")
    if given.seeds < 1:
        raise UserError(f"config argument seeds={given.seeds}: at least 1")
    chosen = SETS[given.set]
    splits = {
        f"data.{split}.name": f"files:{given.folder}/{name}.jsonl.gz"
        for split, name in (
            ("train", chosen.train),
            ("validation", chosen.validation),
            ("test", chosen.test),
        )
    }
    common = splits | chosen.overrides | {"train.eval_batches": 4}
    config, seeds = f"configs/finetune/{chosen.config}.py", tuple(range(given.seeds))
    runs = {
        name: Run(config, common | {"optimizer.learning_rate": rate}, ENCODER, fresh, seeds)
        for name, fresh, rate in (
            (given.set, False, chosen.rate),
            (f"{given.set}-scratch", True, chosen.scratch_rate),
        )
    }
    row = Row(given.set, given.set, f"{given.set}-scratch", chosen.baseline, chosen.metrics)
    return Experiment(f"minilm-{given.set}", runs, rows=(row,))
