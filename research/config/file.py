"""Runs config files, which are Python, and says where they fail."""

import ast
import difflib
import importlib.util
import traceback
import types
from pathlib import Path
from typing import Any

import ml_collections

from research import shipped
from research.errors import UserError, nearest

# The functions that a config file may define, and what reads them.
READ_BY = {
    "get_config": "`launch.py train`, `data` and the runs of an experiment",
    "get_experiment": "`launch.py experiment`",
    "get_search": "`launch.py search`",
}


def values(spec: str) -> dict[str, Any]:
    """Calls a config file's `get_config` and returns its values as plain nested dicts."""
    config = call(spec, "get_config")
    if isinstance(config, ml_collections.ConfigDict):
        config = config.to_dict()
    if not isinstance(config, dict):
        raise UserError(
            f"{spec}: get_config(arg) must return an ml_collections.ConfigDict, "
            f"not {type(config).__name__}"
        )
    return config


def call(spec: str, name: str) -> Any:
    """Calls the function `name` of the file in "FILE.py:arg" with that argument.

    Raises UserError if the file or function does not exist or fails.
    """
    file, _, arg = spec.partition(":")
    file = shipped.beside(file)
    module = _module(file)
    if not hasattr(module, name):
        other = next((o for o in READ_BY if o != name and hasattr(module, o)), None)
        hint = f"; it has {other}(arg), which is for {READ_BY[other]}" if other else ""
        raise UserError(f"{file} has no {name}(arg){hint}")
    try:
        return getattr(module, name)(*[arg] if arg else [])
    except UserError:
        raise
    except Exception as error:  # the file is code, which may fail in any way
        raise _broken(file, error) from error


def _module(file: str) -> types.ModuleType:
    """Runs a config file. Raises UserError if it does not exist or fails."""
    path = Path(file)
    if not path.is_file():
        raise UserError(f"no config file {file!r}{_alike(Path(file))}")
    _check_literals(path)
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:  # the file is code, which may fail in any way
        raise _broken(file, error) from error
    return module


def _alike(file: Path) -> str:
    """A hint with config files of a similar name, in the same folder or among the shipped ones."""
    ours = [p.relative_to(shipped.ROOT) for p in (shipped.ROOT / "configs").rglob("*.py")]
    files = sorted({*(file.parent.glob("*.py") if file.name != str(file) else ()), *ours})
    stems = difflib.get_close_matches(file.stem, [p.stem for p in files], n=1, cutoff=0.6)
    close = [repr(str(p)) for p in files if p.stem in stems]
    return f"; did you mean {' or '.join(close)}?" if close else nearest(str(file), map(str, files))


def _check_literals(path: Path) -> None:
    """Raises UserError for a file that is not Python, or that has a dict with the same key twice:
    of two runs with one name, Python would silently drop the first."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: {error.msg}") from error
    except ValueError as error:  # bytes that are not text
        raise UserError(f"{path} is not a Python file: {error}") from error
    for node in ast.walk(tree):
        keys = node.keys if isinstance(node, ast.Dict) else []
        seen: dict[Any, int] = {}
        for key in keys:
            if not isinstance(key, ast.Constant):
                continue
            if key.value in seen:
                raise UserError(
                    f"{path}, line {key.lineno}: {key.value!r} stands here a second time, after "
                    f"line {seen[key.value]}; two of one name"
                )
            seen[key.value] = key.lineno


def _broken(file: str, error: Exception) -> UserError:
    """The error of a config file, with the line in which it failed."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve() == Path(file).resolve()
    ]
    place = f", line {lines[-1]}" if lines else ""
    return UserError(f"{file}{place}: {type(error).__name__}: {error}")
