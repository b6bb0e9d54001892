"""Generative question answering: a causal model reads a document and writes the answer.

    python launch.py train --config=configs/finetune/document_qa.py \
        --config.init_from=runs/gpt_tiny --workdir=runs/document_qa

Needs the checkpoint of a causal model (configs/pretrain/gpt.py trains one). The data is bundled:
passages of the World Factbook with questions from templates, split by country. With
--config.init=fresh the same model starts from new weights. From the earlier GPT it took 9 to 13
minutes of a core shared with other work, and reached a test F1 of 0.298 (mean of three seeds).
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
                train=dict(name="bundled:question_answering/factbook_train"),
                validation=dict(name="bundled:question_answering/factbook_validation"),
                test=dict(name="bundled:question_answering/factbook_test"),
                length=256,
            ),
            model=dict(preset="checkpoint"),
            task=dict(
                name="text_generation",
                kind="question",
                prompt="{context}\nQuestion: {question}\nAnswer:",
                completion=" {answer}",
                max_new_tokens=48,
            ),
            optimizer=dict(learning_rate=5e-4),
            train=dict(batch_size=16, epochs=2.0, samples=16),
        )
    )
