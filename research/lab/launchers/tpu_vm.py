"""Launches on a TPU slice through gcloud: queued resource, code, training, logs, deletion.

All steps may be repeated: the same launch finds the slice and the training that runs on it again,
and continues to show its log. A preempted slice is requested again, and the training resumes from
the checkpoint on the bucket. When the training ends, the slice is deleted, since it costs money.
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
# launch.py's exit codes after which another try is useless: done, wrong input, diverged
FINAL = (0, 2, DIVERGED)
GONE = (None, "SUSPENDING", "SUSPENDED", "DELETING")  # states of a preempted slice
FAILED = "FAILED"
ARCHIVE = "code.tar.gz"  # placeholder for the archive's path in a dry run


@dataclasses.dataclass(frozen=True)
class Options:
    """Options with gcloud's names.

    name: name of queued resource and slice; "": derived from the workdir.
    restarts: how often to request a preempted slice again.
    keep: do not delete the slice when the training ends.
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
    """The commands of a launch, in this order; `describe` is called as often as needed."""

    create: list[str]
    describe: list[str]
    copy: list[str]
    set_up: list[str]
    start: list[str]
    follow: list[str]
    delete: list[str]


def launch(request: Request, values: dict[str, str], dry_run: bool) -> int:
    """Trains on a slice and returns the training's exit code, or prints the commands.

    Raises UserError for wrong input.
    """
    options = fill(Options, values, "tpu_vm")
    google.check_place(options.project, options.zone)
    family = google.check(request, "tpu_vm", "accelerator_type", options.accelerator_type)
    name = google.name_of(options.name, request.workdir, LONGEST)
    runtime = options.runtime_version or google.RUNTIMES[family]
    commit = snapshot.clean_commit()
    check_reachable(request)
    train = request.command(committed_config(request), python=".venv/bin/python")
    if dry_run:
        steps = commands(options, name, runtime, ARCHIVE, commit, train)
        print(f"git archive --format=tar.gz --output={ARCHIVE} {commit}")
        for field in dataclasses.fields(steps):
            print(shlex.join(getattr(steps, field.name)))
        return 0
    programs.require("gcloud", "https://cloud.google.com/sdk/docs/install says how to install it")
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / ARCHIVE
        snapshot.archive(commit, archive)
        steps = commands(options, name, runtime, str(archive), commit, train)
        try:
            return _run(steps, options)
        except KeyboardInterrupt:
            print(
                "\nthe training continues without this terminal. The same launch shows its log; "
                f"this stops and deletes the slice:\n  {shlex.join(steps.delete)}"
            )
            return 130


def commands(
    options: Options, name: str, runtime: str, archive: str, commit: str, train: list[str]
) -> Commands:
    """Returns the commands of a launch; every machine of the slice has the code in ~/COMMIT."""
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
        # uv installs a Python: that of the machines may be older than 3.11.
        set_up=on_all(
            f"mkdir -p {code} && tar -xzf {code}.tar.gz -C {code} && cd {code} && "
            f"echo {commit} > {starts.SENT} && "
            "{ test -e .venv/ready || { python3 -m pip install --quiet --user uv && "
            "python3 -m uv venv --quiet --clear --python=3.12 .venv && python3 -m uv pip install "
            "--quiet --python=.venv/bin/python -r requirements-tpu.txt && touch .venv/ready; }; }"
        ),
        # In its own session, so that it outlives the ssh connection.
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


def _run(steps: Commands, options: Options) -> int:
    """Trains to the end, on one slice after the other; returns the training's exit code."""
    for _ in range(options.restarts + 1):
        _acquire(steps, options)
        # Exit codes of gcloud and pip, which do not depend on the training.
        code = next(filter(None, map(programs.call, (steps.copy, steps.set_up, steps.start))), 0)
        prepared = code == 0
        code = code or programs.call(steps.follow)  # shows the log to its end
        if prepared and code in FINAL:
            break
        time.sleep(SECONDS_BETWEEN_LOOKS)  # a preempted slice may still look active
        state, _ = _state(steps)
        if prepared and state not in GONE and code == 1:
            break
        print(f"exit code {code}, the slice is {state or 'gone'}: trying again", flush=True)
    if options.keep:
        print(f"the slice is kept and costs money; to delete it:\n  {shlex.join(steps.delete)}")
    elif programs.call(steps.delete):
        line = shlex.join(steps.delete)
        print(f"error: the slice is not deleted and costs money:\n  {line}", file=sys.stderr)
        return code or 1
    return code


def _acquire(steps: Commands, options: Options) -> None:
    """Requests the slice if it does not exist, and waits until it is active.

    Raises UserError if it is refused, or if another slice has its name.
    """
    shown = None
    while True:
        state, kind = _state(steps)
        if state is not None and kind != options.accelerator_type:
            raise UserError(
                f"a slice of this name has accelerator type {kind}, not "
                f"{options.accelerator_type}; give another --on.name, or delete it:\n"
                f"  {shlex.join(steps.delete)}"
            )
        if state == "ACTIVE":
            return
        if state == FAILED:
            raise UserError(
                f"Google Cloud could not provide the slice; `{shlex.join(steps.describe[:-1])}` "
                f"says why, and this removes it:\n  {shlex.join(steps.delete)}"
            )
        if state in ("SUSPENDING", "SUSPENDED"):
            programs.call(steps.delete)
        elif state is None and programs.call(steps.create):
            raise UserError("the slice was not granted; gcloud's message is above")
        if state != shown:
            print(f"waiting for the slice: {state or 'requested'}", flush=True)
            shown = state
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _state(steps: Commands) -> tuple[str | None, str]:
    """Returns the queued resource's state, None if it does not exist, and its accelerator type."""
    state, _, kind = (programs.answer(steps.describe) or "").partition("\t")
    return state or None, kind.strip()
