"""Conversations of several turns: a causal model learns what the assistant says (or others).

A slot is what begins a text (`Tokenizer.begin`) and the turns as `turns` writes them; the loss
counts what the speakers of `roles` say, and the token that ends their turns. Loss, head and name
are the causal language model's, so a pre-trained one goes on.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from research.data.batch import Layout, Slot
from research.data.chats import ROLES
from research.data.encoding import bytes_of
from research.data.tokenizer import Tokenizer
from research.errors import UserError, nearest
from research.generation.decoding import DecodingConfig
from research.models.config import ModelConfig
from research.tasks import text_generation, turns
from research.tasks.protocol import Example, Prediction, Task

NAME = "chat"


@dataclasses.dataclass(frozen=True)
class ChatConfig:
    """Conversations of several turns.

    Attributes:
      roles: whose turns are learnt, of system, user and assistant.
      overlap: tokens of the window before that each later window of a long conversation begins
        with; they are read there, not predicted.
      max_new_tokens: tokens that are generated at most.
      chunk: positions of a row whose logits are in memory at a time.
      decoding: how answers are generated; training does not see it.
    """

    roles: tuple[str, ...] = ("assistant",)
    overlap: int = 64
    max_new_tokens: int = 256
    chunk: int = 128
    decoding: DecodingConfig = DecodingConfig()


def metrics(config: ChatConfig) -> tuple[str, ...]:
    """The names of what `finish` yields."""
    return ("loss", "perplexity", "bits_per_byte")


finish_loss = text_generation.finish_loss


def make(
    config: ChatConfig, model: ModelConfig, tokenizer: Tokenizer, length: int, slots: int
) -> Task:
    """The task on rows of `length` tokens with at most `slots` conversations or windows.

    A conversation longer than the row goes on in further windows, so each learnt token is predicted
    once. To generate, the oldest turns are left out where there is no room, but not the system's.

    Raises UserError for roles that do not exist, and sizes that cannot be.
    """
    form = turns.form(tokenizer)
    start = tokenizer.begin("it begins every text")
    _check(config, length, length - 1 - len(start))
    special = np.array(sorted(tokenizer.special_ids))

    def prompt(example: Example) -> str:
        messages = _asked(example)
        room = length - len(start) - config.max_new_tokens
        while len((found := tokenizer.encode(turns.prompt(form, messages))).ids) > room:
            first = int(messages[0]["role"] == "system")
            if len(messages) <= first + 1:
                return turns.prompt(form, messages).since(int(found.starts[-room]))
            messages = messages[:first] + messages[first + 1 :]
        return turns.prompt(form, messages)

    def make_slots(example: Example, number: int, labelled: bool) -> list[Slot]:
        text, spans = turns.write(form, _messages(example))
        encoding = tokenizer.encode(text)
        learnt = np.zeros(len(text) + 1, np.float32)
        for role, first, end in spans:
            learnt[first:end] = role in config.roles
        weights = learnt[encoding.starts]
        if labelled and not weights.any():
            raise UserError(
                f"example {example['id']!r}: no turn of {' or '.join(config.roles)}, of whom "
                "config.task.roles learns"
            )
        sizes = bytes_of(text, encoding) * ~np.isin(encoding.ids, special)
        before = np.zeros(len(start) - 1, np.float32)
        return text_generation.in_windows(
            np.concatenate([start, encoding.ids]).astype(np.int32),
            np.concatenate([before, weights]),
            np.concatenate([before, sizes]).astype(np.float32),
            length,
            config.overlap,
            number,
            labelled,
        )

    def counts(example: Example, prediction: Prediction) -> dict[str, float]:
        return {name: prediction[name] for name in ("loss", "tokens", "bytes")}

    def show(example: Example, prediction: Prediction) -> str:
        asked = " ".join(_asked(example)[-1]["content"].split())
        if "text" in prediction:
            return f"{asked} → {' '.join(prediction['text'].split())}"
        measured = text_generation.finish_story(prediction) if prediction else {}
        return f"{asked} → (perplexity {measured.get('perplexity', float('nan')):.1f})"

    return Task(
        NAME,
        "chat",
        Layout(length, slots, targets=True, bytes=True),
        text_generation.objective(model, config.chunk),
        make_slots,
        text_generation.measured,
        counts,
        text_generation.finish_story,
        "perplexity",
        show,
        prompt=prompt,
        max_new_tokens=config.max_new_tokens,
        decoding=config.decoding,
        higher_is_better=False,
    )


def _messages(example: Example) -> Sequence[Mapping[str, str]]:
    """An example's turns; a text is what the user says."""
    if "messages" in example:
        return list(example["messages"])
    return [{"role": "user", "content": example["text"]}]


def _asked(example: Example) -> Sequence[Mapping[str, str]]:
    """The turns that the assistant is to answer: those before its last one."""
    messages = _messages(example)
    return messages[:-1] if len(messages) > 1 and messages[-1]["role"] == "assistant" else messages


def _check(config: ChatConfig, length: int, most: int) -> None:
    text_generation.check_sizes(config, length, most)
    for role in config.roles:
        if role not in ROLES:
            raise UserError(f"config.task.roles: no role {role!r}{nearest(role, ROLES)}")
    if not config.roles:
        raise UserError("config.task.roles is empty: then nothing is learnt")
