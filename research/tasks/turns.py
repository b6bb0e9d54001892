"""How a conversation is written for a model: the turns, each with who speaks and where it ends.

The form is that of the tokenizer's own turn tokens. One without them gets plain text, in which the
end-of-text token closes each turn:

    User: Where is Luanda?<|endoftext|>
    Assistant: In Angola.<|endoftext|>

A chat_template beside a tokenizer is not read: these forms are what the published templates of the
families write for turns of text, without what some add on their own (dates, default systems).
"""

import dataclasses
from collections.abc import Mapping, Sequence

from research.data.special_tokens import Templated
from research.data.tokenizer import Tokenizer

Messages = Sequence[Mapping[str, str]]


@dataclasses.dataclass(frozen=True)
class Turns:
    """One way to write turns: header, lead, what is said, end, gap.

    Attributes:
      header: with {role}; what comes after it is the speaker's.
      lead: between it and what is said.
      end: the token that ends a turn.
      gap: between it and the next header.
      names: of the roles, where they are not their own.
      system: whether a system has a turn; else it opens that of the user.
    """

    header: str
    end: str
    gap: str = "\n"
    lead: str = ""
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    system: bool = True


# By the tokens that a tokenizer must have: those of Qwen and SmolLM, Llama 3, Gemma, Phi-3.
_FORMS = {
    ("<|im_start|>", "<|im_end|>"): Turns("<|im_start|>{role}\n", "<|im_end|>"),
    ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"): Turns(
        "<|start_header_id|>{role}<|end_header_id|>\n\n", "<|eot_id|>", gap=""
    ),
    ("<start_of_turn>", "<end_of_turn>"): Turns(
        "<start_of_turn>{role}\n", "<end_of_turn>", names={"assistant": "model"}, system=False
    ),
    ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"): Turns("<|{role}|>\n", "<|end|>"),
}


def form(tokenizer: Tokenizer) -> Turns:
    """The form for this tokenizer. Raises UserError for one without any token that ends a text."""
    special = {tokenizer.token(number) for number in tokenizer.special_ids}
    for names, turns in _FORMS.items():
        if special.issuperset(names):
            return turns
    end = tokenizer.token(tokenizer.require("eos", "it ends every turn of a conversation"))
    names = {"system": "System", "user": "User", "assistant": "Assistant"}
    return Turns("{role}:", end, lead=" ", names=names)


def write(turns: Turns, messages: Messages) -> tuple[Templated, list[tuple[str, int, int]]]:
    """The text of a conversation, and (role, start, end) of the characters that are each speaker's,
    the end of the turn among them. What is said is not looked at for special tokens."""
    text, spans, control = "", [], []
    for role, said in _spoken(turns, messages):
        before = len(text)
        text += _header(turns, role)
        start = len(text)
        control.append((before, start))
        text += f"{turns.lead}{said}{turns.end}"
        control.append((len(text) - len(turns.end), len(text)))
        spans.append((role, start, len(text)))
        text += turns.gap
    return Templated.of(text, control), spans


def prompt(turns: Turns, messages: Messages) -> Templated:
    """The text of a conversation up to where the assistant is to speak."""
    text, header = write(turns, messages)[0], _header(turns, "assistant")
    own = (len(text), len(text) + len(header))
    return Templated.of(text + header, (*text.control, own))


def _header(turns: Turns, role: str) -> str:
    return turns.header.format(role=turns.names.get(role, role))


def _spoken(turns: Turns, messages: Messages) -> list[tuple[str, str]]:
    said = [(message["role"], message["content"].strip()) for message in messages]
    if turns.system or len(said) < 2 or said[0][0] != "system":
        return said
    (_, system), (role, first), *rest = said
    return [(role, f"{system}\n\n{first}"), *rest]
