"""Fine-tunes a causal model on the assistant's turns of conversations.

    python launch.py train --config=configs/finetune/chat.py --config.init_from=runs/gpt_tiny \
        --config.data.train=files:train.jsonl --config.data.validation=files:dev.jsonl \
        --workdir=runs/chat

Needs the checkpoint of a causal model and your own conversations, in the formats of OpenAI,
ShareGPT, Alpaca or Dolly (docs/data.md). None are bundled; the two file names below are
placeholders. --config.task.roles='["user", "assistant"]' also trains on the user's turns.
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
                train=dict(name="files:train.jsonl"),
                validation=dict(name="files:dev.jsonl"),
                length=512,
            ),
            model=dict(preset="checkpoint"),
            task=dict(name="chat", roles=("assistant",), overlap=64, max_new_tokens=128),
            optimizer=dict(learning_rate=5e-5),
            train=dict(batch_size=16, epochs=2.0),
        )
    )
