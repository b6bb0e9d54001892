"""From slots to the arrays of a batch.

Axes: R rows, L positions of a row, S slots of a row, P predicted positions of a row.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from research.data.tokenizer import Tokenizer

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Capacities of a row, and which arrays a batch has beside the common ones.

    `predictions` = P > 0 adds predict_positions, predict_targets, predict_weights [R, P];
    `targets` adds targets and target_weights [R, L], `bytes` target_bytes [R, L], `prefix` a bool
    array [R, L]; each name in `labels` an int array [R, S], in `values` a float one. `together`:
    all slots of an example share a row.
    """

    length: int
    slots: int
    predictions: int = 0
    targets: bool = False
    bytes: bool = False
    prefix: bool = False
    labels: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    together: bool = False


@dataclasses.dataclass(frozen=True)
class Slot:
    """One example (or window, or sentence pair) as it will lie in a row; n tokens.

    tokens, types: int [n]; predict_*: int, positions within the slot; targets, target_weights:
    [n], target_bytes: the UTF-8 bytes of text that each
    target stands for; prefix: so many tokens are seen by all of the slot; labels, values: one int,
    one float for each of the layout's; weight 0 keeps the slot out of every sum; word_starts: bool
    [n], true at the first token of a word, of what is masked.
    """

    tokens: np.ndarray
    types: np.ndarray
    example: int = 0
    weight: float = 1.0
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)
    values: Mapping[str, float] = dataclasses.field(default_factory=dict)
    predict_positions: np.ndarray | None = None
    predict_targets: np.ndarray | None = None
    targets: np.ndarray | None = None
    target_weights: np.ndarray | None = None
    target_bytes: np.ndarray | None = None
    prefix: int = 0
    word_starts: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.tokens)


def framed(tokenizer: Tokenizer, parts: Sequence[np.ndarray], length: int) -> Slot:
    """One text or two in the tokenizer's frame ([CLS] A [SEP] B [SEP]), cut to `length` tokens.

    parts: the ids of each text. The longest part is cut first, at its end.
    """
    frame = tokenizer.frame(len(parts))
    sizes = [len(p) for p in parts]
    while sum(sizes) > length - len(frame):
        sizes[int(np.argmax(sizes))] -= 1
    return Slot(*frame.around([part[:size] for part, size in zip(parts, sizes, strict=True)]))


def empty(rows: int, layout: Layout, pad: int | None) -> Batch:
    """A batch of `rows` rows of padding, with weight 0 everywhere.

    pad: None where the tokenizer has none (GPT-2's); nothing ever attends to it.
    """
    wide, slots = (rows, layout.length), (rows, layout.slots)
    batch = {
        "tokens": np.full(wide, pad or 0, np.int32),
        "slots": np.zeros(wide, np.int32),
        "positions": np.zeros(wide, np.int32),
        "token_types": np.zeros(wide, np.int32),
        "first": np.zeros(slots, np.int32),
        "last": np.zeros(slots, np.int32),
        "example": np.full(slots, -1, np.int32),
        "slot_weights": np.zeros(slots, np.float32),
    }
    if layout.predictions:
        predict = (rows, layout.predictions)
        batch["predict_positions"] = np.zeros(predict, np.int32)
        batch["predict_targets"] = np.zeros(predict, np.int32)
        batch["predict_weights"] = np.zeros(predict, np.float32)
    if layout.targets:
        batch["targets"] = np.zeros(wide, np.int32)
        batch["target_weights"] = np.zeros(wide, np.float32)
    if layout.bytes:
        batch["target_bytes"] = np.zeros(wide, np.float32)
    if layout.prefix:
        batch["prefix"] = np.zeros(wide, bool)
    for name in layout.labels:
        batch[name] = np.zeros(slots, np.int32)
    for name in layout.values:
        batch[name] = np.zeros(slots, np.float32)
    return batch


def assemble(rows: Sequence[Sequence[Slot]], layout: Layout, pad: int | None) -> Batch:
    """Lays the slots of each row side by side.

    Raises ValueError where a row's slots exceed a capacity: the packer must have seen to it.
    """
    batch = empty(len(rows), layout, pad)
    for r, slots in enumerate(rows):
        if len(slots) > layout.slots:
            raise ValueError(f"row {r} has {len(slots)} slots, capacity {layout.slots}")
        at = predicted = 0
        for s, slot in enumerate(slots):
            end = at + len(slot)
            if end > layout.length:
                raise ValueError(f"row {r} needs {end} positions, capacity {layout.length}")
            here = slice(at, end)
            batch["tokens"][r, here] = slot.tokens
            batch["slots"][r, here] = s + 1
            batch["positions"][r, here] = np.arange(len(slot))
            batch["token_types"][r, here] = slot.types
            batch["first"][r, s] = at
            batch["last"][r, s] = end - 1
            batch["example"][r, s] = slot.example
            batch["slot_weights"][r, s] = slot.weight
            for name in layout.labels:
                # A place in the slot becomes a place in the row.
                shift = at if name in ("start", "end") else 0
                batch[name][r, s] = slot.labels[name] + shift
            for name in layout.values:
                batch[name][r, s] = slot.values[name]
            if layout.predictions:
                count = len(slot.predict_positions)
                to = slice(predicted, predicted + count)
                if to.stop > layout.predictions:
                    raise ValueError(f"row {r} predicts over {layout.predictions} positions")
                batch["predict_positions"][r, to] = slot.predict_positions + at
                batch["predict_targets"][r, to] = slot.predict_targets
                batch["predict_weights"][r, to] = slot.weight
                predicted = to.stop
            if layout.targets:
                batch["targets"][r, here] = slot.targets
                batch["target_weights"][r, here] = slot.target_weights * slot.weight
            if layout.bytes:
                batch["target_bytes"][r, here] = slot.target_bytes
            if layout.prefix:
                batch["prefix"][r, at : at + slot.prefix] = True
            at = end
    return batch


def pack(
    lengths: Sequence[int],
    length: int,
    slots: int,
    order: Sequence[int] | None = None,
    counts: Sequence[int] | None = None,
) -> list[list[int]]:
    """First-fit decreasing: which items share a row of `length` tokens and at most `slots` slots.

    Args:
        order: in which the items are placed; default: the longest first.
        counts: how many slots each item has; default: one.

    Returns rows of indices into `lengths`. Raises ValueError for an item larger than a row.
    """
    order = order if order is not None else np.argsort(-np.asarray(lengths), kind="stable")
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # free tokens and free slots
    for i in order:
        n, count = lengths[i], 1 if counts is None else counts[i]
        if n > length:
            raise ValueError(f"item {i} has {n} tokens, a row has {length}")
        if count > slots:
            raise ValueError(f"item {i} has {count} slots, a row has {slots}")
        for r, (tokens, free) in enumerate(room):
            if tokens >= n and free >= count:
                rows[r].append(int(i))
                room[r] = tokens - n, free - count
                break
        else:
            rows.append([int(i)])
            room.append((length - n, slots - count))
    return rows
