"""What a checkpoint's folder says of its tokenizer beside vocabulary and merges.

Where files disagree the later one of these counts, as in transformers 5: tokenizer_config.json,
special_tokens_map.json, added_tokens.json, the added tokens of tokenizer.json; but with
`added_tokens_decoder` in tokenizer_config.json that file alone. A tokenizer.json is taken as it is
written, and changed by what tokenizer_config.json says to the class that it names. What the class
would assume without being told is not taken, though transformers 5 does so for some classes.
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
# The classes whose settings are known, by the name without "Fast"; those of BERT are one.
BERT = frozenset(
    {"BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer"}
)
BYTES = frozenset({"GPT2Tokenizer", "RobertaTokenizer"})
FRAMED = frozenset({"BertTokenizer", "RobertaTokenizer"})
OF_MODEL = {"bert": "BertTokenizer", "distilbert": "BertTokenizer", "gpt2": "GPT2Tokenizer",
            "roberta": "RobertaTokenizer"}  # fmt: skip
# The roles that they give to entries with these names without being told.
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
AS_WRITTEN = ("modernbert",)  # whatever class the folder names
# The settings of BERT's class and their names in the normalizer of a tokenizer.json.
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
# Values with which a setting changes nothing; any other one is not followed, as transformers does
# not follow it either, or not where it changes ids.
NOT_FOLLOWED = {
    "do_basic_tokenize": (True, None),
    "never_split": (None, []),
    "truncation_side": ("right", None),
    "sp_model_kwargs": ({}, None),
}
# Without influence on ids. (Whether a text that spells a special token becomes it is for
# config.tokenizer.parse_special to say: split_special_tokens=true is the default here.)
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
    """values: of tokenizer_config.json and special_tokens_map.json together, AddedToken as JSON.

    kind: the class of transformers that the folder asks for, without "Fast"; "" for none of those
    that have settings of their own. added: what added_tokens_decoder or added_tokens.json says,
    by id. rows: of the model's embedding, none may have a higher id.
    """

    folder: Path
    values: Mapping[str, Any]
    kind: str
    added: Mapping[int, Mapping[str, Any]]
    rows: float

    def told(self, *keys: str) -> dict[str, Any]:
        """Those of the settings that the folder has, and that are not null."""
        return {key: self.values[key] for key in keys if self.values.get(key) is not None}

    def name(self, role: str) -> str | None:
        """The token of a role, declared or that of the class."""
        default = DEFAULTS.get(self.kind, {}).get(role)
        return _name(self.values.get(f"{role}_token", default))


def read(folder: Path) -> Settings | None:
    """What the folder says, or None where it has neither config.json nor a file of settings.

    Raises UserError for a setting that is not followed, naming file and key; those that
    transformers does not follow either, and those that nobody knows, are told on stderr.
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


def tell(text: str) -> None:
    """Something about a tokenizer that one should know, on stderr."""
    print(f"warning: {text}", file=sys.stderr)


def adapt(text: str, settings: Settings) -> str:
    """A tokenizer.json as its class is told to have it.

    Raises UserError for a setting that has no place in this tokenizer.json.
    """
    values = json.loads(text)
    where = settings.folder / CONFIG
    told = settings.told(*NORMALIZER)
    old = values.get("normalizer") or {}
    if told and settings.kind == "BertTokenizer":
        plain = old if old.get("type") == "BertNormalizer" else DEFAULT
        new = plain | {NORMALIZER[key]: value for key, value in told.items()}
        if new != old:
            said = ", ".join(f"{key}={value}" for key, value in told.items())
            tell(f"{where}: {said} changes the normalizer of tokenizer.json "
                 f"({old.get('type')}), as in transformers")  # fmt: skip
            values["normalizer"] = new
    elif told:  # not followed by transformers where the class is not BERT's
        lowers = old.get("lowercase", '"Lowercase"' in json.dumps(old))
        if told.get("do_lower_case", lowers) != lowers:
            tell(f"{where}: do_lower_case={told['do_lower_case']} is not what tokenizer.json does, "
                 "which is followed (by transformers too, for this tokenizer_class)")  # fmt: skip
    elif settings.kind == "BertTokenizer" and old.get("lowercase") is not True:
        tell(f"{settings.folder}: tokenizer.json does not lower letters and {CONFIG} does not "
             "say do_lower_case; the former is followed (transformers 5 would lower)")  # fmt: skip
    prefix = settings.values.get("add_prefix_space")
    if prefix is not None:
        _set_prefix(values, prefix, settings, where)
    return json.dumps(values, ensure_ascii=False)


def _set_prefix(values: dict[str, Any], prefix: bool, settings: Settings, where: Path) -> None:
    """Sets whether a blank stands before a text, or tells why not."""
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
            f"{where}: add_prefix_space={prefix} is not supported: tokenizer.json says the "
            "opposite by its normalizer or pre_tokenizer; write there what is meant"
        )
    else:
        tell(f"{where}: add_prefix_space={prefix} is not what tokenizer.json does, which is "
             "followed (by transformers too, for this tokenizer_class)")  # fmt: skip


def applied(text: str, settings: Settings, complete: bool) -> Tokenizer:
    """The tokenizer with added tokens, frame and roles as the folder says.

    Args:
        text: a tokenizer.json.
        complete: it is the folder's own, which says itself what stands around a text; else the
            class does.

    Raises UserError for an added token that would get another id than the folder says.
    """
    values = json.loads(text)
    if not complete:  # made from entries, special by their names; the folder knows better
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
            tell(f"{settings.folder}: {key} {token['content']!r} is not in the vocabulary, and the "
                 "model's embedding has no row for another entry; it is left out")  # fmt: skip
        elif token["content"] not in added or "lstrip" in token:
            inner.add_special_tokens([_added(token, special=True)])
    _put_frame(inner, settings, complete)
    types = settings.values.get("model_input_names")
    has_types = settings.kind == "BertTokenizer" if types is None else "token_type_ids" in types
    return Tokenizer(inner, names, has_types)


def _add(inner: tokenizers.Tokenizer, token: Mapping, number: int, settings: Settings) -> None:
    known = inner.token_to_id(token["content"])
    here = known if known is not None else inner.get_vocab_size()
    if here != number:
        raise UserError(
            f"{settings.folder / CONFIG} or {ADDED}: the token {token['content']!r} has the id "
            f"{number} there, and would have {here} behind the vocabulary; which one the weights "
            "were trained with is not known"
        )
    inner.add_tokens([_added(token, special=False)])


def _put_frame(inner: tokenizers.Tokenizer, settings: Settings, complete: bool) -> None:
    """The post-processor where tokenizer.json has none: that of the class, or an empty one.

    BERT's is left out, since that is what such a tokenizer has here.
    """
    if complete and inner.post_processor is not None:
        around = frames.of_processor(inner.post_processor, 1, True).ids
        for role, ids in zip(("cls", "sep"), around, strict=True):
            name = _name(settings.values.get(f"{role}_token"))
            if settings.kind in FRAMED and name and inner.token_to_id(name) not in ids:
                tell(f"{settings.folder / CONFIG}: {role}_token {name!r} does not stand around a "
                     "text in tokenizer.json, which is followed")  # fmt: skip
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
        asked = [role for role in ("bos", "eos") if settings.values.get(f"add_{role}_token")]
        wanted = [role for role in asked if settings.name(role) is not None]
        if complete and wanted:
            tell(f"{settings.folder / CONFIG}: add_{wanted[0]}_token is not what tokenizer.json "
                 "does, which is followed (by transformers too)")  # fmt: skip
            wanted = []
    names = {role: settings.name(role) for role in wanted}
    ids = {role: inner.token_to_id(name) for role, name in names.items()}
    for role, number in ids.items():
        if number is None:
            raise UserError(
                f"{settings.folder}: the {role} token {names[role]!r} should stand around a text "
                "and is not in the vocabulary"
            )
    inner.post_processor = frame({role: (names[role], ids[role]) for role in wanted})


def _special_tokens(settings: Settings) -> list[tuple[str, dict[str, Any]]]:
    """(key, token) of all tokens that the settings name as special."""
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
    """special: whether it is one where the token does not say so."""
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    told = {flag: token[flag] for flag in flags if flag in token}
    return AddedToken(token["content"], **{"special": special} | told)


def _as_decoder(added: Mapping[str, int], values: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """added_tokens.json in the form of added_tokens_decoder: special are the tokens with a role."""
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
            tell(f"{where}: {key}={values[key]!r} is not followed")
    known = {*SILENT, *FOLLOWED, *NOT_FOLLOWED}
    unknown = [k for k in values if k not in known and not k.endswith("_token")]
    if unknown:
        tell(f"{where}: not known here, and not followed: {', '.join(sorted(unknown))}")


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: no JSON ({error})") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected an object of keys")
    return values
