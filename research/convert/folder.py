"""A folder in the Hugging Face library's layout: config.json, safetensors, tokenizer files."""

import contextlib
import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes  # numpy learns of bfloat16 by it
import numpy as np
from safetensors import SafetensorError, safe_open

from research.convert import sentence_folder
from research.convert.families import family_of
from research.data import tokenizer_files, tokenizer_settings
from research.data.tokenizer import Tokenizer
from research.errors import UserError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER, TEMPLATE = "adapter_config.json", "chat_template.jinja"
# The dtypes that safetensors' reader for numpy does not support, by their names there.
FLOAT8 = {
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
}
PLAIN = ("F16", "BF16", "F32", "F64", "BOOL", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64")
HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")  # "bert-base-uncased", "google/fnet-base"
WANTED = ("*.json", "*.safetensors", "*.txt", "*.jinja")  # files to download from the hub


@dataclasses.dataclass(frozen=True)
class Public:
    """A public checkpoint: its config.json, tensors by name (each read when called), tokenizer.

    chat_template: one Jinja template of conversations, or several with names.
    """

    where: str
    hf: dict[str, Any]
    tensors: dict[str, Callable[[], np.ndarray]]
    tokenizer: Tokenizer
    chat_template: Any = None


def read_folder(path: Path) -> Public:
    """Reads a folder. Raises UserError for missing, damaged or pickled files."""
    if (path / ADAPTER).is_file():
        base = _json(path / ADAPTER).get("base_model_name_or_path", "its base")
        raise UserError(
            f"{path} is an adapter ({ADAPTER}), not a whole model: merge it into its base first, "
            "with transformers and peft installed:\n"
            f"  python -c \"import peft; peft.AutoPeftModel.from_pretrained('{path}')"
            f".merge_and_unload().save_pretrained('merged')\"\n"
            f"and copy the tokenizer's files of {base} beside it"
        )
    whole, path = path, sentence_folder.transformer(path)
    config = _json(path / "config.json")
    family_of(config)  # an unsupported family is reported before its missing files
    tokenizer = tokenizer_files.load(path)
    return Public(str(whole), config, _tensors(path), tokenizer, _chat_template(path))


def download(name: str) -> Path:
    """Downloads a hub name ("bert-base-uncased") with huggingface_hub; returns its folder.

    Raises UserError if the package is not installed or the hub cannot be reached.
    """
    if not HUB_NAME.fullmatch(name):
        raise UserError(f"there is no folder or file {name!r}, and it is not a name of the hub")
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise UserError(
            f"there is no folder or file {name!r}; for a name of the Hugging Face hub: "
            "python -m pip install huggingface_hub"
        ) from error
    try:
        folder = Path(huggingface_hub.snapshot_download(name, allow_patterns=list(WANTED)))
    except Exception as error:  # of many kinds: no network, no such name, no permission
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"there is no folder or file {name!r}, and the Hugging Face hub says: {first:.200}"
        ) from error
    if not any(sentence_folder.transformer(folder).glob("*.safetensors")):
        raise UserError(
            f"{name} has no safetensors on the hub. Pickled weights can run any code when they are "
            "read; convert them once, with transformers and torch installed:\n"
            f"{_conversion(folder, name, name.rpartition('/')[2])}"
        )
    return folder


def _conversion(folder: Path, name: str, output: str) -> str:
    """The commands that convert a checkpoint to a folder with safetensors."""
    kind = (_json(folder / "config.json").get("architectures") or ["AutoModel"])[0]
    tokenizer = [
        str(path)
        for path in sorted(folder.iterdir())
        if path.name.startswith(("tokenizer", "special_tokens", "vocab", "merges", "added_tokens"))
    ]
    return (
        f"  python -c \"import transformers; transformers.{kind}.from_pretrained('{name}')"
        f".save_pretrained('{output}-safetensors')\"\n"
        f"  cp {' '.join(tokenizer)} {output}-safetensors/"
    )


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path} is missing; a checkpoint's folder has config.json, {WEIGHTS} and "
                        "the tokenizer's files")  # fmt: skip
    return sentence_folder.read_json(path, {})


def _chat_template(folder: Path) -> Any:
    """The template file, else the key in tokenizer_config.json, as in transformers 5."""
    if (folder / TEMPLATE).is_file():
        return (folder / TEMPLATE).read_text(encoding="utf-8")
    settings = folder / tokenizer_settings.CONFIG
    return _json(settings).get("chat_template") if settings.is_file() else None


def _tensors(folder: Path) -> dict[str, Callable[[], np.ndarray]]:
    if (folder / INDEX).is_file():
        files = sorted(set(_json(folder / INDEX).get("weight_map", {}).values()))
        missing = [name for name in files if not (folder / name).is_file()]
        if missing:
            raise UserError(f"{folder / missing[0]} is missing; {INDEX} names it")
    elif (folder / WEIGHTS).is_file():
        files = [WEIGHTS]
    else:
        raise UserError(_no_weights(folder))
    tensors: dict[str, Callable[[], np.ndarray]] = {}
    for name in files:
        tensors |= _opened(folder / name)
    return tensors


def _opened(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    try:
        with safe_open(path, framework="numpy") as file:
            names: Iterable[str] = list(file.keys())
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: truncated, or not a safetensors file ({error})") from error

    def reader(name: str) -> Callable[[], np.ndarray]:
        def read() -> np.ndarray:
            with safe_open(path, framework="numpy") as file:
                kind = file.get_slice(name).get_dtype()
                if kind in FLOAT8:
                    return _float8(path, name)
                if kind not in PLAIN:
                    raise UserError(
                        f"{path}: {name} is stored as {kind}, which cannot be read here; take a "
                        "checkpoint in float32, float16 or bfloat16"
                    )
                return file.get_tensor(name)

        return read

    return {_named(name): reader(name) for name in names}


def _float8(path: Path, name: str) -> np.ndarray:
    """Reads a tensor of a safetensors file: 8 bytes of header length, header, all numbers."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(size))[name]
        begin, end = entry["data_offsets"]
        file.seek(8 + size + begin)
        return np.frombuffer(file.read(end - begin), FLOAT8[entry["dtype"]]).reshape(entry["shape"])


def _named(name: str) -> str:
    """Renames gamma and beta, a norm's weight and bias in old checkpoints."""
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(f"LayerNorm{old}"):
            return name.removesuffix(old) + new
    return name


def _no_weights(folder: Path) -> str:
    pickled = sorted(path.name for path in folder.glob("pytorch_model*.bin"))
    if not pickled:
        return f"{folder / WEIGHTS} is missing"
    return (
        f"{folder / pickled[0]} is pickled, which can run any code when it is read; "
        f"convert it once, with transformers and torch installed:\n"
        f"{_conversion(folder, str(folder), str(folder))}"
    )


def require_free(output: Path) -> None:
    """Raises UserError if `output` exists, unless it is an empty folder."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} exists already; give another --output, or remove it")


@contextlib.contextmanager
def appearing(output: Path) -> Iterator[Path]:
    """Yields the folder OUTPUT.part to write into. It is renamed to OUTPUT at the end, or removed
    on an error. A killed process leaves it, and the next one replaces it."""
    part = output.with_name(f"{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        if output.exists():
            output.rmdir()
        part.rename(output)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
