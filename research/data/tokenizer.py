"""Converts text to token ids and back, with the `tokenizers` library.

Every tokenizer, also of characters and bytes, is one JSON document of that library, so all are
saved, loaded and used in the same way. Special tokens are recognised by their names.
"""

import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import regex
import tokenizers
from tokenizers import (
    AddedToken,
    Regex,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

from research.data import frame as frames
from research.data import pieces, special_tokens
from research.data.encoding import Encoding, byte_names
from research.data.frame import Frame
from research.data.special_tokens import BERT_SPECIALS, GPT_SPECIALS, NAMES, ROLES, TURN_ENDS
from research.errors import UserError

_BYTE = re.compile("<0x[0-9A-F]{2}>")  # how SentencePiece writes a byte of an unknown character
# The characters in a WordPiece vocabulary, as in BERT's training; byte-level BPE needs no limit.
_ALPHABET = 1000
_MIN_FREQUENCY = 2


class Tokenizer:
    """A `tokenizers.Tokenizer` with its special ids.

    Args:
      roles: declared roles: pad, cls, … -> the name of the token, None for no such token. Other
        roles go to the tokens with the usual names.
      token_types: whether the frame's token types tell the texts of a pair apart; if False, all
        types are 0.
      parse_special: whether a special token that is spelt out in a text becomes that token.

    Attributes:
      vocab_size: the number of embedding rows: the highest id + 1.
      pad, unk, cls, sep, mask, bos, eos: ids, or None. `eos` ends a document; a token that ends a
        turn of a conversation is `eos` only if there is no other.
      declared: the ids of `roles`.
      ends: ids that end generation: eos, then the ends of a turn.
      special_ids: all ids without text; is_special: the same as bool [vocab_size].
      ordinary: all other ids below vocab_size, ascending.
      own_frame: whether the tokenizer has its own frame around a text (the post_processor of a
        tokenizer.json); the project's own tokenizers do not, and get BERT's frame.
    """

    def __init__(
        self,
        inner: tokenizers.Tokenizer,
        roles: Mapping[str, str | None] | None = None,
        token_types: bool = True,
        parse_special: bool = False,
    ):
        inner.no_truncation()  # some published tokenizer.json files carry both
        inner.no_padding()
        self._inner, self.roles, self.token_types = inner, dict(roles or {}), token_types
        self.parse_special = parse_special
        added = inner.get_added_tokens_decoder()
        self._added_special = {number for number, token in added.items() if token.special}
        ids = {token.content: number for number, token in added.items()}
        usual = {
            role: next((ids[name] for name in names if name in ids), None)
            for role, names in ROLES.items()
        }
        self.declared: dict[str, int | None] = {
            role: None if name is None else inner.token_to_id(name)
            for role, name in self.roles.items()
        }
        ids_of = usual | self.declared
        turns = [ids[name] for name in TURN_ENDS if name in ids]
        if ids_of["eos"] in turns and usual["eos"] is not None:
            ids_of["eos"] = usual["eos"]
        self.pad, self.unk, self.cls, self.sep, self.mask, self.bos, self.eos = map(
            ids_of.get, ROLES
        )
        ends = (self.eos, self.declared.get("eos"), *turns)
        self.ends: tuple[int, ...] = tuple(dict.fromkeys(n for n in ends if n is not None))
        self.own_frame = inner.post_processor is not None
        self._frames = [
            frames.of_processor(inner.post_processor, texts, token_types)
            for texts in ((1, 2) if self.own_frame else ())
        ]
        framing = (n for frame in self._frames for part in frame.ids for n in part)
        self.special_ids = frozenset(
            number for number, token in added.items() if token.special or token.content in NAMES
        ).union(framing, (n for n in self.declared.values() if n is not None))
        self.vocab_size: int = max(inner.get_vocab(with_added_tokens=True).values()) + 1
        self.is_special = np.zeros(self.vocab_size, bool)
        self.is_special[list(self.special_ids)] = True
        self.ordinary = np.flatnonzero(~self.is_special)

    def frame(self, texts: int) -> Frame:
        """Returns the special tokens around one text or two.

        Raises UserError if the tokenizer has neither its own frame nor the tokens for BERT's.
        """
        if self.own_frame:
            return self._frames[texts - 1]
        begin = self.cls if self.cls is not None else self.require("eos", "it begins text")
        close = self.sep if self.sep is not None else self.require("eos", "it ends text")
        return frames.classic(begin, close, texts, self.token_types)

    def begin(self, why: str) -> tuple[int, ...]:
        """Returns the ids that begin a text for a language model to continue.

        They come from the tokenizer's own frame, or else are the end-of-text token. Raises
        UserError, with the reason `why`, if there is neither.
        """
        return (self.own_frame and self.frame(1).ids[0]) or (self.require("eos", why),)

    def encode(self, text: str) -> Encoding:
        """Returns the tokens of a text, without special tokens around them.

        A special token spelt out in the text ("the [MASK].") is ordinary text, except with
        `parse_special` and in the control characters of a `Templated` text.
        """
        if self.parse_special or not isinstance(text, special_tokens.Templated):
            return self.encode_batch([text])[0]
        return special_tokens.encode(text, self._added_special, self._encode)

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Encodes each text, on all cores; long texts in pieces."""
        return self._encode(texts, self.parse_special)

    def _encode(self, texts: Sequence[str], parse_special: bool) -> list[Encoding]:
        return pieces.encode_batch(self._inner, texts, lambda: self._places, parse_special)

    @functools.cached_property
    def _places(self) -> Sequence[regex.Pattern]:
        return pieces.places(self._inner)

    @functools.cached_property
    def parsed_only(self) -> np.ndarray:
        """The ids that occur only with `parse_special`, ascending."""
        numbers = sorted(self._added_special - {self.unk})
        encodings = self._encode(list(map(self.token, numbers)), False)
        own = zip(numbers, encodings, strict=True)
        return np.array([n for n, encoding in own if n not in encoding.ids], np.int64)

    def encode_words(self, words: Sequence[str]) -> Encoding:
        """Returns the tokens of a list of words; offsets refer to `" ".join(words)`.

        Each word has at least one token ([UNK] if the tokenizer drops it), and its first token
        contains its first character: a space that is a token of its own belongs to the word before
        it. Raises UserError for a word that cannot have a token.
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
        """Returns the text of token ids; ids above the vocabulary have no text."""
        return self._inner.decode([int(i) for i in ids], skip_special_tokens=skip_special)

    def token(self, token_id: int) -> str:
        """Returns the vocabulary entry with this id. Raises IndexError if there is none."""
        token = self._inner.id_to_token(int(token_id)) if token_id >= 0 else None
        if token is None:
            raise IndexError(f"no token has id {token_id} (vocabulary of {self.vocab_size})")
        return token

    def byte_lengths(self) -> np.ndarray:
        """Returns the UTF-8 bytes of each id's spelling, int32 [vocab_size]; 0 for special tokens.

        Changes by a normalizer and white space dropped between tokens (WordPiece's) do not count
        here: `bytes_of` counts the bytes of a text, and a store scales these numbers to its texts.
        """
        decoder = json.dumps(json.loads(self.library_json())["decoder"], ensure_ascii=False)
        lengths = np.zeros(self.vocab_size, np.int32)
        for token, number in self._inner.get_vocab(with_added_tokens=True).items():
            if number in self.special_ids:
                continue
            if '"ByteLevel"' in decoder or '"ByteFallback"' in decoder and _BYTE.fullmatch(token):
                # One character for each byte, or one token.
                lengths[number] = 1 if _BYTE.fullmatch(token) else len(token)
                continue
            bare = token.removeprefix("##") if '"WordPiece"' in decoder else token
            if "▁" in decoder:
                bare = bare.replace("▁", " ")
            lengths[number] = len(bare.encode())
        return lengths

    def require(self, role: str, why: str) -> int:
        """Returns the id of a special token ("mask"). Raises UserError, with `why`, if missing."""
        number = getattr(self, role)
        if number is None:
            raise UserError(
                f"the tokenizer declares no {role} token ({why}); it would be named "
                f"{' or '.join(ROLES[role])}; config.tokenizer.add_tokens appends one"
            )
        return number

    def with_tokens(self, names: Sequence[str]) -> "Tokenizer":
        """Returns this tokenizer with special tokens appended; existing names do not change."""
        grown = tokenizers.Tokenizer.from_str(self.library_json())
        grown.add_special_tokens(list(names))
        return Tokenizer(grown, self.roles, self.token_types, self.parse_special)

    def parsing_special(self) -> "Tokenizer":
        """Returns this tokenizer with `parse_special`."""
        return Tokenizer(self._inner, self.roles, self.token_types, parse_special=True)

    def library_json(self) -> str:
        """Returns the tokenizer.json for the `tokenizers` library, without declared roles."""
        return self._inner.to_str()

    def to_json(self) -> str:
        """Returns the whole tokenizer as one JSON document: a tokenizer.json, with another key,
        "declared", if roles are declared; the `tokenizers` library does not accept that key.
        """
        text = self.library_json()
        if not self.roles and self.token_types and not self.parse_special:
            return text
        declared = {"roles": self.roles, "token_types": self.token_types}
        declared |= {"parse_special": True} if self.parse_special else {}
        return f'{text.rstrip()[:-1]},"declared":{json.dumps(declared, ensure_ascii=False)}}}'

    @staticmethod
    def from_json(text: str) -> "Tokenizer":
        """Returns the tokenizer of a tokenizer.json's text, or of `to_json`. Raises UserError if
        the text is not one.
        """
        try:
            values = json.loads(text)
            declared = values.pop("declared", {})
            inner = tokenizers.Tokenizer.from_str(json.dumps(values) if declared else text)
        except Exception as error:  # the library raises nothing narrower
            raise UserError(f"not a tokenizer.json ({error})") from error
        return Tokenizer(inner, **declared)

    def fingerprint(self) -> str:
        """Returns the SHA-256 of the JSON, hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def train_wordpiece(texts: Iterable[str], vocab_size: int, lowercase: bool = False) -> Tokenizer:
    """Trains a WordPiece vocabulary (Schuster & Nakajima 2012, as in BERT) on texts.

    Ids: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4. Few texts give fewer than `vocab_size`
    entries. The same texts give the same tokenizer. Texts are read twice, so they are kept in
    memory.

    Raises UserError for no text, or a vocabulary too small for the characters alone.
    """
    texts = pieces.to_learn(_some(texts))
    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    splitter = pre_tokenizers.BertPreTokenizer()
    # The library numbers the ##-characters in the order of a hash table, which differs from run
    # to run and decides ties between merges. Adding them first as special tokens fixes the order.
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
    """Trains a byte-level BPE (Radford et al. 2019, GPT-2) on texts.

    All 256 bytes are in the vocabulary, so any text can be encoded and decoded exactly.
    Ids: <|pad|> 0, <|endoftext|> 1. The same texts give the same tokenizer. Raises UserError like
    `train_wordpiece`.
    """
    texts = pieces.to_learn(_some(texts))
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
    """Makes every character of the texts a token; ids <|pad|> 0, <|endoftext|> 1, <|unk|> 2."""
    names = (*GPT_SPECIALS, "<|unk|>")
    alphabet = sorted(set().union(*_some(texts)))
    vocab = {token: number for number, token in enumerate((*names, *alphabet))}
    # A BPE without merges: its pieces are characters, and words are still separated by spaces.
    inner = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<|unk|>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s"), behavior="merged_with_next")
    inner.decoder = decoders.Fuse()
    return Tokenizer(_with_specials(inner, names))


def byte_tokenizer() -> Tokenizer:
    """Makes every UTF-8 byte a token with id byte + 2; ids <|pad|> 0, <|endoftext|> 1."""
    vocab = {token: number for number, token in enumerate((*GPT_SPECIALS, *byte_names()))}
    return Tokenizer(_with_specials(_byte_level(models.BPE(vocab=vocab, merges=[])), GPT_SPECIALS))


def _some(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str):
        raise TypeError("texts is one string; expected a list of them")
    texts = list(texts)
    if not any(text.strip() for text in texts):
        raise UserError("there is no text to train a tokenizer on")
    return texts


def _fits(vocab_size: int, least: int) -> None:
    if vocab_size < least:
        raise UserError(
            f"vocab_size {vocab_size} is too small: special tokens and single characters "
            f"alone are {least}"
        )


def word_pieces(
    vocab: dict[str, int],
    lowercase: bool,
    strip_accents: bool | None = None,
    handle_chinese_chars: bool = True,
    unk: str = "[UNK]",
) -> Tokenizer:
    """Returns BERT's WordPiece with this vocabulary."""
    inner = tokenizers.Tokenizer(models.WordPiece(vocab=vocab, unk_token=unk))
    # None strips accents if letters are lower-cased, as in BERT.
    inner.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=strip_accents, handle_chinese_chars=handle_chinese_chars
    )
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    return Tokenizer(_with_specials(inner, [name for name in BERT_SPECIALS if name in vocab]))


def byte_pairs(
    vocab: dict[str, int], merges: Sequence[tuple[str, ...]], add_prefix_space: bool = False
) -> Tokenizer:
    """Returns a byte-level BPE with this vocabulary and these merges, in order.

    Known names of special tokens become special.
    """
    inner = _byte_level(models.BPE(vocab=vocab, merges=merges), add_prefix_space)
    names = sorted((name for name in NAMES if name in vocab), key=vocab.get)
    return Tokenizer(_with_specials(inner, names))


def _byte_level(model: models.BPE, add_prefix_space: bool = False) -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    inner.decoder = decoders.ByteLevel()
    return inner


def _with_specials(inner: tokenizers.Tokenizer, names: Sequence[str]) -> tokenizers.Tokenizer:
    inner.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in names])
    return inner
