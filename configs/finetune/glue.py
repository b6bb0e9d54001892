"""The nine tasks of GLUE (Wang et al. 2018, arXiv:1804.07461) through TFDS.

    python launch.py train --config=configs/finetune/glue.py:task=mrpc \
        --config.init_from=runs/bert_base --workdir=runs/mrpc

Needs a checkpoint with a pooler and the sets as ArrayRecord (docs/data.md says how they are
prepared). Metrics are GLUE's: Matthews' correlation for CoLA, F1 (and accuracy) for MRPC and QQP,
the mean of Pearson's and Spearman's correlation for STS-B, accuracy for the others. The hidden test
sets are not used: `--split=test` of MNLI is its mismatched development set. The rates are BERT's
(Devlin et al. 2018, section 4.1). Not run here: the sets need a network.
"""

from ml_collections import ConfigDict

from research.config import arguments
from research.errors import UserError, nearest

ENTAILMENT = ("entailment", "not_entailment")
TASKS = {  # labels as TFDS names them, metric
    "cola": (("unacceptable", "acceptable"), "matthews"),
    "sst2": (("negative", "positive"), "accuracy"),
    "mrpc": (("not_equivalent", "equivalent"), "f1"),
    "stsb": ((), "correlation"),
    "qqp": (("not_duplicate", "duplicate"), "f1"),
    "mnli": (("entailment", "neutral", "contradiction"), "accuracy"),
    "qnli": (ENTAILMENT, "accuracy"),
    "rte": (ENTAILMENT, "accuracy"),
    "wnli": (("not_entailment", "entailment"), "accuracy"),
}


def get_config(arg: str = "") -> ConfigDict:
    """Arguments: task (cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli)."""
    name = arguments(arg, task="mrpc").task
    if name not in TASKS:
        raise UserError(f"config argument task={name!r} is not known{nearest(name, TASKS)}")
    labels, metric = TASKS[name]
    task = dict(name="sequence_classification", labels=labels, metric=metric)
    dev = "validation_matched" if name == "mnli" else "validation"
    data = dict(
        train=dict(name=f"tfds:glue/{name}", split="train"),
        validation=dict(name=f"tfds:glue/{name}", split=dev),
        length=128,
    )
    if name == "mnli":
        data["test"] = dict(name="tfds:glue/mnli", split="validation_mismatched")
    return ConfigDict(
        dict(
            tokenizer=dict(kind="checkpoint"),
            data=data,
            model=dict(preset="checkpoint"),
            task=task if labels else dict(name="regression"),
            optimizer=dict(learning_rate=2e-5),
            train=dict(batch_size=32, epochs=3.0, eval_epochs=1.0),
        )
    )
