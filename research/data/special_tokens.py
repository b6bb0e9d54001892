"""Special tokens: their names in the families of models, and where a text may have them."""

from collections.abc import Callable, Collection, Sequence

import numpy as np

from research.data import encoding as encodings
from research.data.encoding import Encoding

BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
GPT_SPECIALS = ("<|pad|>", "<|endoftext|>")
# In the order of preference. Families share names: in RoBERTa's vocabulary <s> is both cls and bos.
ROLES = {
    "pad": ("[PAD]", "<pad>", "<|pad|>", "<|padding|>", "<|finetune_right_pad_id|>"),
    "unk": ("[UNK]", "<unk>", "<|unk|>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>", "<|mask|>"),
    "bos": ("<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>", "<|endoftext|>"),
    "eos": ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>"),
}
# With these a model that was tuned on conversations ends what it says.
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end_of_turn|>", "<|end|>")
NAMES = frozenset(name for names in (*ROLES.values(), TURN_ENDS) for name in names)


class Templated(str):
    """A text of which only some characters, `control` (start, end), may be special tokens.

    They are a template's own; what others say stands between them.
    """

    control: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, text: str, control: Sequence[tuple[int, int]]) -> "Templated":
        templated = cls(text)
        templated.control = tuple(control)
        return templated

    def since(self, start: int) -> "Templated":
        """The text from a character on."""
        control = [(max(0, a - start), b - start) for a, b in self.control if b > start]
        return Templated.of(str(self)[start:], control)


def encode(
    text: Templated,
    special: Collection[int],
    each: Callable[[Sequence[str], bool], list[Encoding]],
) -> Encoding:
    """The tokens of a text of which the control characters alone may be special tokens.

    Args:
        special: ids of special tokens.
        each: the tokens of texts, with special tokens parsed or not.
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
