"""Packs segments into rows and lays them out as the arrays of a batch.

Axes: R rows, L positions of a row, S segments of a row, P predicted positions of a row.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from research.data.tokenizer import Tokenizer

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Capacities of a row, and the arrays a batch has beside the common ones.

    `predictions` = P > 0 adds predict_positions, predict_targets, predict_weights [R, P];
    `targets` adds targets and target_weights [R, L], `bytes` target_bytes [R, L], `prefix` a bool
    array [R, L]; each name in `labels` an int array [R, S], in `values` a float one. `together`:
    all segments of an example share a row.
    """

    length: int
    segments: int
    predictions: int = 0
    targets: bool = False
    bytes: bool = False
    prefix: bool = False
    labels: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    together: bool = False


@dataclasses.dataclass(frozen=True)
class Segment:
    """One example (or window, or sentence pair) of n tokens, a part of a row.

    tokens, types: int [n]; predict_*: int, with positions in the segment; targets, target_weights:
    [n]; target_bytes: the UTF-8 bytes of each target's text; prefix: the number of first tokens
    that the whole segment sees; labels, values: an int or a float for each of the layout's names;
    weight: 0 keeps the segment out of every sum; word_starts: bool [n], true at the first token of
    a word (for masking). Arrays of the layout that a segment lacks are 0 in its row.
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


def framed(tokenizer: Tokenizer, parts: Sequence[np.ndarray], length: int) -> Segment:
    """Frames one or two texts as the tokenizer does ([CLS] A [SEP] B [SEP]), cut to `length`.

    parts: the ids of each text. The longest part is cut first, at its end.
    """
    frame = tokenizer.frame(len(parts))
    sizes = [len(p) for p in parts]
    while sum(sizes) > length - len(frame):
        sizes[int(np.argmax(sizes))] -= 1
    return Segment(*frame.around([part[:size] for part, size in zip(parts, sizes, strict=True)]))


def empty(rows: int, layout: Layout, pad: int | None) -> Batch:
    """Returns a batch of `rows` rows of padding, with weight 0 everywhere.

    pad: None if the tokenizer has no pad token (GPT-2's); nothing ever attends to padding.
    """
    wide, segments = (rows, layout.length), (rows, layout.segments)
    batch = {
        "tokens": np.full(wide, pad or 0, np.int32),
        "segments": np.zeros(wide, np.int32),
        "positions": np.zeros(wide, np.int32),
        "token_types": np.zeros(wide, np.int32),
        "first": np.zeros(segments, np.int32),
        "last": np.zeros(segments, np.int32),
        "example": np.full(segments, -1, np.int32),
        "segment_weights": np.zeros(segments, np.float32),
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
        batch[name] = np.zeros(segments, np.int32)
    for name in layout.values:
        batch[name] = np.zeros(segments, np.float32)
    return batch


def assemble(rows: Sequence[Sequence[Segment]], layout: Layout, pad: int | None) -> Batch:
    """Lays the segments of each row side by side.

    Raises ValueError if a row's segments exceed a capacity, which the packer must prevent.
    """
    batch = empty(len(rows), layout, pad)
    for r, segments in enumerate(rows):
        if len(segments) > layout.segments:
            raise ValueError(f"row {r} has {len(segments)} segments, capacity {layout.segments}")
        at = predicted = 0
        for s, segment in enumerate(segments):
            end = at + len(segment)
            if end > layout.length:
                raise ValueError(f"row {r} needs {end} positions, capacity {layout.length}")
            span = slice(at, end)
            batch["tokens"][r, span] = segment.tokens
            batch["segments"][r, span] = s + 1
            batch["positions"][r, span] = np.arange(len(segment))
            batch["token_types"][r, span] = segment.types
            batch["first"][r, s] = at
            batch["last"][r, s] = end - 1
            batch["example"][r, s] = segment.example
            batch["segment_weights"][r, s] = segment.weight
            for name, label in segment.labels.items():
                # Positions in the segment become positions in the row.
                batch[name][r, s] = label + (at if name in ("start", "end") else 0)
            for name, value in segment.values.items():
                batch[name][r, s] = value
            if segment.predict_positions is not None:
                count = len(segment.predict_positions)
                to = slice(predicted, predicted + count)
                if to.stop > layout.predictions:
                    raise ValueError(f"row {r} predicts over {layout.predictions} positions")
                batch["predict_positions"][r, to] = segment.predict_positions + at
                batch["predict_targets"][r, to] = segment.predict_targets
                batch["predict_weights"][r, to] = segment.weight
                predicted = to.stop
            if segment.targets is not None:
                batch["targets"][r, span] = segment.targets
                batch["target_weights"][r, span] = segment.target_weights * segment.weight
            if segment.target_bytes is not None:
                batch["target_bytes"][r, span] = segment.target_bytes
            if segment.prefix:
                batch["prefix"][r, at : at + segment.prefix] = True
            at = end
    return batch


def pack(
    lengths: Sequence[int],
    length: int,
    segments: int,
    order: Sequence[int] | None = None,
    counts: Sequence[int] | None = None,
) -> list[list[int]]:
    """Packs items into rows of `length` tokens and at most `segments` segments by first fit.

    Args:
        order: the order in which items are placed; default: longest first (first-fit decreasing).
        counts: the number of segments of each item; default: one.

    Returns rows of indices into `lengths`. Raises ValueError for an item larger than a row.
    """
    order = order if order is not None else np.argsort(-np.asarray(lengths), kind="stable")
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # free tokens and free segments
    for i in order:
        n, count = lengths[i], 1 if counts is None else counts[i]
        if n > length:
            raise ValueError(f"item {i} has {n} tokens, a row has {length}")
        if count > segments:
            raise ValueError(f"item {i} has {count} segments, a row has {segments}")
        for r, (tokens, free) in enumerate(room):
            if tokens >= n and free >= count:
                rows[r].append(int(i))
                room[r] = tokens - n, free - count
                break
        else:
            rows.append([int(i)])
            room.append((length - n, segments - count))
    return rows
