import json

import pytest

from research.data import files, sources
from research.data.sources import SourceConfig
from research.errors import UserError

ASKED = {"role": "user", "content": "Where is Luanda?"}
SAID = {"role": "assistant", "content": "In Angola."}
SYSTEM = {"role": "system", "content": "Be brief."}


def write(path, *objects):
    path.write_text("".join(f"{json.dumps(o)}\n" for o in objects))
    return path


def turn(who, text):
    return {"from": who, "value": text}


PARTS = [{"type": "text", "text": "Where is "}, {"type": "text", "text": "Luanda?"}]
FORMS = {
    "messages": ({"messages": [SYSTEM, ASKED, SAID]}, [SYSTEM, ASKED, SAID]),
    "parts": ({"messages": [ASKED | {"content": PARTS}, SAID | {"weight": 1}]}, [ASKED, SAID]),
    "developer": ({"messages": [SYSTEM | {"role": "developer"}, ASKED]}, [SYSTEM, ASKED]),
    "sharegpt": (
        {"conversations": [turn("human", ASKED["content"]), turn("gpt", SAID["content"])] * 2},
        [ASKED, SAID, ASKED, SAID],
    ),
    "sharegpt with a system": (
        {"system": "Be brief.", "conversations": [turn("human", ASKED["content"])]},
        [SYSTEM, ASKED],
    ),
    "sharegpt whose system is empty": (
        {"conversations": [turn("system", ""), turn("human", ASKED["content"])]},
        [ASKED],
    ),
    "alpaca": (
        {"instruction": "Where is Luanda?", "input": "", "output": "In Angola."},
        [ASKED, SAID],
    ),
    "alpaca with an input": (
        {"instruction": "Add.", "input": "1 and 2", "output": "3"},
        [{"role": "user", "content": "Add.\n\n1 and 2"}, {"role": "assistant", "content": "3"}],
    ),
    "alpaca with a history": (
        {
            "instruction": "Add.",
            "output": "3",
            "system": "Be brief.",
            "history": [["Where is Luanda?", "In Angola."]],
        },
        [
            SYSTEM,
            ASKED,
            SAID,
            {"role": "user", "content": "Add."},
            {"role": "assistant", "content": "3"},
        ],
    ),
    "dolly": (
        {"instruction": "Add.", "context": "1 and 2", "response": "3", "category": "closed_qa"},
        [{"role": "user", "content": "Add.\n\n1 and 2"}, {"role": "assistant", "content": "3"}],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_turns_of_each_form(form, tmp_path):
    fields, messages = FORMS[form]
    path = write(tmp_path / "x.jsonl", fields, fields)
    examples = list(sources.read(SourceConfig(f"files:{path}"), "chat"))
    assert [e["messages"] for e in examples] == [
        [{name: m[name] for name in ("role", "content")} for m in messages]
    ] * 2
    assert [e["id"] for e in examples] == ["x.jsonl:1", "x.jsonl:2"]


@pytest.mark.parametrize(
    "fields, reason",
    [
        ({"messages": [ASKED, {"role": "tool", "content": "3"}]}, "a turn of the role 'tool'"),
        ({"messages": [ASKED, {"role": "assistant", "content": None}]}, "not text"),
        ({"messages": [ASKED | {"content": [{"type": "image_url"}]}]}, "user that is not text"),
        ({"messages": [ASKED | {"content": " "}, SAID]}, "a turn of the user is empty"),
        ({"messages": []}, "no turns"),
        ({"conversations": [turn("human", "Hi"), turn("gpt", "")]}, "assistant is empty"),
    ],
)
def test_what_is_not_a_conversation_of_texts_is_left_out(fields, reason, tmp_path):
    path = write(tmp_path / "x.jsonl", {"messages": [ASKED, SAID]}, fields)
    right, wrong = files.rows([path], kind="chat")
    assert not right.left_out and reason in wrong.left_out


def test_instructions_that_nobody_answered(tmp_path):
    """An empty answer teaches nothing; a missing one can be predicted."""
    path = write(
        tmp_path / "x.jsonl",
        {"instruction": "Add.", "input": "", "output": ""},
        {"instruction": "Add."},
        {"instruction": "", "output": "3"},
    )
    empty, open_, blank = files.rows([path], kind="chat")
    assert empty.left_out == "a turn of the assistant is empty"
    assert open_.fields["messages"] == [{"role": "user", "content": "Add."}]
    assert blank.left_out == "a turn of the user is empty"


def test_errors_name_the_line(tmp_path):
    path = write(tmp_path / "x.jsonl", {"messages": [ASKED, SAID]}, {"text": "Hi"})
    with pytest.raises(UserError, match="x.jsonl, line 2: expected turns such as .*: text"):
        list(files.rows([path], kind="chat"))
    path = write(tmp_path / "y.jsonl", {"instruction": "a", "output": "b"}, {"output": "b"})
    with pytest.raises(UserError, match="y.jsonl, line 2: no field 'instruction'"):
        list(files.rows([path], kind="chat"))
    path = write(tmp_path / "z.jsonl", {"turns": [{"role": "me", "content": "x"}]})
    config = SourceConfig(f"files:{path}", fields={"messages": "turns"})
    with pytest.raises(UserError, match="z.jsonl, line 1: 'turns' should be .*system, user, ass"):
        list(sources.read(config, "chat"))
