"""Loads tokenizers from the files in which they are published."""

import dataclasses
import json
import math
from collections import Counter
from pathlib import Path

from research import bucket
from research.data import tokenizer_settings
from research.data.tokenizer import Tokenizer, byte_pairs, word_pieces
from research.data.tokenizer_settings import BYTES, NORMALIZER, Settings, warn
from research.errors import UserError


def load(path: str | Path) -> Tokenizer:
    """Loads a tokenizer from a file or a folder.

    Supports tokenizer.json; vocab.txt (BERT); encoder.json + vocab.bpe (GPT-2) or vocab.json +
    merges.txt (name either of the two files). In a folder, settings files apply too
    (`tokenizer_settings`). With a vocab.txt and no settings, text is lower-cased if no entry has a
    capital letter.

    Raises UserError for a missing or faulty file, naming it.
    """
    path = bucket.path(path) if bucket.is_remote(path) else Path(path).expanduser()
    if not path.exists():
        raise UserError(f"tokenizer {path}: there is no such file or folder")
    folder = path if path.is_dir() else path.parent
    names = {file.name for file in path.iterdir()} if path.is_dir() else {path.name}
    settings = tokenizer_settings.read(path) if path.is_dir() else None
    if "tokenizer.json" in names:
        return _load_json(folder / "tokenizer.json", settings)
    for vocab, merges in (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")):
        if {vocab, merges} & names:
            return _load_bpe(folder / vocab, folder / merges, settings)
    if "vocab.txt" in names:
        return _load_wordpiece(folder / "vocab.txt", settings)
    if path.is_file() and path.suffix in (".json", ".txt"):  # such a file with another name
        return (_load_json if path.suffix == ".json" else _load_wordpiece)(path, None)
    raise UserError(
        f"tokenizer {path}: expected a tokenizer.json, a vocab.txt, encoder.json + vocab.bpe or "
        f"vocab.json + merges.txt{'; the folder has none of them' if path.is_dir() else ''}"
    )


def _load_json(path: Path, settings: Settings | None) -> Tokenizer:
    text = _read(path)
    try:
        tokenizer = Tokenizer.from_json(text)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if settings is None:
        return tokenizer
    adapted = tokenizer_settings.adapt(tokenizer.library_json(), settings)
    return tokenizer_settings.applied(adapted, settings, complete=True)


def _load_wordpiece(path: Path, settings: Settings | None) -> Tokenizer:
    # Split only at \n: some vocabularies have other line separators as entries.
    lines = [line.removesuffix("\r") for line in _read(path).removesuffix("\n").split("\n")]
    vocab = {
        token: number for number, token in enumerate(lines)
    }  # the last line of an entry counts, as in transformers
    twice = [token for token, count in Counter(lines).items() if count > 1]
    if twice:
        warn(f"{path}: {len(twice)} entries occur more than once, such as {twice[0]!r}; the last "
             "line of each counts")  # fmt: skip
    unk = settings.name("unk") if settings else None
    unk = "[UNK]" if unk is None else unk
    if unk not in vocab:
        raise UserError(f"{path}: no line {unk}; expected a BERT vocabulary, one entry per line")
    options = settings.present(*NORMALIZER) if settings else {}
    if "do_lower_case" not in options:
        plain = all(t.lower() == t for t in vocab if not (t[:1] == "[" and t[-1:] == "]"))
        options["do_lower_case"] = plain or bool(settings and settings.values)
        if settings and not plain:
            done = "lowered, as in" if options["do_lower_case"] else "kept, unlike in"
            warn(f"{path} has capital letters and do_lower_case is not set: they are {done} "
                 "transformers")  # fmt: skip
    normalizer = {NORMALIZER[key]: value for key, value in options.items()}
    tokenizer = word_pieces(vocab, unk=unk, **normalizer)
    if settings is None:
        return tokenizer
    settings = dataclasses.replace(settings, kind="BertTokenizer")
    return tokenizer_settings.applied(tokenizer.library_json(), settings, complete=False)


def _load_bpe(vocab: Path, merges: Path, settings: Settings | None) -> Tokenizer:
    for file in (vocab, merges):
        if not file.is_file():
            raise UserError(f"{file} is missing; a byte-level BPE is {vocab.name} + {merges.name}")
    text, lines = _read(vocab), _read(merges).splitlines()
    prefix = settings is not None and bool(settings.values.get("add_prefix_space"))
    try:
        entries = json.loads(text)
        pairs = [tuple(line.split(" ")) for line in lines if line and line[:9] != "#version:"]
        tokenizer = byte_pairs(entries, pairs, prefix)
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"{vocab} + {merges.name}: not a byte-level BPE ({error})") from error
    named = {"<s>", "</s>"} <= entries.keys()
    if settings is None and not named:
        return tokenizer
    settings = settings or Settings(vocab.parent, {}, "", {}, math.inf)
    if settings.kind not in BYTES:  # then the names of its entries tell RoBERTa from GPT-2
        kind = "RobertaTokenizer" if named else "GPT2Tokenizer"
        settings = dataclasses.replace(settings, kind=kind)
    return tokenizer_settings.applied(tokenizer.library_json(), settings, complete=False)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
