"""How a conversation is written for a model: the turns, each with who speaks and where it ends.

The form is that of the tokenizer's own turn tokens. One without them gets plain text, in which the
end-of-text token closes each turn:

    User: Where is Luanda?<|endoftext|>
    Assistant: In Angola.<|endoftext|>

A chat_template beside a tokenizer is a program and is not run: these forms are what the published
templates of the families write for turns of text, without what some add on their own (dates,
default systems). `template` writes a form as such a program, for others to run.
"""

import dataclasses
import json
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


def template(tokenizer: Tokenizer) -> str:
    """The form of a tokenizer as a Jinja template, as `apply_chat_template` of transformers runs
    it: what begins a text, and then the turns as `write` and `prompt` write them."""
    turns, begin = form(tokenizer), tokenizer.begin("it begins every text")
    before, after = map(json.dumps, turns.header.split("{role}"))
    names, gap = json.dumps(dict(turns.names)), json.dumps(turns.end + turns.gap)
    lead, start = json.dumps(turns.lead), json.dumps("".join(map(tokenizer.token, begin)))
    role, text, opening = "message['role']", "message['content'] | trim", "false"
    if not turns.system:
        opening = "messages[0]['role'] == 'system' and messages | length > 1"
        first = "messages[0]['content'] | trim + " + json.dumps("\n\n")
        text = f"({first} if opening and loop.index0 == 1 else '') + {text}"
    return (
        f"{{% set names = {names} %}}{{% set opening = {opening} %}}{{{{ {start} }}}}"
        "{% for message in messages %}{% if not (opening and loop.first) %}"
        f"{{{{ {before} + names.get({role}, {role}) + {after} + {lead} }}}}"
        f"{{{{ {text} }}}}{{{{ {gap} }}}}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}"
        f"{{{{ {before} + names.get('assistant', 'assistant') + {after} }}}}{{% endif %}}"
    )


def _header(turns: Turns, role: str) -> str:
    return turns.header.format(role=turns.names.get(role, role))


def _spoken(turns: Turns, messages: Messages) -> list[tuple[str, str]]:
    said = [(message["role"], message["content"].strip()) for message in messages]
    if turns.system or len(said) < 2 or said[0][0] != "system":
        return said
    (_, system), (role, first), *rest = said
    return [(role, f"{system}\n\n{first}"), *rest]
