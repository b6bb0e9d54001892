"""Entity-level precision, recall and F1 over BIO or BIOES tags, as seqeval counts them.

BIO is read leniently, as by conlleval and seqeval's default mode: an I- tag after O, or after an
entity of another type, starts a new entity, as a B- tag does. BIOES is read strictly, as seqeval's
scheme IOBES: an entity is S-TYPE, or B-TYPE, any number of I-TYPE, and E-TYPE; other sequences are
not entities. An entity is correct if its first token, its last token and its type all match (Tjong
Kim Sang and De Meulder 2003, CoNLL-2003 shared task).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from research.metrics.counts import Counts, harmonic, ratio

Scheme = Literal["BIO", "BIOES"]
Span = tuple[str, int, int]

FORMS: dict[Scheme, str] = {
    "BIO": "O, B-TYPE or I-TYPE",
    "BIOES": "O, B-TYPE, I-TYPE, E-TYPE or S-TYPE",
}
EITHER = f"{FORMS['BIO']} (BIO), or {FORMS['BIOES']} (BIOES)"


def scheme(labels: Sequence[str]) -> Scheme:
    """Returns BIOES if a label begins with E- or S-, else BIO.

    Raises ValueError for a label that neither scheme has, and for a type that mixes them: if any
    label has E- or S-, a type with one of B-, I- and E- needs both B- and E-.
    """
    prefixes: dict[str, set[str]] = {}
    for label in labels:
        prefix, kind = _parts(label, "BIOES", "a label", EITHER)
        prefixes.setdefault(kind, set()).add(prefix)
    if not any(used & {"E", "S"} for used in prefixes.values()):
        return "BIO"
    for kind, used in prefixes.items():
        lacking = {"B", "E"} - used if used & set("BIE") else set()
        if lacking:
            names = ", ".join(f"{p}-{kind}" for p in sorted(lacking))
            present = ", ".join(f"{p}-{kind}" for p in sorted(used))
            raise ValueError(
                f"with {present} but without {names} they are neither BIO "
                f"({FORMS['BIO']}) nor BIOES ({FORMS['BIOES']}) but a mixture"
            )
    return "BIOES"


def spans(tags: Sequence[str], scheme: Scheme = "BIO") -> list[Span]:
    """Returns the entities of one sentence as (type, first token, token after the last).

    Raises ValueError for a tag that the scheme does not have.
    """
    right = FORMS[scheme]
    parts = [_parts(tag, scheme, f"the tag of token {i}", right) for i, tag in enumerate(tags)]
    return _lenient(parts) if scheme == "BIO" else _strict(parts)


def count(gold: Sequence[str], predicted: Sequence[str], scheme: Scheme = "BIO") -> Counts:
    """Returns the counts of one sentence by type: gold/TYPE, predicted/TYPE and correct/TYPE.

    Raises ValueError if the two differ in length.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold tags but {len(predicted)} predicted ones")
    truth, guess = set(spans(gold, scheme)), set(spans(predicted, scheme))
    counts: Counts = {}
    for name, entities in (("gold", truth), ("predicted", guess), ("correct", truth & guess)):
        for kind, _, _ in entities:
            counts[f"{name}/{kind}"] = counts.get(f"{name}/{kind}", 0.0) + 1.0
    return counts


def compute(counts: Mapping[str, float]) -> dict[str, float]:
    """Returns micro-averaged precision, recall and f1, and precision/TYPE and so on by type."""
    kinds = sorted({key.partition("/")[2] for key, value in counts.items() if value})
    numbers = _scores(counts, kinds, "")
    for kind in kinds:
        numbers |= _scores(counts, [kind], f"/{kind}")
    return numbers


def marked(text: str, entities: Iterable[Mapping]) -> str:
    """Returns the text with each entity written as [its text|TYPE probability].

    Args:
        entities: in the order of the text; `start` and `end` count its characters.
    """
    parts, done = [], 0
    for entity in entities:
        start, end = entity["start"], entity["end"]
        share = f"{entity['type']} {entity['probability']:.2f}"
        parts += [text[done:start], f"[{text[start:end]}|{share}]"]
        done = end
    return "".join([*parts, text[done:]])


def _parts(tag: str, scheme: Scheme, what: str, right: str) -> tuple[str, str]:
    """Splits a tag into prefix and type, such as ("B", TYPE); ("O", "") outside entities."""
    prefix, _, kind = tag.partition("-")
    if tag != "O" and (prefix == "O" or len(prefix) != 1 or prefix not in scheme or not kind):
        raise ValueError(f"{what} is {tag!r}, not {right}")
    return prefix, kind


def _lenient(parts: Sequence[tuple[str, str]]) -> list[Span]:
    entities = []
    kind, start = "", 0
    for i, (prefix, new) in enumerate([*parts, ("O", "")]):
        if kind and (prefix != "I" or new != kind):
            entities.append((kind, start, i))
        if prefix == "B" or new != kind:
            kind, start = new, i
    return entities


def _strict(parts: Sequence[tuple[str, str]]) -> list[Span]:
    entities = []
    kind, start = "", 0  # the entity that has begun and not ended
    for i, (prefix, new) in enumerate(parts):
        if prefix == "S":
            entities.append((new, i, i + 1))
        elif prefix == "E" and kind == new:
            entities.append((kind, start, i + 1))
        if prefix == "B":
            kind, start = new, i
        elif prefix != "I" or new != kind:
            kind = ""
    return entities


def _scores(counts: Mapping[str, float], kinds: Iterable[str], suffix: str) -> dict[str, float]:
    gold, predicted, correct = (
        sum(counts.get(f"{name}/{kind}", 0.0) for kind in kinds)
        for name in ("gold", "predicted", "correct")
    )
    precision, recall = ratio(correct, predicted), ratio(correct, gold)
    return {
        f"precision{suffix}": precision,
        f"recall{suffix}": recall,
        f"f1{suffix}": harmonic(precision, recall),
    }
