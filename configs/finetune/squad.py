"""SQuAD 1.1 and 2.0 (Rajpurkar et al. 2016, 2018; arXiv:1606.05250, 1806.03822) through TFDS.

    python launch.py train --config=configs/finetune/squad.py:version=2 \
        --config.init_from=runs/bert_base --workdir=runs/squad

Needs an encoder's checkpoint and the data set as ArrayRecord (docs/data.md says how to prepare it).
Lengths and learning rate are BERT's (Devlin et al. 2018, section 4.2). Not run here: the data set
needs a network.
"""

from ml_collections import ConfigDict

from research.config import arguments
from research.errors import UserError


def get_config(arg: str = "") -> ConfigDict:
    """Arguments: version (1, 2)."""
    version = arguments(arg, version=1).version
    if version not in (1, 2):
        raise UserError(f"config argument version={version} is not known; valid: 1, 2")
    name = "tfds:squad/v2.0" if version == 2 else "tfds:squad/v1.1"
    return ConfigDict(
        dict(
            tokenizer=dict(kind="checkpoint"),
            data=dict(
                train=dict(name=name, split="train"),
                validation=dict(name=name, split="validation"),
                length=384,
            ),
            model=dict(preset="checkpoint"),
            task=dict(
                name="span_qa",
                stride=128,
                max_question=64,
                max_answer=30,
                unanswerable=version == 2,
            ),
            optimizer=dict(learning_rate=5e-5),
            train=dict(batch_size=32, epochs=3.0 if version == 1 else 2.0),
        )
    )
