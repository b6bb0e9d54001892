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
    """`ids[i]` stand before text i, the last ones behind the last text; `types` are their token
    types, `text_types` those of the texts.
    """

    ids: tuple[tuple[int, ...], ...]
    types: tuple[tuple[int, ...], ...]
    text_types: tuple[int, ...]

    def __len__(self) -> int:
        """How many special tokens there are."""
        return sum(map(len, self.ids))

    def around(self, parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and token types of the texts `parts` (ids of each) in their frame, int32 [n]."""
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
        """Bool [n]: those of the texts, and true for each special token."""
        flags = [np.ones(len(self.ids[0]), bool)]
        for part, behind in zip(parts, self.ids[1:], strict=True):
            flags += [part, np.ones(len(behind), bool)]
        return np.concatenate(flags)

    def to_json(self, names: dict[int, str]) -> list[dict[str, Any]]:
        """One of the two templates of a tokenizer.json's TemplateProcessing."""
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
    """BERT's: [CLS] A [SEP], or [CLS] A [SEP] B [SEP] with token types 0 and 1 (or 0 alone)."""
    kinds = tuple(range(texts)) if token_types else (0,) * texts
    return Frame(((begin,), *[(close,)] * texts), ((0,), *((kind,) for kind in kinds)), kinds)


def template(
    single: Sequence[str], pair: Sequence[str], tokens: Mapping[str, tuple[str, int]]
) -> processors.TemplateProcessing:
    """The post-processor with these two frames, in which tokens are named by their roles.

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
    """The frame that puts "bos" before each text and "eos" behind it, those of the two that
    `tokens` has, with token type 1 for the second text."""
    begin, close = ([role] if role in tokens else [] for role in ("bos", "eos"))
    second = [f"{part}:1" for part in (*begin, "$B", *close)]
    single = [*begin, "$A", *close]
    return template(single, [*single, *second], tokens)


def of_processor(processor: processors.PostProcessor, texts: int, token_types: bool) -> Frame:
    """What a post-processor of the `tokenizers` library puts around so many texts.

    token_types: False makes all of them 0.

    Raises UserError where each text does not stand there once, in order.
    """
    probe = tokenizers.Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    probe.post_processor = processor
    encoding = probe.encode(*"a" * texts)
    places = [i for i, text in enumerate(encoding.sequence_ids) if text is not None]
    if [encoding.sequence_ids[i] for i in places] != list(range(texts)):
        raise UserError(
            f"tokenizer.json: post_processor: around {texts} texts it has {len(places)} texts, or "
            "not in their order, which is not supported"
        )
    kinds = [kind * token_types for kind in encoding.type_ids]
    starts, ends = [0, *(i + 1 for i in places)], [*places, len(encoding.ids)]
    cut = [slice(*pair) for pair in zip(starts, ends, strict=True)]
    return Frame(
        tuple(tuple(encoding.ids[c]) for c in cut),
        tuple(tuple(kinds[c]) for c in cut),
        tuple(kinds[i] for i in places),
    )
