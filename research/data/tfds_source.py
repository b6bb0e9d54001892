"""Reads rows of TensorFlow Datasets from ArrayRecord files, without TensorFlow.

`tfds:imdb_reviews`, `tfds:glue/mrpc`, `tfds:squad/v2.0`, `tfds:wikipedia/20230601.en:1.0.0`: name,
config and version as TFDS writes them. Sets whose columns have our field names (wikipedia, c4,
lm1b, imdb_reviews, wikiann, squad) need no mapping, others are in `_FIELDS`, and any other set
needs `fields` in the config.

TFDS prepares a missing set if it can. Many builders need TensorFlow or Apache Beam for that, and
without a network a download takes minutes to fail.
"""

import difflib
import functools
import importlib
import os
import re
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from research.data.row import Row, one_line_end
from research.errors import UserError, nearest

_SENTENCES = {"text_a": "sentence1", "text_b": "sentence2"}
_INFERENCE = {"text_a": "premise", "text_b": "hypothesis"}
_FIELDS: dict[str, dict[str, str]] = {
    **dict.fromkeys(("glue", "glue/cola", "glue/sst2"), {"text": "sentence"}),  # glue is cola
    **dict.fromkeys(("glue/mrpc", "glue/stsb", "glue/rte", "glue/wnli"), _SENTENCES),
    **dict.fromkeys(("glue/mnli", "glue/mnli_matched", "glue/mnli_mismatched"), _INFERENCE),
    "glue/ax": _INFERENCE,
    "glue/qqp": {"text_a": "question1", "text_b": "question2"},
    "glue/qnli": {"text_a": "question", "text_b": "sentence"},
    **dict.fromkeys(("conll2003", "conll2003/conll2003"), {"tags": "ner"}),
}
_FORMAT = "array_record"
CHUNK = 1000  # examples per read, as a read takes time in proportion to its file's examples


def fields(name: str) -> dict[str, str]:
    """Returns field -> column of a known set, where the names differ."""
    return _FIELDS.get(name.partition(":")[0], {})


def rows(name: str, split: str, data_dir: str, only: range | None = None) -> Iterator[Row]:
    """Yields a split's examples in order ("train" if empty; also "train[:1%]", "train+test").

    Args:
        only: the numbers of the examples to read; default: all.

    Texts become str, class labels their names (a hidden label, -1, None), float32 numbers the
    shortest decimal with the same value, nested columns dicts of lists.

    Raises UserError for an unknown name, config or split, and for a set that cannot be read.
    """
    split = split or "train"
    builder = _prepared(name, data_dir)
    source = _open(builder, name, split)
    features = builder.info.features
    return _read(name, split, features, source, range(len(source)) if only is None else only)


def size(name: str, split: str, data_dir: str) -> int:
    """Returns the number of examples in a split; raises as `rows`."""
    split = split or "train"
    return len(_open(_prepared(name, data_dir), name, split))


def identity(name: str, split: str, data_dir: str) -> list:
    """Returns what identifies the state of a split: name, version and the set's sizes."""
    builder = _prepared(name, data_dir)
    sizes = [
        [part, info.num_examples, int(info.num_bytes)]
        for part, info in sorted(builder.info.splits.items())
    ]
    return [builder.info.full_name, split or "train", sizes]


@functools.cache
def _tfds() -> ModuleType:
    """Returns TFDS with its text sets; importing their package registers glue, wikipedia, c4, …"""
    import tensorflow_datasets as tfds

    importlib.import_module("tensorflow_datasets.text")
    connector = tfds.features.FeatureConnector
    connector.cls_from_name = _of_tfds_alone(connector.cls_from_name)
    return tfds


def _of_tfds_alone(cls_from_name: Callable[[str], type]) -> Callable[[str], type]:
    """TFDS imports the module of every class that a set's features.json names, at any depth, so a
    set's files could run any code. It calls this function for each class."""

    def checked(name: str) -> type:
        if not name.startswith("tensorflow_datasets."):
            raise UserError(
                f"its features.json names the class {name!r}, whose module TFDS would import; only "
                "classes of tensorflow_datasets are allowed"
            )
        return cls_from_name(name)

    return checked


def _prepared(name: str, data_dir: str) -> Any:
    """Returns the set's builder, after preparing its files."""
    tfds = _tfds()
    folder = os.path.expanduser(data_dir) or None
    try:
        builder = tfds.builder(name, data_dir=folder, file_format=_FORMAT)
    except tfds.core.DatasetNotFoundError as error:
        raise UserError(_unknown(tfds, name, folder)) from error
    except UserError as error:
        raise UserError(f"tfds:{name}: {error}") from error
    except Exception as error:  # constructors of builders raise what they like
        raise UserError(_unusable(tfds, name, folder, error)) from error
    if not builder.is_prepared():
        try:
            builder.download_and_prepare(file_format=_FORMAT)
        except Exception as error:  # a builder is anybody's code
            raise UserError(
                f"tfds:{name} is not in {builder.data_dir}, and preparing it failed: "
                f"{_first_line(error)}. Prepare it once on a machine with a network and "
                f"TensorFlow (`tfds build {name} --file_format={_FORMAT}`), copy its folder here, "
                "and name the folder above it as the source's data_dir"
            ) from error
    return builder


def _unknown(tfds: ModuleType, name: str, folder: str | None) -> str:
    valid = set(tfds.list_builders(with_community_datasets=False))
    if folder and os.path.isdir(folder):
        valid |= set(os.listdir(folder))
    asked = re.split("[/:]", name)[0]
    if asked in valid:
        return f"tfds:{name} is not in {folder}: there is {asked}, but not this config or version"
    return (
        f"TFDS knows no set named {asked!r}{_closest(asked, valid)}; your own sets are read from "
        f"{folder or 'data_dir, which is not set'}"
    )


def _unusable(tfds: ModuleType, name: str, folder: str | None, error: Exception) -> str:
    """Says why a known set cannot be opened: its config, its file format, or TFDS's error."""
    asked, _, config = name.partition(":")[0].partition("/")
    try:
        configs = tfds.builder_cls(asked).builder_configs
    except tfds.core.DatasetNotFoundError:  # a set of files only
        configs = {}
    if config and configs and config not in configs:
        return f"tfds:{asked} has no config {config!r}{_closest(config, configs)}"
    try:
        builder = tfds.builder(name, data_dir=folder)
    except Exception:  # the format is not the reason; report the first error
        return f"tfds:{name} cannot be opened: {_first_line(error)}"
    return (
        f"tfds:{name} is in {builder.data_dir} as {builder.info.file_format.value}, which needs "
        "TensorFlow to be read. Convert it once where TensorFlow is installed: "
        f"`tfds convert_format --dataset_version_dir={builder.data_dir} "
        f"--out_file_format={_FORMAT}`, or build it anew in another data_dir with "
        f"`tfds build {name} --file_format={_FORMAT}`"
    )


def _open(builder: Any, name: str, split: str) -> Any:
    valid = list(builder.info.splits)
    for part in split.split("+"):
        asked = part.partition("[")[0].strip()
        if valid and asked not in valid:
            raise UserError(f"tfds:{name} has no split {asked!r}{nearest(asked, valid)}")
    try:
        stored = _tfds().decode.DeserializeMethod.RAW_BYTES
        return builder.as_data_source(split=split, deserialize_method=stored)
    except Exception as error:  # of the split's syntax, or of the files
        raise UserError(
            f"tfds:{name}, split {split!r} cannot be read: {_first_line(error)}"
        ) from error


def _read(name: str, split: str, features: Any, source: Any, only: range) -> Iterator[Row]:
    decode = _decoder(features)
    for at in range(0, len(only), CHUNK):
        numbers = only[at : at + CHUNK]
        for number, stored in zip(numbers, source.__getitems__(list(numbers)), strict=True):
            where = f"tfds:{name}, {split}, example {number}"
            yield one_line_end(Row(where, f"{split}:{number}", decode(stored)))


def _decoder(features: Any) -> Callable[[bytes], dict]:
    """Returns a function from a stored example to plain Python.

    TFDS converts all values to arrays, which costs more than reading them. So sets of texts,
    labels, numbers and lists of these are decoded here, other sets by TFDS.
    """
    from tensorflow_datasets.proto import tf_example_pb2

    columns = list(_columns(features, (), lists=0))

    def directly(stored: bytes) -> dict:
        values = tf_example_pb2.Example.FromString(stored).features.feature
        row: dict = {}
        for path, kind, lists, plain in columns:
            each = list(map(plain, getattr(values["/".join(path)], kind).value))
            *outer, last = path
            inner = functools.reduce(lambda part, key: part.setdefault(key, {}), outer, row)
            inner[last] = each if lists else each[0]
        return row

    if all(kind for _, kind, _, _ in columns):
        return directly
    return lambda stored: _plain(features, features.deserialize_example_np(stored))


def _columns(feature: Any, path: tuple[str, ...], lists: int) -> Iterator[tuple]:
    """Yields each column's path, stored field ("": decoded by TFDS), list depth and conversion."""
    from tensorflow_datasets import features as kinds

    if type(feature) is kinds.Sequence:
        yield from _columns(feature.feature, path, lists + 1)
        return
    if type(feature) is kinds.FeaturesDict:
        for key, part in feature.items():
            yield from _columns(part, (*path, key), lists)
        return
    simple = type(feature) in (kinds.Text, kinds.ClassLabel, kinds.Tensor, kinds.Scalar)
    info = feature.get_serialized_info()
    if not simple or info.shape != () or info.np_dtype != feature.np_dtype or lists > 1:
        yield path, "", lists, None
        return
    letter = np.dtype(feature.np_dtype).kind
    kind = {"O": "bytes_list", "f": "float_list"}.get(letter, "int64_list")
    plain = {"O": bytes.decode, "b": bool, "f": float}.get(letter, int)
    if isinstance(feature, kinds.ClassLabel):
        plain = functools.cache(functools.partial(_plain, feature))
    elif feature.np_dtype == np.float32:
        plain = functools.partial(_plain, feature)
    yield path, kind, lists, plain


def _plain(feature: Any, value: Any) -> Any:
    """Converts a value of TFDS to plain Python, with names for class labels."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str):
        return str(value)
    while hasattr(feature, "feature"):  # a sequence
        feature = feature.feature
    if isinstance(value, dict):
        return {key: _plain(feature[key], part) for key, part in value.items()}
    if isinstance(value, list | tuple) or np.ndim(value):
        return [_plain(feature, part) for part in value]
    value = np.asarray(value).item()
    if hasattr(feature, "int2str"):
        return feature.int2str(value) if value >= 0 else None
    if isinstance(value, float) and feature.np_dtype == np.float32:
        return float(str(np.float32(value)))
    return _plain(feature, value) if isinstance(value, bytes) else value


def _closest(name: str, valid: Any) -> str:
    """Returns `nearest`, with only the few closest of hundreds of names."""
    names = sorted(str(v) for v in valid)
    close = difflib.get_close_matches(name, names, n=5, cutoff=0.4) if len(names) > 20 else names
    return nearest(name, close) if close else f" among {len(names)} names"


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:300] if text else 'no reason given'}"
