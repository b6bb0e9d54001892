"""Entity-level precision, recall and F1 over BIO tags, in the reading of conlleval and seqeval.

The reading is lenient about how an entity begins: an I- tag after O, or after an entity of another
type, starts a new entity, as a B- tag does. An entity counts as found if its first token, its last
token and its type are all right (Tjong Kim Sang and De Meulder 2003, CoNLL-2003 shared task).
"""

from collections.abc import Iterable, Mapping, Sequence

from research.evaluation.metrics import Counts, harmonic, ratio


def spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """The entities of one sentence as (type, first token, token after the last).

    Raises ValueError for a tag that is not O, B-TYPE or I-TYPE.
    """
    found = []
    kind, start = "", 0
    for i, tag in enumerate([*tags, "O"]):
        prefix, _, new = tag.partition("-")
        if tag != "O" and (prefix not in ("B", "I") or not new):
            raise ValueError(f"tag {tag!r} of token {i} is not O, B-TYPE or I-TYPE")
        if kind and (prefix != "I" or new != kind):
            found.append((kind, start, i))
        if prefix == "B" or new != kind:
            kind, start = new, i
    return found


def count(gold: Sequence[str], predicted: Sequence[str]) -> Counts:
    """Counts of one sentence by type: gold/TYPE, predicted/TYPE and correct/TYPE.

    Raises ValueError if the two do not have one tag for every token.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold tags but {len(predicted)} predicted ones")
    truth, guess = set(spans(gold)), set(spans(predicted))
    counts: Counts = {}
    for name, found in (("gold", truth), ("predicted", guess), ("correct", truth & guess)):
        for kind, _, _ in found:
            counts[f"{name}/{kind}"] = counts.get(f"{name}/{kind}", 0.0) + 1.0
    return counts


def finish(counts: Mapping[str, float]) -> dict[str, float]:
    """precision, recall and f1 over all entities (micro), and precision/TYPE and so on by type."""
    kinds = sorted({key.partition("/")[2] for key, value in counts.items() if value})
    numbers = _scores(counts, kinds, "")
    for kind in kinds:
        numbers |= _scores(counts, [kind], f"/{kind}")
    return numbers


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
