"""What is to be run elsewhere: a verb of launch.py with its flags."""

import dataclasses

from research.config import Config
from research.errors import UserError
from research.launchers import google, snapshot


@dataclasses.dataclass(frozen=True)
class Request:
    """One command line of launch.py.

    verb: "train" or "experiment"; config: "FILE.py:arg"; flags: the others, as they are written.
    configs: the checked configs that it trains.
    made: folders that it makes itself, from which its runs may start.
    only: the runs of an experiment that are meant; empty: all.
    """

    verb: str
    config: str
    workdir: str
    flags: tuple[str, ...]
    configs: tuple[Config, ...]
    made: tuple[str, ...] = ()
    only: str = ""

    def command(self, config: str, python: str = "python") -> list[str]:
        """The command line, with the config file at another place."""
        program = [python, "launch.py", self.verb, f"--config={config}"]
        return [*program, f"--workdir={self.workdir}", *self.flags]


def committed_config(request: Request) -> str:
    """`request.config` with the file's path below the project's root.

    Raises UserError where the commit does not have it.
    """
    file, colon, arg = request.config.partition(":")
    found = snapshot.tracked(file)
    if found is None:
        raise UserError(
            f"--config={file} is not in the commit, and machines get the code as of the commit; "
            f"add it to the project ({snapshot.ROOT}) and commit it"
        )
    return f"{found}{colon}{arg}"


def check_reachable(request: Request) -> None:
    """Raises UserError for a path that a machine with nothing but the commit does not have."""
    for config in request.configs:
        data = config.data
        sources = [*data.corpus, data.train, data.validation, data.test]
        names = [s.name.removeprefix("files:") for s in sources if s and s.name[:6] == "files:"]
        start = [config.init_from] if config.init_from not in ("", *request.made) else []
        for path in (*start, *names):
            if not path.startswith("gs://") and snapshot.tracked(path) is None:
                raise UserError(
                    f"{path} is neither in the commit nor on a bucket, so the machines would not "
                    f"find it; copy it there: gcloud storage cp {path} gs://BUCKET/… --recursive"
                )


def check_one_host(request: Request, flag: str, tpu: str) -> None:
    """Raises UserError for an experiment on more than one machine: one runs its processes."""
    if request.verb == "experiment" and not google.one_host(tpu):
        raise UserError(
            f"--on.{flag}={tpu} is several machines, and an experiment starts its runs on one; "
            "take a smaller slice, or launch its runs one by one with `launch.py train`"
        )
