"""Special tokens: their names in model families, and texts that may contain them."""

from collections.abc import Callable, Collection, Sequence

import numpy as np

from research.data import encoding as encodings
from research.data.encoding import Encoding

BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
GPT_SPECIALS = ("<|pad|>", "<|endoftext|>")
# In order of preference. Families share names: in RoBERTa's vocabulary <s> is both cls and bos.
ROLES = {
    "pad": ("[PAD]", "<pad>", "<|pad|>", "<|padding|>", "<|finetune_right_pad_id|>"),
    "unk": ("[UNK]", "<unk>", "<|unk|>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>", "<|mask|>"),
    "bos": ("<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>", "<|endoftext|>"),
    "eos": ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>"),
}
# The tokens that end a turn of models tuned on conversations.
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end_of_turn|>", "<|end|>")
NAMES = frozenset(name for names in (*ROLES.values(), TURN_ENDS) for name in names)


class Templated(str):
    """A text in which only the characters of `control` (start, end) may be special tokens.

    A template writes them; the text of speakers is between them.
    """

    control: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, text: str, control: Sequence[tuple[int, int]]) -> "Templated":
        templated = cls(text)
        templated.control = tuple(control)
        return templated

    def since(self, start: int) -> "Templated":
        """Returns the text from a character on."""
        control = [(max(0, a - start), b - start) for a, b in self.control if b > start]
        return Templated.of(str(self)[start:], control)


def encode(
    text: Templated,
    special: Collection[int],
    each: Callable[[Sequence[str], bool], list[Encoding]],
) -> Encoding:
    """Returns the tokens of a text; only its control characters may become special tokens.

    Args:
        special: ids of special tokens.
        each: encodes texts, with or without parsing special tokens.
    """
    parsed = each([text], True)[0]
    is_special = np.isin(parsed.ids, list(special))
    places = np.stack([parsed.starts, parsed.ends], axis=1)[is_special].tolist()
    own, others = [], False
    for start, end in places:
        inside = any(a < end and start < b for a, b in text.control)
        own += [(start, end)] if inside else []
        others = others or not inside
    if not others:
        return parsed
    parts, at = [], 0
    for start, end in (*own, (len(text), len(text))):
        parts.append((at, each([str(text)[at:start]], False)[0]))
        parts.append((start, each([str(text)[start:end]], True)[0]))
        at = end
    return encodings.joined(parts)
