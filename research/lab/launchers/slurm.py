"""Launches on Slurm through submitit: one job for a training, one for each run of an experiment.

The file system is shared. A job runs with the Python of the launch in WORKDIR/launch/COMMIT, which
has the code as of the commit and links to everything beside it, such as runs/. A job that runs out
of time or is preempted saves its checkpoint, is queued again and resumes.
"""

import contextlib
import dataclasses
import io
import os
import re
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

from research import cli
from research.errors import UserError, guarded
from research.lab.launchers import programs, snapshot
from research.lab.launchers.options import fill
from research.lab.launchers.request import Request, check_present, committed_config
from research.monitoring import starts
from research.values import Count, Size

FOLDER = "launch"  # folder in the workdir for code, sbatch files, logs
SECONDS_TO_SAVE = 120  # between the signal and the job's time limit
INTERRUPTED = 130  # launch.py's exit code; repeating a job with another code but 0 is useless
MEMORY = re.compile(r"\d+[KMGT]B?")
PARTITION = "%P %D nodes, each %c cores, %m MB, gres %G; at most %l"  # sinfo's words
# Reasons for which a job waits forever: it asks for more than a partition or a job may have. Slurm
# accepts such jobs.
NEVER = re.compile(r"PartitionConfig|Partition(Node|Time)Limit|BadConstraints|\w+PerJob\w*")


def _memory(text: str) -> str:
    fits = MEMORY.fullmatch(text) or not text
    return "" if fits else "must be a number with K, M, G or T, such as 64G"


@dataclasses.dataclass(frozen=True)
class Options:
    """Options with sbatch's names. `time` in minutes; "" or 0 leaves an option to the cluster.

    restarts: how often a job may resume after its time limit.
    """

    time: Size
    partition: str = ""
    nodes: Size = 1
    gpus_per_node: Count = 0
    cpus_per_task: Count = 0
    mem: Annotated[str, _memory] = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    restarts: Count = 3


@dataclasses.dataclass(frozen=True)
class Planned:
    """A job: the call of its tasks, and the names of the jobs that must end before it starts.

    when: how these must end, in sbatch's terms: "afterok" (successfully) or "afterany".
    """

    name: str
    workdir: Path
    call: Callable[[list[str]], int]
    arguments: list[str]
    after: tuple[str, ...] = ()
    when: str = "afterok"


class Worker:
    """The call of every task of a job, pickled by submitit. One task runs on each node."""

    def __init__(self, call: Callable[[list[str]], int], arguments: list[str]):
        self.call, self.arguments = call, arguments

    def __call__(self) -> None:
        """Runs the command. Raises RuntimeError if it fails, so that the job fails too."""
        queue_again, ignore = signal.getsignal(signal.SIGUSR2), signal.getsignal(signal.SIGTERM)
        signals = []

        def end_of_time(number: int, frame: FrameType | None) -> None:
            if signal.getsignal(signal.SIGTERM) is ignore:
                queue_again(number, frame)  # no training is running
            signals.append(number)
            os.kill(os.getpid(), signal.SIGTERM)  # the loop saves a checkpoint and stops

        if callable(queue_again):
            signal.signal(signal.SIGUSR2, end_of_time)
        code = self.call(self.arguments)
        if code == INTERRUPTED and signals:
            queue_again(signal.SIGUSR2, None)  # ends the process of the first task
        elif code:
            raise RuntimeError(f"exit code {code}; its message is above")

    def checkpoint(self) -> Any:
        """Returns the same call, to resume from the workdir's checkpoint (submitit's protocol)."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def launch(request: Request, values: dict[str, str], dry_run: bool) -> int:
    """Submits the jobs, or prints their sbatch files. Raises UserError for wrong input."""
    options = fill(Options, values, "slurm")
    if "://" in request.workdir:
        raise UserError(
            f"--workdir={request.workdir}: with --on=slurm the workdir must be a folder that all "
            "nodes share; logs and code go there"
        )
    if request.verb == "experiment" and options.nodes > 1:
        raise UserError(
            f"--on.nodes={options.nodes}: a run of an experiment is a job on one node; launch runs "
            "that need more with `launch.py train`"
        )
    top = Path(request.workdir).parts[0]
    if Path.cwd().resolve() != snapshot.ROOT.resolve():
        raise UserError(f"--on=slurm: launch from {snapshot.ROOT}, where relative paths start")
    if snapshot.tracked(top):
        raise UserError(f"--workdir={request.workdir}: {top} is code; take a folder such as runs/…")
    executor = _executor(dry_run)
    commit = snapshot.clean_commit()
    check_present(request)
    code = Path(request.workdir).absolute() / FOLDER / commit[:12]
    jobs = plan(request, committed_config(request))
    typed = shlex.join(request.command(request.config))
    if not dry_run:
        _check_free(jobs)
        if not code.exists():
            snapshot.extract(commit, code)
            snapshot.link_ignored(code)
    ids: dict[str, str] = {}
    for job in jobs:
        at = executor(job.workdir / FOLDER, max_num_timeout=options.restarts)
        at.update_parameters(**_parameters(job, options, code, typed, ids))
        if dry_run:
            print(f"# {job.name}: {shlex.join(job.arguments)}")
            print(at._make_submission_file_text(at._submitit_command_str, job.name))
            ids[job.name] = f"<{job.name}>"
        else:
            submitted = _submit(at, job, list(ids.values()))
            ids[job.name] = submitted.job_id
            print(f"job {submitted.job_id}: {job.name}, log {submitted.paths.stdout}")
    return 0


def plan(request: Request, config: str) -> list[Planned]:
    """Returns the jobs of a request in order; the last one of an experiment writes its report."""
    workdir = Path(request.workdir)
    if request.verb == "train":
        return [Planned(workdir.name, workdir, cli.main, request.command(config)[2:])]
    from research.lab import experiment
    from research.lab.workers import runner

    chosen = runner.unfinished(
        experiment.jobs(experiment.load(request.config), workdir), request.only
    )
    coming = {job.workdir for job in chosen}
    jobs = [
        Planned(
            job.workdir.name,
            job.workdir,
            make_run,
            [config, str(workdir), job.run, job.number],
            (job.after.name,) if job.after in coming else (),
        )
        for job in chosen
    ]
    if not request.only:
        after = tuple(job.name for job in jobs)
        arguments = [config, str(workdir)]
        jobs.append(Planned("report", workdir, make_report, arguments, after, "afterany"))
    return jobs


def make_run(arguments: list[str]) -> int:
    """Runs one run of an experiment; returns its exit code."""
    from research.lab.workers import job

    return guarded(lambda: job.main("run", *arguments))


def make_report(arguments: list[str]) -> int:
    """Writes the report of an experiment's finished runs; returns its exit code."""
    from research.lab.reports import written

    return guarded(lambda: written.write_report(*arguments))


def _submit(executor: Any, job: Planned, before: list[str]) -> Any:
    """Submits a job; returns submitit's job. If Slurm refuses it or would let it wait forever,
    cancels the jobs `before` and raises UserError."""
    from submitit.core.utils import FailedJobError

    submitted, reason = None, ""
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # the error has the same text
            submitted = executor.submit(Worker(job.call, job.arguments))
    except FailedJobError as error:
        lines = [line.removeprefix("sbatch: error: ") for line in str(error).splitlines()]
        reason = f"sbatch: {'; '.join(lines)}"
    if submitted is not None:
        waits = programs.answer(
            ["squeue", "--noheader", f"--jobs={submitted.job_id}", "--format=%r"]
        )
        if not NEVER.fullmatch(waits or ""):
            return submitted
        before = [*before, submitted.job_id]
        reason = f"Slurm would let the job wait for ever ({waits}): no node or limit is that large"
    if before:
        programs.answer(["scancel", *before])
    listed = programs.answer(["sinfo", "--noheader", f"--format={PARTITION}"]) or ""
    raise UserError("\n  ".join([f"{reason}; the partitions are", *listed.splitlines()]))


def _parameters(
    job: Planned, options: Options, code: Path, typed: str, ids: dict[str, str]
) -> dict[str, Any]:
    """Returns submitit's parameters for the sbatch file; typed: the command that its runs note."""
    parameters = {n: v for n, v in dataclasses.asdict(options).items() if v and n != "restarts"}
    after = ":".join(ids[name] for name in job.after)
    parameters |= {
        "job_name": job.name,
        "comment": str(job.workdir.absolute()),
        "ntasks_per_node": 1,
        "signal_delay_s": SECONDS_TO_SAVE,
        "stderr_to_stdout": True,
        "setup": [
            f"cd {shlex.quote(str(code))}",  # `python -m` searches here first
            f"export {starts.TYPED}={shlex.quote(typed)}",
        ],
    }
    if after:
        parameters["dependency"] = f"{job.when}:{after}"
    if after and job.when == "afterok":
        parameters["additional_parameters"] = {"kill_on_invalid_dep": "yes"}
    return parameters


def _executor(dry_run: bool) -> Any:
    """Returns submitit's executor. Raises UserError if submitit or Slurm is missing."""
    try:
        from submitit import SlurmExecutor
    except ModuleNotFoundError as error:
        if error.name != "submitit":
            raise
        raise UserError(
            "--on=slurm needs the package submitit: python -m pip install submitit"
        ) from error

    if not dry_run:
        for name in ("sbatch", "srun", "squeue"):
            programs.require(name, "launch from a machine of the cluster that submits jobs")
        return SlurmExecutor

    class Printed(SlurmExecutor):
        """Prints sbatch files without Slurm on this machine."""

        @classmethod
        def affinity(cls) -> int:
            return 1

    return Printed


def _check_free(jobs: list[Planned]) -> None:
    """Raises UserError if a job in the queue has the workdir of one of these jobs."""
    queued = programs.answer(["squeue", "--me", "--noheader", "--format=%k"]) or ""
    for job in jobs:
        if str(job.workdir.absolute()) in queued.splitlines():
            raise UserError(
                f"a job in the queue writes to {job.workdir} already; `squeue --me` shows it"
            )
