"""Conversion of values to annotated types, and its errors."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import pytest

from research import values
from research.errors import UserError
from research.values import Amount, Count, Filled, Fraction, Pattern, Positive, Range, Share, Size


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    alone: ClassVar[str] = "name"
    name: str
    take: Count = 0


@dataclasses.dataclass(frozen=True)
class Made:
    """Not a dataclass of a config, so a dict cannot replace it."""

    low: float


@dataclasses.dataclass(frozen=True)
class AllConfig:
    sources: tuple[SourceConfig, ...] = ()
    source: SourceConfig | None = None
    labels: tuple[str, ...] | Literal["auto"] = "auto"
    kind: Literal["abc", "xyz", "none"] = "abc"
    rates: Mapping[Pattern, Positive] = ()
    texts: Mapping[str, str] = ()
    size: Size = 1
    share: Share = 0.0
    fraction: Fraction | None = None
    number: float = 0.0
    switch: bool = False
    mixed: bool | int | float | str = 0
    made: Made | None = None
    anything: Any = None


def filled(**changes: Any) -> AllConfig:
    return values.fill(AllConfig, changes, "config")


def test_values_become_what_the_annotations_say():
    found = filled(sources=["a", {"name": "b", "take": 3}], source="c", labels=["x"], kind=None)
    assert found.sources == (SourceConfig("a"), SourceConfig("b", 3))
    assert found.source == SourceConfig("c") and found.labels == ("x",) and found.kind == "none"
    found = filled(share=1, fraction=None, rates={"a|b": 2}, made=Made(1), labels="auto")
    assert type(found.share) is float and found.fraction is None and found.made == Made(1.0)
    assert found.rates == {"a|b": 2.0} and type(found.rates["a|b"]) is float
    assert filled(rates={}, texts=None, sources=[]) == AllConfig() == filled()
    assert [type(filled(mixed=x).mixed) for x in (True, 2, 2.5, "x")] == [bool, int, float, str]
    assert values.fill(AllConfig, found, "config") == found


LIST, DICT = """a list, such as '["a", "b"]'""", """a dict, such as '{"a": "b"}'"""
REFUSED = {
    "size": [
        (0, "config.size=0 must be a whole number of at least 1"),
        (True, "config.size=True must be a whole number of at least 1"),
        ("3", "config.size='3' must be a whole number of at least 1"),
    ],
    "share": [(1.5, "config.share=1.5 must be a number from 0 to 1")],
    "fraction": [(1, "config.fraction=1 must be a number in [0, 1) or None")],
    "number": [
        (math.nan, "config.number=nan must be a finite number"),
        ("x", "config.number='x' must be a number"),
    ],
    "switch": [(1, "config.switch=1 must be true or false")],
    "kind": [("abd", "config.kind='abd' is not valid; did you mean 'abc'? valid: abc, none, xyz")],
    "labels": [("x", f"config.labels='x' must be {LIST} or 'auto'")],
    "texts": [
        ("x", f"config.texts='x' must be {DICT}"),
        ({"a": 1}, "config.texts['a']=1 must be a string"),
        ({1: "a"}, "config.texts, key=1 must be a string"),
    ],
    "rates": [
        ({"a(": 1}, "config.rates, key='a(' is not a regular expression (missing"),
        ({"a": 0}, "config.rates['a']=0 must be a number above 0"),
    ],
    "sources": [
        ("a", "config.sources='a' must be a list, each a group of keys"),
        (["a", 3], "config.sources[1]=3 must be a group of keys"),
        ([{"nam": "a"}], "config.sources[0].nam is not a key; did you mean 'name'?"),
        ([{}], "config.sources[0].name is missing"),
        ([{"name": "a", "take": -1}], "config.sources[0].take=-1 must be a whole number of at le"),
    ],
    "made": [
        ({"low": 1}, "config.made={'low': 1} must be a Made or None"),
        (SourceConfig("a"), "config.made must be a Made or None, not a SourceConfig"),
    ],
    "sise": [(1, "config.sise is not a key; did you mean 'size'? valid: anything, fraction, kin")],
}


@pytest.mark.parametrize(
    ("key", "value", "said"), [(key, *case) for key, cases in REFUSED.items() for case in cases]
)
def test_what_is_wrong_is_named_with_what_is_right(key, value, said):
    with pytest.raises(UserError) as error:
        filled(**{key: value})
    assert str(error.value).startswith(said)


def test_a_long_value_is_cut():
    with pytest.raises(UserError) as error:
        filled(size="x" * 1000)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (str, "3", "3"),
        (str, "none", "none"),
        (int, "3", 3),
        (float, "3", 3.0),
        (bool, "TRUE", True),
        (Mapping[str, str], '{"a": "b"}', {"a": "b"}),
        (Literal["a", "b"], "a", "a"),
    ],
)
def test_a_text_is_read_as_its_annotation_says(kind, text, value):
    found = values.from_text(kind, text, "--flag")
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        (int, "3h", "--flag=3h must be a whole number"),
        (Count, "-1", "--flag=-1 must be a whole number of at least 0"),
        (Amount, "nan", "--flag=nan must be a number of at least 0"),
        (Amount, "1e999", "--flag=1e999 must be a finite number"),
        (Annotated[int, Range(1, 9)], "10", "--flag=10 must be a whole number from 1 to 9"),
        (bool, "yes", "--flag=yes must be true or false"),
        (Filled, "", "--flag='' is empty"),
        (Literal["ab", "xy"], "ac", "--flag=ac is not valid; did you mean 'ab'? valid: ab, xy"),
    ],
)
def test_a_wrong_text_is_shown_as_it_was_typed(kind, text, said):
    with pytest.raises(UserError) as error:
        values.from_text(kind, text, "--flag")
    assert str(error.value) == said
