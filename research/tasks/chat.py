"""Conversations of several turns: a causal model learns what the assistant says (or others).

A segment is what begins a text (`Tokenizer.begin`) and the turns as `turns` writes them; the loss
counts what the speakers of `roles` say, and the token that ends their turns. Loss, head and name
are the causal language model's, so a pre-trained one goes on.
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
      roles: whose turns are learnt, of system, user and assistant.
      overlap: tokens of the window before that each later window of a long conversation begins
        with; they are read there, not predicted.
      max_new_tokens: tokens that are generated at most.
      chunk: positions of a row whose logits are in memory at a time.
      decoding: how answers are generated; training does not see it.
    """

    roles: tuple[str, ...] = ("assistant",)
    overlap: Count = 64
    max_new_tokens: Size = 256
    chunk: Size = 128
    decoding: DecodingConfig = DecodingConfig()


class Chat(Generation):
    """A conversation longer than the row goes on in further windows, so each learnt token is
    predicted once. To generate, the oldest turns are left out where there is no room, but not the
    system's."""

    name = NAME
    kind = "chat"
    forms = ((("text",), "the reply to it"), (("messages",), "the same, for a conversation"))
    Options = ChatConfig

    def check(self):
        """Raises UserError for roles that do not exist, and sizes that cannot be."""
        turns.form(self.tokenizer)
        self._check_sizes()
        for role in self.options.roles:
            if role not in ROLES:
                raise UserError(f"config.task.roles: no role {role!r}{nearest(role, ROLES)}")
        if not self.options.roles:
            raise UserError("config.task.roles is empty: then nothing is learnt")

    @functools.cached_property
    def form(self) -> turns.Turns:
        """How the tokenizer's conversations are written."""
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
                f"example {example['id']!r}: no turn of {' or '.join(self.options.roles)}, of whom "
                "config.task.roles learns"
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
    """An example's turns; a text is what the user says."""
    if "messages" in example:
        return list(example["messages"])
    return [{"role": "user", "content": example["text"]}]


def _asked(example: Example) -> Sequence[Mapping[str, str]]:
    """The turns that the assistant is to answer: those before its last one."""
    messages = _messages(example)
    return messages[:-1] if len(messages) > 1 and messages[-1]["role"] == "assistant" else messages
