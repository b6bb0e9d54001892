"""Sentiment of a sentence from a review: negative, neutral or positive.

    python launch.py train --config=configs/finetune/sentiment.py \
        --config.init_from=runs/bert_tiny --workdir=runs/sentiment

Needs the checkpoint of an encoder with a pooler (configs/pretrain/bert.py trains one). The data is
bundled. With --config.init=fresh the same model starts from new weights. From the earlier BERT it
took 7 to 10 minutes of a core shared with other work, and reached a test macro-recall of 0.572
(mean of three seeds).
"""

from ml_collections import ConfigDict

from research.config import arguments


def get_config(arg: str = "") -> ConfigDict:
    """Takes no arguments."""
    arguments(arg)
    return ConfigDict(
        dict(
            tokenizer=dict(kind="checkpoint"),
            data=dict(
                train=dict(name="bundled:sentiment/customer_reviews_train"),
                validation=dict(name="bundled:sentiment/customer_reviews_validation"),
                test=dict(name="bundled:sentiment/customer_reviews_test"),
                length=128,
            ),
            model=dict(preset="checkpoint"),
            task=dict(name="sequence_classification", labels=("negative", "neutral", "positive")),
            optimizer=dict(learning_rate=5e-4),
            train=dict(batch_size=32, epochs=3.0),
        )
    )
