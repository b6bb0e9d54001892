"""A TPU slice of one's own, through gcloud: queued resource, code, training, logs, deletion.

All steps may be repeated: the same launch again finds the slice and the training that runs on it
and shows its log on. A slice that is preempted is asked for again, and the training goes on from
the checkpoint in the bucket. When the training ends, the slice is deleted, since it costs money.
"""

import dataclasses
import hashlib
import shlex
import sys
import tempfile
import time
from pathlib import Path

from research.errors import DIVERGED, UserError
from research.lab.launchers import google, programs, snapshot
from research.lab.launchers.options import fill
from research.lab.launchers.request import Request, check_reachable, committed_config
from research.monitoring import starts
from research.values import Count, Filled

LONGEST = 60  # characters of a name
SECONDS_BETWEEN_LOOKS = 30
# launch.py's exit codes after which it would be the same the next time: done, wrong input, diverged
FINAL = (0, 2, DIVERGED)
GONE = (None, "SUSPENDING", "SUSPENDED", "DELETING")  # states of a slice that was taken away
FAILED = "FAILED"
ARCHIVE = "code.tar.gz"  # stands for the archive's path in a dry run


@dataclasses.dataclass(frozen=True)
class Options:
    """gcloud's own names.

    name: of queued resource and slice; empty: made of the workdir's.
    restarts: how often a slice that was preempted is asked for again.
    keep: the slice stays when the training has ended.
    """

    project: Filled
    zone: Filled
    accelerator_type: Filled
    runtime_version: str = ""
    name: str = ""
    spot: bool = False
    restarts: Count = 10
    keep: bool = False


@dataclasses.dataclass(frozen=True)
class Commands:
    """What is called, in this order; `describe` as often as needed."""

    create: list[str]
    describe: list[str]
    copy: list[str]
    set_up: list[str]
    start: list[str]
    follow: list[str]
    delete: list[str]


def launch(request: Request, given: dict[str, str], dry_run: bool) -> int:
    """Trains on a slice and returns the training's exit code, or prints the commands.

    Raises UserError for what is wrong.
    """
    options = fill(Options, given, "tpu_vm")
    google.check_place(options.project, options.zone)
    family = google.check(request, "tpu_vm", "accelerator_type", options.accelerator_type)
    name = google.name_of(options.name, request.workdir, LONGEST)
    runtime = options.runtime_version or google.RUNTIMES[family]
    commit = snapshot.clean_commit()
    check_reachable(request)
    train = request.command(committed_config(request), python=".venv/bin/python")
    if dry_run:
        made = commands(options, name, runtime, ARCHIVE, commit, train)
        print(f"git archive --format=tar.gz --output={ARCHIVE} {commit}")
        for field in dataclasses.fields(made):
            print(shlex.join(getattr(made, field.name)))
        return 0
    programs.require("gcloud", "https://cloud.google.com/sdk/docs/install says how to install it")
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / ARCHIVE
        snapshot.archive(commit, archive)
        made = commands(options, name, runtime, str(archive), commit, train)
        try:
            return _run(made, options)
        except KeyboardInterrupt:
            print(
                "\nit goes on without this terminal. The same launch again shows its log; this "
                f"stops and deletes the slice:\n  {shlex.join(made.delete)}"
            )
            return 130


def commands(
    options: Options, name: str, runtime: str, archive: str, commit: str, train: list[str]
) -> Commands:
    """The commands of a launch; the code lies in ~/COMMIT on every machine of the slice."""
    where = [f"--project={options.project}", f"--zone={options.zone}"]
    resources = ["gcloud", "compute", "tpus", "queued-resources"]
    machine = ["gcloud", "compute", "tpus", "tpu-vm"]
    code, line = commit[:12], shlex.join(train)
    quoted = line.replace("'", "'\\''")  # for use between single quotes
    run = f"run-{hashlib.sha256(line.encode()).hexdigest()[:8]}"

    def on_all(script: str) -> list[str]:
        return [*machine, "ssh", name, *where, "--worker=all", f"--command={script}"]

    return Commands(
        create=[
            *(*resources, "create", name, f"--node-id={name}", *where),
            f"--accelerator-type={options.accelerator_type}",
            f"--runtime-version={runtime}",
            *(["--spot"] if options.spot else []),
        ],
        describe=[
            *(*resources, "describe", name, *where),
            "--format=value(state.state,tpu.nodeSpec[0].node.acceleratorType)",
        ],
        copy=[*machine, "scp", archive, f"{name}:{code}.tar.gz", *where, "--worker=all"],
        # uv brings a Python: the machines' own may be older than 3.11.
        set_up=on_all(
            f"mkdir -p {code} && tar -xzf {code}.tar.gz -C {code} && cd {code} && "
            f"echo {commit} > {starts.SENT} && "
            "{ test -e .venv/ready || { python3 -m pip install --quiet --user uv && "
            "python3 -m uv venv --quiet --clear --python=3.12 .venv && python3 -m uv pip install "
            "--quiet --python=.venv/bin/python -r requirements-tpu.txt && touch .venv/ready; }; }"
        ),
        # Not a child of the ssh connection, so that it outlives it.
        start=on_all(
            f"cd {code} && mkdir -p {run} && "
            f"{{ kill -0 $(cat {run}/pid) 2>/dev/null || {{ rm -f {run}/exit; "
            f"nohup setsid bash -c '{quoted}; echo $? > {run}/exit' "
            f">> {run}/log 2>&1 < /dev/null & echo $! > {run}/pid; }}; }}"
        ),
        follow=on_all(
            f"cd {code}/{run} && tail --lines=200 --pid=$(cat pid) --follow log; "
            "exit $(cat exit || echo 255)"
        ),
        delete=[*resources, "delete", name, *where, "--force", "--quiet"],
    )


def _run(made: Commands, options: Options) -> int:
    """Trains to the end, on one slice after the other; returns the training's exit code."""
    for _ in range(options.restarts + 1):
        _acquire(made, options)
        # Their exit codes are gcloud's and pip's, and say nothing of the training.
        code = next(filter(None, map(programs.call, (made.copy, made.set_up, made.start))), 0)
        prepared = code == 0
        code = code or programs.call(made.follow)  # shows the log to its end
        if prepared and code in FINAL:
            break
        time.sleep(SECONDS_BETWEEN_LOOKS)  # what was preempted may still look active
        state, _ = _state(made)
        if prepared and state not in GONE and code == 1:
            break
        print(f"exit code {code}, the slice is {state or 'gone'}: going on", flush=True)
    if options.keep:
        print(f"the slice is kept, and costs money; to delete it:\n  {shlex.join(made.delete)}")
    elif programs.call(made.delete):
        line = shlex.join(made.delete)
        print(f"error: the slice is not deleted and costs money:\n  {line}", file=sys.stderr)
        return code or 1
    return code


def _acquire(made: Commands, options: Options) -> None:
    """Waits until the slice is there, asking for it where it is not.

    Raises UserError where it is refused, or is another one of the same name.
    """
    shown = None
    while True:
        state, kind = _state(made)
        if state is not None and kind != options.accelerator_type:
            raise UserError(
                f"there is a slice of this name with accelerator type {kind}, not "
                f"{options.accelerator_type}; give another --on.name, or delete it:\n"
                f"  {shlex.join(made.delete)}"
            )
        if state == "ACTIVE":
            return
        if state == FAILED:
            raise UserError(
                f"Google Cloud could not provide the slice; `{shlex.join(made.describe[:-1])}` "
                f"says why, and this clears it away:\n  {shlex.join(made.delete)}"
            )
        if state in ("SUSPENDING", "SUSPENDED"):
            programs.call(made.delete)
        elif state is None and programs.call(made.create):
            raise UserError("the slice was not granted; gcloud's message is above")
        if state != shown:
            print(f"waiting for the slice: {state or 'asked for'}", flush=True)
            shown = state
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _state(made: Commands) -> tuple[str | None, str]:
    """The state of the queued resource and its accelerator type; None where there is none."""
    state, _, kind = (programs.answer(made.describe) or "").partition("\t")
    return state or None, kind.strip()
