"""Chat formats: writes a conversation's turns as text for a model.

The form uses the tokenizer's own turn tokens. A tokenizer without them gets plain text, in which
the end-of-text token ends each turn:

    User: Where is Luanda?<|endoftext|>
    Assistant: In Angola.<|endoftext|>

A tokenizer's chat_template is a program and is not run. These forms write turns of text as the
families' published templates do, without what some of them add (dates, default systems).
`template` exports a form as such a program.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence

from research.data.special_tokens import Templated
from research.data.tokenizer import Tokenizer

Messages = Sequence[Mapping[str, str]]


@dataclasses.dataclass(frozen=True)
class Turns:
    """One way to write turns: header, lead, content, end, gap.

    Attributes:
      header: begins a turn, with {role}; the text after it is the speaker's.
      lead: text between header and content.
      end: the token that ends a turn.
      gap: text between a turn's end and the next header.
      names: the written names of roles, if they differ.
      system: whether the system has its own turn; else its text begins the user's first turn.
    """

    header: str
    end: str
    gap: str = "\n"
    lead: str = ""
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    system: bool = True


# By the tokens that a tokenizer must have: Qwen and SmolLM, Llama 3, Gemma, Phi-3.
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
    """Returns the tokenizer's form. Raises UserError if no token ends its texts."""
    special = {tokenizer.token(number) for number in tokenizer.special_ids}
    for names, turns in _FORMS.items():
        if special.issuperset(names):
            return turns
    end = tokenizer.token(tokenizer.require("eos", "it ends every turn of a conversation"))
    names = {"system": "System", "user": "User", "assistant": "Assistant"}
    return Turns("{role}:", end, lead=" ", names=names)


def write(turns: Turns, messages: Messages) -> tuple[Templated, list[tuple[str, int, int]]]:
    """Returns a conversation's text and (role, start, end) of each speaker's characters, with the
    end of the turn. Special tokens are not recognised inside the content of turns."""
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
    """Returns a conversation's text up to the start of the assistant's next turn."""
    text, header = write(turns, messages)[0], _header(turns, "assistant")
    own = (len(text), len(text) + len(header))
    return Templated.of(text + header, (*text.control, own))


def template(tokenizer: Tokenizer) -> str:
    """Returns a tokenizer's form as a Jinja template for `apply_chat_template` of transformers: the
    tokens that begin a text, then the turns as `write` and `prompt` write them."""
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
