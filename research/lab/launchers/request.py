"""A request to run a verb of launch.py, with its flags, on other machines."""

import dataclasses
import glob
import os
from collections.abc import Iterator

from research import bucket, shipped
from research.config import Config
from research.errors import UserError
from research.lab.launchers import snapshot


@dataclasses.dataclass(frozen=True)
class Request:
    """One command line of launch.py.

    verb: "train" or "experiment"; config: "FILE.py:arg"; flags: all other flags, verbatim.
    configs: the checked configs that it trains.
    workdirs: workdirs that it writes itself, from which its other runs may start.
    only: the runs of an experiment to launch; "": all.
    """

    verb: str
    config: str
    workdir: str
    flags: tuple[str, ...]
    configs: tuple[Config, ...]
    workdirs: tuple[str, ...] = ()
    only: str = ""

    def command(self, config: str, python: str = "python") -> list[str]:
        """Returns the command line, with another path of the config file."""
        program = [python, "launch.py", self.verb, f"--config={config}"]
        return [*program, f"--workdir={self.workdir}", *self.flags]


def committed_config(request: Request) -> str:
    """Returns `request.config` with the file's path relative to the project's root.

    Raises UserError if the file is not in the commit.
    """
    file, colon, arg = request.config.partition(":")
    path = snapshot.tracked(shipped.beside(file))
    if path is None:
        raise UserError(
            f"--config={file} is not in the commit, and machines get the code as of the commit; "
            f"add it to the project ({snapshot.ROOT}) and commit it"
        )
    return f"{path}{colon}{arg}"


def check_reachable(request: Request) -> None:
    """Raises UserError for a path that a machine with only the commit cannot read."""
    for key, path in _paths(request):
        if not bucket.is_remote(path) and not all(map(snapshot.tracked, _files(key, path))):
            raise UserError(
                f"{key}: {path} is neither in the commit nor on a bucket, so the machines cannot "
                f"read it; copy it: gcloud storage cp {path} gs://BUCKET/… --recursive"
            )


def check_present(request: Request) -> None:
    """Raises UserError for a path that does not exist here; the machines see the same files."""
    for key, path in _paths(request):
        _files(key, path)


def _paths(request: Request) -> Iterator[tuple[str, str]]:
    """Yields (config key, path) of everything that the runs read but do not write themselves."""
    for config in request.configs:
        if config.init_from not in ("", *request.workdirs):
            yield "config.init_from", shipped.checkpoint(config.init_from)
        if config.tokenizer.path:
            yield "config.tokenizer.path", config.tokenizer.path
        tasks = {name: getattr(config.data, name) for name in ("train", "validation", "test")}
        corpus = {f"corpus[{i}]": source for i, source in enumerate(config.data.corpus)}
        for key, source in (corpus | tasks).items():
            if source is None:
                continue
            if source.data_dir:
                yield f"config.data.{key}.data_dir", source.data_dir
            for name in (source.name, *source.exclude):
                if name.startswith("files:"):
                    yield f"config.data.{key}", name.removeprefix("files:")


def _files(key: str, path: str) -> list[str]:
    """Expands a path or a glob. Raises UserError if nothing matches."""
    expanded = os.path.expanduser(path)
    if bucket.is_remote(path) or os.path.exists(expanded):
        return [expanded]
    matches = glob.glob(expanded, recursive=True)
    if not matches:
        raise UserError(f"{key}: there is no {path} here")
    return matches
