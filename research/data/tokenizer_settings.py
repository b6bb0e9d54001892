"""Reads a checkpoint folder's tokenizer settings beside vocabulary and merges.

If files disagree, the later one in this list counts, as in transformers 5: tokenizer_config.json,
special_tokens_map.json, added_tokens.json, the added tokens of tokenizer.json. With
`added_tokens_decoder` in tokenizer_config.json only that file counts. A tokenizer.json is used as
written, changed by the settings in tokenizer_config.json for the class that it names. Defaults of
the class do not apply, though transformers 5 applies them for some classes.
"""

import dataclasses
import functools
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from research.data import frame as frames
from research.data.tokenizer import Tokenizer
from research.errors import UserError

CONFIG, MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
# Classes with known settings, without "Fast"; all of BERT's count as BertTokenizer.
BERT = frozenset(
    {"BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer"}
)
BYTES = frozenset({"GPT2Tokenizer", "RobertaTokenizer"})
FRAMED = frozenset({"BertTokenizer", "RobertaTokenizer"})
OF_MODEL = {"bert": "BertTokenizer", "distilbert": "BertTokenizer", "gpt2": "GPT2Tokenizer",
            "roberta": "RobertaTokenizer"}  # fmt: skip
# The default names of tokens for the roles in each class.
DEFAULTS = {
    "BertTokenizer": {role: f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")},
    "GPT2Tokenizer": dict.fromkeys(("bos", "eos"), "<|endoftext|>"),
    "RobertaTokenizer": {
        **dict.fromkeys(("bos", "cls"), "<s>"),
        **dict.fromkeys(("eos", "sep"), "</s>"),
        **{role: f"<{role}>" for role in ("pad", "unk", "mask")},
    },
    "LlamaTokenizer": {"unk": "<unk>", "bos": "<s>", "eos": "</s>"},
}
AS_WRITTEN = ("modernbert",)  # model types whose tokenizer class is ignored
# Settings of BERT's class -> their names in the normalizer of a tokenizer.json.
NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
DEFAULT = dict(
    type="BertNormalizer",
    clean_text=True,
    handle_chinese_chars=True,
    strip_accents=None,
    lowercase=True,
)
# Values with which a setting has no effect. Others are not followed, as in transformers, which
# ignores them at least where they would change ids.
NOT_FOLLOWED = {
    "do_basic_tokenize": (True, None),
    "never_split": (None, []),
    "truncation_side": ("right", None),
    "sp_model_kwargs": ({}, None),
}
# Settings without effect on ids. (config.tokenizer.parse_special decides whether a text that spells
# a special token becomes that token: split_special_tokens=true is the default here.)
SILENT = frozenset(
    "added_tokens_decoder additional_special_tokens auto_map backend chat_template "
    "clean_up_tokenization_spaces errors extra_special_tokens from_slow full_tokenizer_file "
    "is_local legacy local_files_only max_len max_length model_input_names model_max_length "
    "model_specific_special_tokens name_or_path pad_to_multiple_of pad_token_type_id "
    "pad_token_type padding padding_side processor_class return_tensors "
    "spaces_between_special_tokens special_tokens_map_file split_special_tokens stride "
    "tokenizer_class tokenizer_file transformers_version trim_offsets truncation "
    "truncation_strategy use_default_system_prompt use_fast vocab_file merges_file".split()
)
FOLLOWED = frozenset({*NORMALIZER, "add_prefix_space", "add_bos_token", "add_eos_token"})


@dataclasses.dataclass(frozen=True)
class Settings:
    """values: tokenizer_config.json merged with special_tokens_map.json, AddedToken as JSON.

    kind: the folder's tokenizer class in transformers, without "Fast"; "" for none, and for
    AS_WRITTEN. added: the tokens of added_tokens_decoder or added_tokens.json, by id. rows: the
    rows of the model's embedding, a limit for ids.
    """

    folder: Path
    values: Mapping[str, Any]
    kind: str
    added: Mapping[int, Mapping[str, Any]]
    rows: float

    def present(self, *keys: str) -> dict[str, Any]:
        """Returns those of the settings that the folder has with a value other than null."""
        return {key: self.values[key] for key in keys if self.values.get(key) is not None}

    def name(self, role: str) -> str | None:
        """Returns the name of a role's token: the declared one, or else the class's default."""
        default = DEFAULTS.get(self.kind, {}).get(role)
        return _name(self.values.get(f"{role}_token", default))


def read(folder: Path) -> Settings | None:
    """Returns a folder's settings, or None if it has neither config.json nor a settings file.

    Warns on stderr of settings that are not followed or not known. Raises UserError, naming the
    file, if a file is not a JSON object.
    """
    files = {name: _json(folder / name) for name in (CONFIG, MAP, ADDED, "config.json")}
    if not any(files.values()):
        return None
    values, hf = files[CONFIG], files["config.json"]
    decoder = values.get("added_tokens_decoder")
    if decoder is None:
        values = values | files[MAP]
    model = hf.get("model_type")
    kind = values.get("tokenizer_class") or hf.get("tokenizer_class") or OF_MODEL.get(model, "")
    kind = "" if model in AS_WRITTEN else kind.removesuffix("Fast")
    kind = "BertTokenizer" if kind in BERT else kind
    added = decoder if decoder is not None else _as_decoder(files[ADDED], values)
    settings = Settings(
        folder,
        values,
        kind,
        {int(number): token for number, token in added.items()},
        hf.get("vocab_size", math.inf),
    )
    _check(settings)
    return settings


def warn(text: str) -> None:
    """Prints a warning about a tokenizer on stderr."""
    print(f"warning: {text}", file=sys.stderr)


def adapt(text: str, settings: Settings) -> str:
    """Changes a tokenizer.json as the settings tell its class.

    Raises UserError for a setting that cannot be expressed in this tokenizer.json.
    """
    values = json.loads(text)
    where = settings.folder / CONFIG
    options = settings.present(*NORMALIZER)
    old = values.get("normalizer") or {}
    if options and settings.kind == "BertTokenizer":
        plain = old if old.get("type") == "BertNormalizer" else DEFAULT
        new = plain | {NORMALIZER[key]: value for key, value in options.items()}
        if new != old:
            pairs = ", ".join(f"{key}={value}" for key, value in options.items())
            warn(f"{where}: {pairs} changes the normalizer of tokenizer.json "
                 f"({old.get('type')}), as in transformers")  # fmt: skip
            values["normalizer"] = new
    elif options:  # transformers follows them for BERT's class only
        lowers = old.get("lowercase", '"Lowercase"' in json.dumps(old))
        if options.get("do_lower_case", lowers) != lowers:
            warn(f"{where}: do_lower_case={options['do_lower_case']} contradicts tokenizer.json, "
                 "which is followed (as by transformers for this tokenizer_class)")  # fmt: skip
    elif settings.kind == "BertTokenizer" and old.get("lowercase") is not True:
        warn(f"{settings.folder}: tokenizer.json does not lower letters and {CONFIG} does not "
             "set do_lower_case; letters are not lowered (transformers 5 would)")  # fmt: skip
    prefix = settings.values.get("add_prefix_space")
    if prefix is not None:
        _set_prefix(values, prefix, settings, where)
    return json.dumps(values, ensure_ascii=False)


def _set_prefix(values: dict[str, Any], prefix: bool, settings: Settings, where: Path) -> None:
    """Sets whether a text gets a space before it, or warns why not."""
    pre = values.get("pre_tokenizer") or {}
    steps = [pre, *pre.get("pretokenizers", [])]
    levels = [step for step in steps if step.get("type") == "ByteLevel"]
    spaces = [step for step in steps if step.get("type") == "Metaspace"]
    has = (
        any(step["add_prefix_space"] for step in levels)
        or any(step.get("prepend_scheme", "always") != "never" for step in spaces)
        or '"Prepend"' in json.dumps(values.get("normalizer"))
    )
    if bool(prefix) == has:
        return
    if settings.kind in BYTES and pre in levels:
        pre["add_prefix_space"] = bool(prefix)
    elif settings.kind in BYTES or settings.kind == "LlamaTokenizer":
        raise UserError(
            f"{where}: add_prefix_space={prefix} contradicts the normalizer or pre_tokenizer of "
            "tokenizer.json, which is not supported; correct it there"
        )
    else:
        warn(f"{where}: add_prefix_space={prefix} contradicts tokenizer.json, which is followed "
             "(as by transformers for this tokenizer_class)")  # fmt: skip


def applied(text: str, settings: Settings, complete: bool) -> Tokenizer:
    """Returns a tokenizer with the folder's added tokens, frame and roles.

    Args:
        text: a tokenizer.json.
        complete: it is the folder's own, so its frame counts; else that of the class.

    Raises UserError if an added token would get another id than in the folder.
    """
    values = json.loads(text)
    if not complete:  # special by their names so far; the folder's settings decide
        known = [settings.name(role) for role in ROLES]
        values["added_tokens"] = [t for t in values["added_tokens"] if t["content"] in known]
    inner = tokenizers.Tokenizer.from_str(json.dumps(values))
    names = {role: settings.name(role) for role in ROLES if f"{role}_token" in settings.values}
    for role, name in DEFAULTS.get(settings.kind, {}).items():
        if role not in names and inner.token_to_id(name) is not None:
            names[role] = name
    written = {token.content for token in inner.get_added_tokens_decoder().values()}
    keep = written if complete and "added_tokens_decoder" not in settings.values else set()
    for number, token in sorted(settings.added.items()):
        if token["content"] not in keep:
            _add(inner, token, number, settings)
    for key, token in _special_tokens(settings):
        known = inner.token_to_id(token["content"])
        added = {t.content for t in inner.get_added_tokens_decoder().values()}
        if token["content"] in keep | {t["content"] for t in settings.added.values()}:
            continue
        if known is None and inner.get_vocab_size() >= settings.rows:
            warn(f"{settings.folder}: {key} {token['content']!r} is not in the vocabulary, and the "
                 "model's embedding has no row for another entry; it is left out")  # fmt: skip
        elif token["content"] not in added or "lstrip" in token:
            inner.add_special_tokens([_added(token, special=True)])
    _put_frame(inner, settings, complete)
    types = settings.values.get("model_input_names")
    has_types = settings.kind == "BertTokenizer" if types is None else "token_type_ids" in types
    return Tokenizer(inner, names, has_types)


def _add(inner: tokenizers.Tokenizer, token: Mapping, number: int, settings: Settings) -> None:
    known = inner.token_to_id(token["content"])
    own = known if known is not None else inner.get_vocab_size()
    if own != number:
        raise UserError(
            f"{settings.folder / CONFIG} or {ADDED}: the token {token['content']!r} has the id "
            f"{number} there, but {own} in the vocabulary or after it; which one the weights were "
            "trained with is not known"
        )
    inner.add_tokens([_added(token, special=False)])


def _put_frame(inner: tokenizers.Tokenizer, settings: Settings, complete: bool) -> None:
    """Sets a post-processor if tokenizer.json has none: that of the class, or an empty one.

    BERT's is left out, since it is this project's default.
    """
    if complete and inner.post_processor is not None:
        around = frames.of_processor(inner.post_processor, 1, True).ids
        for role, ids in zip(("cls", "sep"), around, strict=True):
            name = _name(settings.values.get(f"{role}_token"))
            if settings.kind in FRAMED and name and inner.token_to_id(name) not in ids:
                warn(f"{settings.folder / CONFIG}: {role}_token {name!r} is not around a text in "
                     "tokenizer.json, which is followed")  # fmt: skip
        return
    if settings.kind == "BertTokenizer":
        return
    frame = frames.ends
    if settings.kind == "RobertaTokenizer":
        wanted = ["cls", "sep"]
        frame = functools.partial(
            frames.template, ["cls", "$A", "sep"], ["cls", "$A", "sep", "sep", "$B", "sep"]
        )
    else:
        added = [role for role in ("bos", "eos") if settings.values.get(f"add_{role}_token")]
        wanted = [role for role in added if settings.name(role) is not None]
        if complete and wanted:
            warn(f"{settings.folder / CONFIG}: add_{wanted[0]}_token contradicts tokenizer.json, "
                 "which is followed (as by transformers)")  # fmt: skip
            wanted = []
    names = {role: settings.name(role) for role in wanted}
    ids = {role: inner.token_to_id(name) for role, name in names.items()}
    for role, number in ids.items():
        if number is None:
            raise UserError(
                f"{settings.folder}: the {role} token {names[role]!r} belongs around each text but "
                "is not in the vocabulary"
            )
    inner.post_processor = frame({role: (names[role], ids[role]) for role in wanted})


def _special_tokens(settings: Settings) -> list[tuple[str, dict[str, Any]]]:
    """Returns (key, token) of all tokens that the settings call special."""
    named = []
    ordered = [f"{role}_token" for role in ROLES]
    others = [k for k in settings.values if k.endswith("_token") and k not in {*ordered, *FOLLOWED}]
    for key in (*ordered, *others):
        if settings.values.get(key) is not None:
            named.append((key, _token(settings.values[key])))
    values = settings.values
    extra = values.get("extra_special_tokens") or values.get("additional_special_tokens") or []
    extra = list(extra.values()) if isinstance(extra, dict) else extra
    return named + [("additional_special_tokens", _token(token)) for token in extra]


def _token(value: Any) -> dict[str, Any]:
    return {"content": value} if isinstance(value, str) else dict(value)


def _name(value: Any) -> str | None:
    return value["content"] if isinstance(value, dict) else value


def _added(token: Mapping[str, Any], special: bool) -> AddedToken:
    """special: whether the token is special if it does not say so itself."""
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    own = {flag: token[flag] for flag in flags if flag in token}
    return AddedToken(token["content"], **{"special": special} | own)


def _as_decoder(added: Mapping[str, int], values: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Returns added_tokens.json as added_tokens_decoder; tokens with a role are special."""
    special = {_name(v) for k, v in values.items() if k.endswith("_token")}
    special |= {_name(v) for v in values.get("additional_special_tokens") or []}
    return {
        number: dict(content=name, normalized=name not in special, special=name in special)
        for name, number in added.items()
    }


def _check(settings: Settings) -> None:
    values, where = settings.values, settings.folder / CONFIG
    for key, allowed in NOT_FOLLOWED.items():
        if key in values and values[key] not in allowed:
            warn(f"{where}: {key}={values[key]!r} is not followed")
    known = {*SILENT, *FOLLOWED, *NOT_FOLLOWED}
    unknown = [k for k in values if k not in known and not k.endswith("_token")]
    if unknown:
        warn(f"{where}: not known, so not followed: {', '.join(sorted(unknown))}")


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected an object of keys")
    return values
