"""Text into token ids and back, with the `tokenizers` library.

Every tokenizer, of characters and bytes too, is one JSON document of that library, so that all
are saved, loaded and used in the same way. Special tokens are known by their names.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import tokenizers
from tokenizers import (
    AddedToken,
    Regex,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from research.errors import UserError

BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
GPT_SPECIALS = ("<|pad|>", "<|endoftext|>")
# In the order of preference. Families share names: in RoBERTa's vocabulary <s> is both cls and bos.
_ROLES = {
    "pad": ("[PAD]", "<pad>", "<|pad|>", "<|padding|>", "<|finetune_right_pad_id|>"),
    "unk": ("[UNK]", "<unk>", "<|unk|>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>", "<|mask|>"),
    "bos": ("<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>", "<|endoftext|>"),
    "eos": ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>"),
}
# With these a model that was tuned on conversations ends what it says.
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end_of_turn|>", "<|end|>")
_NAMES = frozenset(name for names in (*_ROLES.values(), _TURN_ENDS) for name in names)
# WordPiece keeps this many characters, as BERT's own training did; byte-level BPE needs no limit.
_ALPHABET = 1000
_MIN_FREQUENCY = 2


class Encoding(NamedTuple):
    """The tokens of one text, int32 arrays of one length.

    `text[start:end]` is what a token stands for (a byte-level token that opens with a space
    includes it; several tokens of one character share its place). `words` counts the words of
    the text from 0 as the tokenizer cuts them, or is the index into the words that were given.
    """

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    words: np.ndarray


class Tokenizer:
    """A `tokenizers.Tokenizer` with its special ids.

    Attributes:
      vocab_size: the number of rows that an embedding needs: the highest id + 1.
      pad, unk, cls, sep, mask, bos, eos: ids, None where the tokenizer declares none.
      ends: ids that end what a model generates: eos, then the ends of a turn.
      special_ids: all ids that stand for no text.
      separators: how many `sep` stand between the two texts of a pair (RoBERTa: 2).
    """

    def __init__(self, inner: tokenizers.Tokenizer):
        inner.no_truncation()  # some published tokenizer.json files carry both
        inner.no_padding()
        self._inner = inner
        added = inner.get_added_tokens_decoder()
        ids = {token.content: number for number, token in added.items()}
        roles = {
            role: next((ids[name] for name in names if name in ids), None)
            for role, names in _ROLES.items()
        }
        self.pad: int | None = roles["pad"]
        self.unk: int | None = roles["unk"]
        self.cls: int | None = roles["cls"]
        self.sep: int | None = roles["sep"]
        self.mask: int | None = roles["mask"]
        self.bos: int | None = roles["bos"]
        self.eos: int | None = roles["eos"]
        turns = (ids[name] for name in _TURN_ENDS if name in ids)
        self.ends: tuple[int, ...] = tuple(n for n in (self.eos, *turns) if n is not None)
        self.special_ids = frozenset(
            number for number, token in added.items() if token.special or token.content in _NAMES
        )
        self.vocab_size: int = max(inner.get_vocab(with_added_tokens=True).values()) + 1
        # The frame that the tokenizer itself would put around a pair ends with one.
        self.separators = max(1, inner.encode("a", "b").ids.count(self.sep) - 1)

    def encode(self, text: str) -> Encoding:
        """The tokens of a text, without special tokens around them.

        A special token that the text spells out ("the [MASK].") becomes that token.
        """
        return _arrays(self._inner.encode(text, add_special_tokens=False))

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """`encode` of each text, on all cores."""
        encoded = self._inner.encode_batch(list(texts), add_special_tokens=False)
        return [_arrays(encoding) for encoding in encoded]

    def encode_words(self, words: Sequence[str]) -> Encoding:
        """The tokens of a text given as words; offsets refer to `" ".join(words)`.

        Each word has at least one token ([UNK] where the tokenizer would drop it), and its
        first token holds its first character: a space that is a token by itself counts to the
        word before it. Raises UserError for a word that cannot have a token.
        """
        firsts = np.cumsum([0, *(len(word) + 1 for word in words)], dtype=np.int64)
        ids, starts, ends, _ = self.encode(" ".join(words))
        # A token belongs to the word of its last character; the space after a word is the word's.
        owners = np.searchsorted(firsts, np.maximum(ends - 1, starts), side="right") - 1
        missing = np.setdiff1d(np.arange(len(words)), owners)
        if missing.size:
            if self.unk is None:
                word = words[int(missing[0])]
                raise UserError(f"the word {word!r} (number {missing[0]}) gives no token")
            places = np.searchsorted(owners, missing)
            lengths = np.array([len(words[int(i)]) for i in missing])
            ids = np.insert(ids, places, self.unk)
            starts = np.insert(starts, places, firsts[missing])
            ends = np.insert(ends, places, firsts[missing] + lengths)
            owners = np.insert(owners, places, missing)
        return Encoding(*(array.astype(np.int32) for array in (ids, starts, ends, owners)))

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """The text of token ids; ids above the vocabulary stand for nothing."""
        return self._inner.decode([int(i) for i in ids], skip_special_tokens=skip_special)

    def token(self, token_id: int) -> str:
        """The entry of the vocabulary with this id. Raises IndexError where there is none."""
        token = self._inner.id_to_token(int(token_id)) if token_id >= 0 else None
        if token is None:
            raise IndexError(f"no token has id {token_id} (vocabulary of {self.vocab_size})")
        return token

    def byte_lengths(self) -> np.ndarray:
        """UTF-8 bytes of the text that each id stands for, int32 [vocab_size].

        Special tokens stand for none, and neither do blanks that a tokenizer (WordPiece) drops.
        """
        decoder = json.dumps(json.loads(self.to_json())["decoder"])
        found = np.zeros(self.vocab_size, np.int32)
        for token, number in self._inner.get_vocab(with_added_tokens=True).items():
            if number in self.special_ids:
                continue
            if '"ByteLevel"' in decoder:  # one character for each byte
                found[number] = len(token)
            else:
                bare = token.removeprefix("##") if '"WordPiece"' in decoder else token
                found[number] = len(bare.encode())
        return found

    def require(self, role: str, why: str) -> int:
        """The id of a special token ("mask"). UserError, with the reason, if there is none."""
        found = getattr(self, role)
        if found is None:
            raise UserError(
                f"the tokenizer declares no {role} token ({why}); it would be named "
                f"{' or '.join(_ROLES[role])}; config.tokenizer.add_tokens appends one"
            )
        return found

    def with_tokens(self, names: Sequence[str]) -> "Tokenizer":
        """The same tokenizer with special tokens appended; names it already has are left alone."""
        grown = tokenizers.Tokenizer.from_str(self._inner.to_str())
        grown.add_special_tokens(list(names))
        return Tokenizer(grown)

    def to_json(self) -> str:
        """The whole tokenizer as one JSON document, a tokenizer.json."""
        return self._inner.to_str()

    @staticmethod
    def from_json(text: str) -> "Tokenizer":
        """The tokenizer of a tokenizer.json's text. Raises UserError if it is none."""
        try:
            return Tokenizer(tokenizers.Tokenizer.from_str(text))
        except Exception as error:  # the library raises nothing narrower
            raise UserError(f"not a tokenizer.json ({error})") from error

    def fingerprint(self) -> str:
        """SHA-256 of the JSON, hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def train_wordpiece(texts: Iterable[str], vocab_size: int, lowercase: bool = False) -> Tokenizer:
    """A WordPiece vocabulary (Schuster & Nakajima 2012, as in BERT) learnt from texts.

    Ids: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4. Few texts give fewer than `vocab_size`
    entries. The same texts give the same tokenizer. Texts are gone through twice, so they are
    held in memory.

    Raises UserError for no text, or a vocabulary too small for the characters alone.
    """
    texts = _some(texts)
    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    splitter = pre_tokenizers.BertPreTokenizer()
    # The library numbers the ##-characters in the order of a hash table, which differs from run
    # to run and decides ties between merges. Named ahead as special tokens, they have an order.
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text))
    ranked = sorted((c for c in counts if not c.isspace()), key=lambda c: (-counts[c], c))
    alphabet = sorted(ranked[:_ALPHABET])
    inner = [f"##{c}" for c in alphabet if len(splitter.pre_tokenize_str(f"a{c}a")) == 1]
    first = [*BERT_SPECIALS, *inner]
    _fits(vocab_size, len(first) + len(alphabet))

    learner = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer, learner.pre_tokenizer = normalizer, splitter
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=_MIN_FREQUENCY,
        special_tokens=first,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer, length=len(texts))
    return word_pieces(learner.get_vocab(with_added_tokens=True), lowercase)


def train_byte_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE (Radford et al. 2019, GPT-2) learnt from texts.

    All 256 bytes are in the vocabulary, so any text can be encoded and comes back exactly.
    Ids: <|pad|> 0, <|endoftext|> 1. The same texts give the same tokenizer. Raises UserError as
    `train_wordpiece`.
    """
    texts = _some(texts)
    _fits(vocab_size, len(GPT_SPECIALS) + 256)
    inner = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=_MIN_FREQUENCY,
        special_tokens=list(GPT_SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer, length=len(texts))
    return Tokenizer(_with_specials(inner, GPT_SPECIALS))


def characters(texts: Iterable[str]) -> Tokenizer:
    """Every character of the texts is a token; ids <|pad|> 0, <|endoftext|> 1, <|unk|> 2."""
    names = (*GPT_SPECIALS, "<|unk|>")
    alphabet = sorted(set().union(*_some(texts)))
    vocab = {token: number for number, token in enumerate((*names, *alphabet))}
    # A BPE without merges: its pieces are characters, while words stay what is between spaces.
    inner = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<|unk|>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s"), behavior="merged_with_next")
    inner.decoder = decoders.Fuse()
    return Tokenizer(_with_specials(inner, names))


def byte_tokenizer() -> Tokenizer:
    """Every UTF-8 byte is a token, its id is byte + 2; ids <|pad|> 0, <|endoftext|> 1."""
    vocab = {token: number for number, token in enumerate((*GPT_SPECIALS, *_byte_names()))}
    return Tokenizer(_with_specials(_byte_level(models.BPE(vocab=vocab, merges=[])), GPT_SPECIALS))


def _some(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str):
        raise TypeError("texts is one string; expected a list of them")
    texts = list(texts)
    if not any(text.strip() for text in texts):
        raise UserError("there is no text to make a tokenizer from")
    return texts


def _fits(vocab_size: int, least: int) -> None:
    if vocab_size < least:
        raise UserError(
            f"vocab_size {vocab_size} is too small: special tokens and single characters "
            f"alone are {least}"
        )


def word_pieces(vocab: dict[str, int], lowercase: bool) -> Tokenizer:
    """BERT's WordPiece with this vocabulary."""
    inner = tokenizers.Tokenizer(models.WordPiece(vocab=vocab, unk_token="[UNK]"))
    # Accents go with the capitals (strip_accents=None), as in BERT.
    inner.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    return Tokenizer(_with_specials(inner, [name for name in BERT_SPECIALS if name in vocab]))


def byte_pairs(vocab: dict[str, int], merges: Sequence[tuple[str, ...]]) -> Tokenizer:
    """A byte-level BPE with this vocabulary and these merges, in their order.

    Names that are known as special tokens are special; with <s> and </s> among them texts are
    framed as in RoBERTa.
    """
    inner = _byte_level(models.BPE(vocab=vocab, merges=merges))
    if {"<s>", "</s>"} <= vocab.keys():
        inner.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>",
            pair="<s> $A </s> </s> $B </s>",
            special_tokens=[(name, vocab[name]) for name in ("<s>", "</s>")],
        )
    names = sorted((name for name in _NAMES if name in vocab), key=vocab.get)
    return Tokenizer(_with_specials(inner, names))


def _byte_level(model: models.BPE) -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return inner


def _with_specials(inner: tokenizers.Tokenizer, names: Sequence[str]) -> tokenizers.Tokenizer:
    inner.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in names])
    return inner


def _byte_names() -> list[str]:
    """The character by which a byte-level vocabulary writes each byte, 0 to 255.

    Printable bytes write themselves, the others the characters from U+0100 on, in order
    (Radford et al. 2019, their encoder).
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def _arrays(encoding: tokenizers.Encoding) -> Encoding:
    ids = np.array(encoding.ids, dtype=np.int32)
    offsets = np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2)
    words = np.array(encoding.word_ids, dtype=np.int32)
    return Encoding(ids, offsets[:, 0].copy(), offsets[:, 1].copy(), words)
