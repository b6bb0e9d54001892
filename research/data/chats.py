"""Converts the usual forms of conversations to `messages`: [{"role", "content"}, …].

    messages      {"messages": [{"role": "user", "content": …}, …]}, as OpenAI's
    ShareGPT      {"conversations": [{"from": "human", "value": …}, …]}, also with a "system"
    instructions  {"instruction", "input", "output"} (Alpaca, also with "system" and "history") or
                  {"instruction", "context", "response"} (Dolly): one turn of each

A role is system, user or assistant, or a known other name of these. A row is left out if a turn has
another role (a tool), or is not text.
"""

from collections.abc import Iterator
from typing import Any

from research.data.row import Row, Unusable

ROLES = ("system", "user", "assistant")
_OTHER_NAMES = {
    "developer": "system",
    **dict.fromkeys(("human", "prompter"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "bard", "bing", "bot", "model"), "assistant"),
}
_LISTS = ("messages", "conversations", "conversation")
_INPUTS, _OUTPUTS = ("input", "context"), ("output", "response")


def has_turns(fields: dict) -> bool:
    """Returns whether a row has a list of turns."""
    return any(_are_turns(fields.get(name)) for name in _LISTS)


def _are_turns(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(turn, dict) and ("role" in turn or "from" in turn) for turn in value)


def is_instruction(fields: dict) -> bool:
    """Returns whether a row is an instruction with its answer."""
    return "instruction" in fields and any(name in fields for name in _OUTPUTS)


def turns(row: Row) -> Iterator[Row]:
    """Yields a row of messages, or of ShareGPT's form, with `messages`."""
    said = next((row.fields[name] for name in _LISTS if name in row.fields), None)
    if said == []:
        raise Unusable("no turns")
    if not _are_turns(said):
        raise row.error(
            'expected turns such as {"role": "user", "content": …} in one of '
            f"{', '.join(_LISTS)}; there are: {row.names}"
        )
    before = [("system", row.fields.get("system") or "")]
    named = ((t.get("role", t.get("from")), t.get("content", t.get("value"))) for t in said)
    yield _with_messages(row, [*before, *named])


def instructions(row: Row) -> Iterator[Row]:
    """Yields a row of an instruction, with `messages`."""
    asked, context = row.get("instruction"), _first(row, _INPUTS)
    both = f"{asked}\n\n{context}" if isinstance(asked, str) and context else asked
    said = [("system", row.fields.get("system") or "")]
    for pair in row.fields.get("history") or ():
        if not isinstance(pair, list) or len(pair) != 2:
            raise row.error("'history' should be pairs of question and answer")
        said += zip(("user", "assistant"), pair, strict=True)
    said.append(("user", both))
    if any(name in row.fields for name in _OUTPUTS):
        said.append(("assistant", _first(row, _OUTPUTS)))
    yield _with_messages(row, said)


def _first(row: Row, names: tuple[str, ...]) -> Any:
    return next((row.fields[name] for name in names if name in row.fields), "") or ""


def _with_messages(row: Row, said: list[tuple[Any, Any]]) -> Row:
    """Returns the row with these turns, without an empty system turn."""
    messages = [{"role": _role(role), "content": _text(role, content)} for role, content in said]
    messages = [m for m in messages if m["content"].strip() or m["role"] != "system"]
    for message in messages:
        if not message["content"].strip():
            raise Unusable(f"a turn of the {message['role']} is empty")
    return row._replace(fields=row.fields | {"messages": messages})


def _role(name: Any) -> str:
    role = _OTHER_NAMES.get(name, name) if isinstance(name, str) else name
    if role not in ROLES:
        raise Unusable(f"a turn of the role {name!r} (known: {', '.join(ROLES)})")
    return role


def _text(role: str, content: Any) -> str:
    """Returns the text of a turn, which may be a list of parts."""
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        content = "".join(part.get("text") or _refuse(role) for part in content)
    return content if isinstance(content, str) else _refuse(role)


def _refuse(role: str) -> str:
    raise Unusable(f"a turn of the {role} that is not text (a picture, the call of a tool)")
