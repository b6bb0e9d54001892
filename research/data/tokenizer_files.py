"""Tokenizers out of the files in which they are published."""

import json
from pathlib import Path

from research import bucket
from research.data.tokenizer import Tokenizer, byte_pairs, word_pieces
from research.errors import UserError


def load(path: str | Path, lowercase: bool | None = None) -> Tokenizer:
    """A tokenizer from a file, or from a folder that holds one.

    Understood: tokenizer.json; vocab.txt (BERT); encoder.json + vocab.bpe (GPT-2) or vocab.json +
    merges.txt (either file of the two may be named). `lowercase` is for vocab.txt, which does
    not say: by default it is true if no entry has a capital letter.

    Raises UserError for a missing or faulty file, naming it.
    """
    path = bucket.path(path) if bucket.is_remote(path) else Path(path).expanduser()
    if not path.exists():
        raise UserError(f"tokenizer {path}: there is no such file or folder")
    folder = path if path.is_dir() else path.parent
    names = {file.name for file in path.iterdir()} if path.is_dir() else {path.name}
    if "tokenizer.json" in names:
        return _load_json(folder / "tokenizer.json")
    for vocab, merges in (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")):
        if {vocab, merges} & names:
            return _load_bpe(folder / vocab, folder / merges)
    if "vocab.txt" in names:
        return _load_wordpiece(folder / "vocab.txt", lowercase)
    if path.is_file() and path.suffix in (".json", ".txt"):  # one of these by another name
        return _load_json(path) if path.suffix == ".json" else _load_wordpiece(path, lowercase)
    raise UserError(
        f"tokenizer {path}: expected a tokenizer.json, a vocab.txt, encoder.json + vocab.bpe or "
        f"vocab.json + merges.txt{'; the folder has none of them' if path.is_dir() else ''}"
    )


def _load_json(path: Path) -> Tokenizer:
    text = _read(path)
    try:
        return Tokenizer.from_json(text)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _load_wordpiece(path: Path, lowercase: bool | None) -> Tokenizer:
    # Split at \n alone: some vocabularies have other line separators as entries.
    lines = _read(path).removesuffix("\n").split("\n")
    vocab: dict[str, int] = {}
    for number, line in enumerate(lines):
        token = line.removesuffix("\r")
        if token in vocab:
            raise UserError(
                f"{path}, line {number + 1}: {token!r} stands on line {vocab[token] + 1} already"
            )
        vocab[token] = number
    if "[UNK]" not in vocab:
        raise UserError(f"{path}: no line [UNK]; expected a BERT vocabulary, one entry per line")
    if lowercase is None:
        lowercase = all(t.lower() == t for t in vocab if not (t[:1] == "[" and t[-1:] == "]"))
    return word_pieces(vocab, lowercase)


def _load_bpe(vocab: Path, merges: Path) -> Tokenizer:
    for file in (vocab, merges):
        if not file.is_file():
            raise UserError(f"{file} is missing; a byte-level BPE is {vocab.name} + {merges.name}")
    text, lines = _read(vocab), _read(merges).splitlines()
    try:
        entries = json.loads(text)
        pairs = [tuple(line.split(" ")) for line in lines if line and line[:9] != "#version:"]
        return byte_pairs(entries, pairs)
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"{vocab} + {merges.name}: not a byte-level BPE ({error})") from error


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
