"""The special tokens that a tokenizer puts around one text, or around two."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers
from tokenizers import models, processors

from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class Frame:
    """`ids[i]` come before text i, the last ones after the last text; `types` are their token
    types, `text_types` those of the texts.
    """

    ids: tuple[tuple[int, ...], ...]
    types: tuple[tuple[int, ...], ...]
    text_types: tuple[int, ...]

    def __len__(self) -> int:
        """The number of special tokens."""
        return sum(map(len, self.ids))

    def around(self, parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Returns tokens and token types of the framed texts `parts` (ids of each), int32 [n]."""
        tokens, types = [], []
        for before, kinds, part, kind in zip(
            self.ids[:-1], self.types[:-1], parts, self.text_types, strict=True
        ):
            tokens += [before, part]
            types += [kinds, np.full(len(part), kind)]
        tokens, types = (
            np.concatenate(x) for x in ([*tokens, self.ids[-1]], [*types, self.types[-1]])
        )
        return tokens.astype(np.int32), types.astype(np.int32)

    def flags(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the flags of framed texts, bool [n]: `parts`, and true for special tokens."""
        flags = [np.ones(len(self.ids[0]), bool)]
        for part, behind in zip(parts, self.ids[1:], strict=True):
            flags += [part, np.ones(len(behind), bool)]
        return np.concatenate(flags)

    def to_json(self, names: dict[int, str]) -> list[dict[str, Any]]:
        """Returns the frame as a template of a tokenizer.json's TemplateProcessing."""
        pieces = []
        for i, (ids, types) in enumerate(zip(self.ids, self.types, strict=True)):
            pieces += [
                {"SpecialToken": {"id": names[number], "type_id": kind}}
                for number, kind in zip(ids, types, strict=True)
            ]
            if i < len(self.text_types):
                pieces.append({"Sequence": {"id": "AB"[i], "type_id": self.text_types[i]}})
        return pieces


def classic(begin: int, close: int, texts: int, token_types: bool) -> Frame:
    """Returns BERT's frame: [CLS] A [SEP], or [CLS] A [SEP] B [SEP] with types 0 and 1 (or 0)."""
    kinds = tuple(range(texts)) if token_types else (0,) * texts
    return Frame(((begin,), *[(close,)] * texts), ((0,), *((kind,) for kind in kinds)), kinds)


def template(
    single: Sequence[str], pair: Sequence[str], tokens: Mapping[str, tuple[str, int]]
) -> processors.TemplateProcessing:
    """Returns the post-processor with these two frames, whose tokens are named by role.

    single, pair: as in ["cls", "$A", "sep"] and ["cls", "$A", "sep", "$B:1", "sep:1"].
    tokens: name and id for each role.
    """
    specials = [
        {"id": role, "ids": [number], "tokens": [name]} for role, (name, number) in tokens.items()
    ]
    return processors.TemplateProcessing(
        single=list(single), pair=list(pair), special_tokens=specials
    )


def ends(tokens: Mapping[str, tuple[str, int]]) -> processors.TemplateProcessing:
    """Returns the frame with "bos" before each text and "eos" after it, as far as `tokens` has
    them; the second text has token type 1."""
    begin, close = ([role] if role in tokens else [] for role in ("bos", "eos"))
    second = [f"{part}:1" for part in (*begin, "$B", *close)]
    single = [*begin, "$A", *close]
    return template(single, [*single, *second], tokens)


def of_processor(processor: processors.PostProcessor, texts: int, token_types: bool) -> Frame:
    """Returns the frame of a post-processor of the `tokenizers` library around `texts` texts.

    token_types: False makes all types 0.

    Raises UserError if the post-processor drops, repeats or reorders texts.
    """
    probe = tokenizers.Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    probe.post_processor = processor
    encoding = probe.encode(*"a" * texts)
    places = [i for i, text in enumerate(encoding.sequence_ids) if text is not None]
    if [encoding.sequence_ids[i] for i in places] != list(range(texts)):
        raise UserError(
            f"tokenizer.json: post_processor: it turns {texts} texts into {len(places)} or changes "
            "their order, which is not supported"
        )
    kinds = [kind * token_types for kind in encoding.type_ids]
    starts, ends = [0, *(i + 1 for i in places)], [*places, len(encoding.ids)]
    cut = [slice(*pair) for pair in zip(starts, ends, strict=True)]
    return Frame(
        tuple(tuple(encoding.ids[c]) for c in cut),
        tuple(tuple(kinds[c]) for c in cut),
        tuple(kinds[i] for i in places),
    )
