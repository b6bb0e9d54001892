"""The nine tasks of GLUE (Wang et al. 2018, arXiv:1804.07461) through TFDS.

    python launch.py train --config=configs/finetune/glue.py:task=mrpc \
        --config.init_from=runs/bert_base --workdir=runs/mrpc

Needs a checkpoint with a pooler and the data sets as ArrayRecord (docs/data.md says how to prepare
them), or with `folder=/data/glue` the files that GLUE distributes, each task in its folder. Metrics
are GLUE's: Matthews' correlation for CoLA, F1 (and accuracy) for MRPC and QQP, the mean of
Pearson's and Spearman's correlation for STS-B, accuracy for the others. The hidden test sets are
not used: `--split=test` of MNLI is its mismatched development set. The learning rate is one of
BERT's (Devlin et al. 2018, section 4.1). Not run here: the data sets need a network.
"""

from ml_collections import ConfigDict

from research.config import arguments
from research.errors import UserError, nearest

ENTAILMENT = ("entailment", "not_entailment")
TASKS = {  # labels as TFDS names them, metric, folder of the files
    "cola": (("unacceptable", "acceptable"), "matthews", "CoLA"),
    "sst2": (("negative", "positive"), "accuracy", "SST-2"),
    "mrpc": (("not_equivalent", "equivalent"), "f1", "MRPC"),
    "stsb": ((), "correlation", "STS-B"),
    "qqp": (("not_duplicate", "duplicate"), "f1", "QQP"),
    "mnli": (("entailment", "neutral", "contradiction"), "accuracy", "MNLI"),
    "qnli": (ENTAILMENT, "accuracy", "QNLI"),
    "rte": (ENTAILMENT, "accuracy", "RTE"),
    "wnli": (("not_entailment", "entailment"), "accuracy", "WNLI"),
}


def get_config(arg: str = "") -> ConfigDict:
    """Arguments: task (cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli), folder of the files."""
    args = arguments(arg, task="mrpc", folder="")
    name = args.task
    if name not in TASKS:
        raise UserError(f"config argument task={name!r} is not known{nearest(name, TASKS)}")
    labels, metric, place = TASKS[name]
    task = dict(name="sequence_classification", labels=labels, metric=metric)

    def source(split: str) -> dict:
        if not args.folder:
            return dict(name=f"tfds:glue/{name}", split=split)
        file = f"{args.folder}/{place}/{split.replace('validation', 'dev')}.tsv"
        return dict(name=f"files:{file}", format=f"glue/{name}")

    dev = "validation_matched" if name == "mnli" else "validation"
    data = dict(train=source("train"), validation=source(dev), length=128)
    if name == "mnli":
        data["test"] = source("validation_mismatched")
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
