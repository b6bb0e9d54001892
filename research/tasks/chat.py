"""Conversations of several turns: a causal model learns the turns of the assistant (or others).

A segment is the tokens that begin a text (`Tokenizer.begin`) and the turns as `turns` writes them;
the loss counts the turns of `roles` and the tokens that end them. Loss, head and its name are those
of the causal language model, so fine-tuning starts from a pre-trained head.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from research.data.chats import ROLES
from research.data.encoding import bytes_of
from research.errors import UserError, nearest
from research.generation.decoding import DecodingConfig
from research.objectives.objective import Example
from research.tasks import turns
from research.tasks.text_generation import Generation, in_windows
from research.values import Count, Size

NAME = "chat"


@dataclasses.dataclass(frozen=True)
class ChatConfig:
    """Conversations of several turns.

    Attributes:
      roles: whose turns are learnt: system, user, assistant.
      overlap: tokens that each window of a long conversation repeats from the window before it;
        they are read there, not predicted.
      max_new_tokens: the maximum number of generated tokens.
      chunk: positions of a row whose logits are in memory at a time.
      decoding: how answers are generated; training does not see it.
    """

    roles: tuple[str, ...] = ("assistant",)
    overlap: Count = 64
    max_new_tokens: Size = 256
    chunk: Size = 128
    decoding: DecodingConfig = DecodingConfig()


class Chat(Generation):
    """A conversation longer than the row continues in further windows, so each learnt token is
    predicted once. If a prompt is too long, the oldest turns except the system's are dropped."""

    name = NAME
    kind = "chat"
    forms = ((("text",), "the reply to it"), (("messages",), "the same, for a conversation"))
    Options = ChatConfig

    def check(self):
        """Raises UserError for unknown roles and impossible sizes."""
        turns.form(self.tokenizer)
        self._check_sizes()
        for role in self.options.roles:
            if role not in ROLES:
                raise UserError(f"config.task.roles: no role {role!r}{nearest(role, ROLES)}")
        if not self.options.roles:
            raise UserError("config.task.roles is empty, so nothing is learnt")

    @functools.cached_property
    def form(self) -> turns.Turns:
        """The form of the tokenizer's conversations."""
        return turns.form(self.tokenizer)

    def prompt(self, example):
        messages = _asked(example)
        room = self.layout.length - len(self._start()) - self.options.max_new_tokens
        while True:
            text = turns.prompt(self.form, messages)
            encoding = self.tokenizer.encode(text)
            if len(encoding.ids) <= room:
                return text
            first = int(messages[0]["role"] == "system")
            if len(messages) <= first + 1:
                return text.since(int(encoding.starts[-room]))
            messages = messages[:first] + messages[first + 1 :]

    def segments(self, example, number, labelled):
        text, spans = turns.write(self.form, _messages(example))
        encoding, start = self.tokenizer.encode(text), self._start()
        learnt = np.zeros(len(text) + 1, np.float32)
        for role, first, end in spans:
            learnt[first:end] = role in self.options.roles
        weights = learnt[encoding.starts]
        if labelled and not weights.any():
            raise UserError(
                f"example {example['id']!r}: no turn of {' or '.join(self.options.roles)} "
                "(config.task.roles)"
            )
        sizes = bytes_of(text, encoding) * ~self.tokenizer.is_special[encoding.ids]
        before = np.zeros(len(start) - 1, np.float32)
        return in_windows(
            np.concatenate([start, encoding.ids]).astype(np.int32),
            np.concatenate([before, weights]),
            np.concatenate([before, sizes]).astype(np.float32),
            self.layout.length,
            self.options.overlap,
            number,
            labelled,
        )

    def asked(self, example):
        return _asked(example)[-1]["content"]


def _messages(example: Example) -> Sequence[Mapping[str, str]]:
    """Returns an example's turns; a text is one turn of the user."""
    if "messages" in example:
        return list(example["messages"])
    return [{"role": "user", "content": example["text"]}]


def _asked(example: Example) -> Sequence[Mapping[str, str]]:
    """Returns the turns that the assistant answers: without its own last turn."""
    messages = _messages(example)
    return messages[:-1] if len(messages) > 1 and messages[-1]["role"] == "assistant" else messages
