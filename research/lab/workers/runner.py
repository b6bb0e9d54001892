"""Runs the runs of an experiment, each in its own process, several at a time.

A run starts once the run that it starts from is done. Finished runs are not repeated. A failed run
is reported, and the others continue.
"""

import dataclasses
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

from research.errors import UserError, nearest
from research.lab.experiment import Experiment, Job, fingerprint, jobs
from research.lab.record import BEGUN, CHECKPOINTS, DONE, read_record
from research.lab.workers import children
from research.lab.workers import lanes as sharing
from research.lab.workers.children import LOG, Child
from research.lab.workers.pool import Pool
from research.monitoring import starts
from research.monitoring.progress import duration

PROGRAM = (*children.PROGRAM, "run")


@dataclasses.dataclass
class Outcome:
    """The jobs of the experiment, and the workdirs' names of those that are not done."""

    jobs: list[Job]
    failed: list[str]
    left: list[str]  # not run: they start from a failed run, or an interrupt came first
    interrupted: bool = False


def run(
    experiment: Experiment,
    file: str,
    folder: Path,
    only: str = "",
    parallel: int = 0,
    say: Callable[[str], None] = print,
    rerun_changed: bool = False,
    devices: int = 0,
) -> Outcome:
    """Trains every job and scores the tasks on their test split.

    Args:
        file: the experiment's file, which the processes of the runs load again.
        only: pattern of the runs to choose, by name with or without seed ("sentiment*",
            "sentiment-seed1"); the runs that they start from must be done.
        parallel: runs at a time; 0: as many as fit (`research.lab.workers.lanes`).
        say: prints a line of progress.
        rerun_changed: see `unfinished`.
        devices: number of accelerator devices of each run; 0: all, and one run at a time.

    Raises UserError for anything wrong in the experiment, before the first run starts.
    """
    planned = jobs(experiment, folder)
    most = sharing.count(parallel, devices)  # may raise, so call it before any folder is moved
    waiting = unfinished(planned, only, say, rerun_changed)
    if not waiting:
        return Outcome(planned, [], [])
    lanes = min(most, len(waiting))
    say(f"to run: {len(waiting)}, {lanes} at a time; each prints to {folder}/RUN/{LOG}")
    return _Runner(planned, waiting, file, folder, Pool("runs", lanes, devices, say)).run()


def choose(planned: list[Job], only: str) -> list[Job]:
    """Returns the jobs whose run's name, with or without seed, fits a pattern; all jobs for "".

    Raises UserError if none fits.
    """
    wanted = only or "*"
    chosen = [
        job
        for job in planned
        if fnmatchcase(job.run, wanted) or fnmatchcase(job.workdir.name, wanted)
    ]
    if not chosen:
        known = dict.fromkeys([*(j.run for j in planned), *(j.workdir.name for j in planned)])
        raise UserError(f"--only={only!r} fits no run{nearest(only, known)}")
    return chosen


@dataclasses.dataclass(frozen=True)
class Decision:
    """Which of the chosen jobs to run.

    waiting: the jobs to run; again: those among them whose old folder is moved aside.
    finished: jobs finished with the current commit; other_code: with another commit.
    """

    waiting: list[Job] = dataclasses.field(default_factory=list)
    again: list[Job] = dataclasses.field(default_factory=list)
    finished: list[Job] = dataclasses.field(default_factory=list)
    other_code: list[Job] = dataclasses.field(default_factory=list)

    def state(self, job: Job) -> str:
        """Returns the state of a job for people; "" for one that runs for the first time."""
        if job in self.again:
            return "rerun"
        if job in self.waiting:
            return "resumes" if (job.workdir / CHECKPOINTS).exists() else ""
        return "finished"


def decide(planned: list[Job], only: str = "", rerun_changed: bool = False) -> Decision:
    """Decides by the contents of their folders which of the chosen jobs to run.

    Args:
        rerun_changed: rerun jobs with another config or other data, or finished with another
            commit, and all jobs that start from them.

    Raises UserError if a job starts from a run that is neither chosen nor done, and, without
    `rerun_changed`, if its folder holds a run with another config or other data.
    """
    chosen = choose(planned, only)
    missing = {job.after for job in chosen if job.after and not (job.after / DONE).exists()}
    for workdir in sorted(missing - {job.workdir for job in chosen}):
        raise UserError(f"--only={only!r}: {workdir} is not done, and a chosen run starts from it")
    decision, commit = Decision(), starts.commit()
    for job in chosen:
        fresh = job.config.init == "fresh"  # only takes the shape of its start
        begins_anew = job.after in {j.workdir for j in decision.waiting} and not fresh
        done = _record(job, DONE)
        # A run without a checkpoint can start over with any config.
        begun = done or (_record(job, BEGUN) if (job.workdir / CHECKPOINTS).exists() else None)
        if begun is None:
            decision.waiting.append(job)
            continue
        state = "finished" if done else "unfinished"
        if begins_anew and not rerun_changed:
            raise UserError(
                f"{job.workdir} is {state}, but {job.after.name}, which it starts from, is "
                "missing; put it back, or rerun both with --rerun_changed"
            )
        gone = job.after is not None and not (job.after / DONE).exists()
        same = not begins_anew and (gone or begun["fingerprint"] == fingerprint(job))
        if not same and not rerun_changed:
            raise UserError(
                f"{job.workdir} holds a run, {state}, with another config or other data; remove "
                "it, give another --workdir, or --rerun_changed"
            )
        if done and same and done["commit"] == commit:
            decision.finished.append(job)
        elif done and same and not rerun_changed:
            decision.other_code.append(job)
        else:
            decision.waiting.append(job)
            if done or not same:
                decision.again.append(job)
    return decision


def unfinished(
    planned: list[Job],
    only: str = "",
    say: Callable[[str], None] = print,
    rerun_changed: bool = False,
) -> list[Job]:
    """Returns the chosen jobs to run, see `decide`; reports the others, and moves the old folders
    of jobs that are rerun aside."""
    decision = decide(planned, only, rerun_changed)
    for job in decision.finished:
        say(f"{job.workdir.name}: finished before")
    if decision.other_code:
        say(
            f"finished before, with other code than the commit {(starts.commit() or 'none')[:12]}: "
            f"{', '.join(job.workdir.name for job in decision.other_code)}; --rerun_changed reruns "
            "them"
        )
    for job in decision.again:  # only after all checks: an error must leave every folder in place
        say(f"{job.workdir.name}: rerun; the old folder is now {_put_aside(job.workdir).name}")
    return decision.waiting


def _record(job: Job, name: str) -> dict | None:
    """Reads a record that a job wrote into its folder; None if there is none."""
    file = job.workdir / name
    return read_record(file) if file.exists() else None


def _put_aside(workdir: Path) -> Path:
    """Renames a folder, so that a new one can take its place."""
    number = 1
    while (to := workdir.with_name(f"{workdir.name}.before-{number}")).exists():
        number += 1
    workdir.rename(to)
    return to


class _Runner:
    """The waiting jobs and the outcome of the others; the pool asks it which job starts next."""

    def __init__(self, planned, waiting, file, folder, pool):
        self.waiting, self.file, self.folder, self.pool = list(waiting), file, folder, pool
        self.number, self.total, self.since = 0, len(waiting), time.monotonic()
        self.outcome = Outcome(planned, [], [])

    def run(self) -> Outcome:
        stopped = self.pool.work(self._fill, self._ended)
        if stopped is not None:
            self.outcome.interrupted = True
            self.outcome.left += [job.workdir.name for job in self.waiting]
            # A child may have finished in the meantime.
            self.outcome.left += [c.name for c in stopped if not (c.workdir / DONE).exists()]
        return self.outcome

    def _fill(self) -> bool:
        """Starts the jobs that can start; drops those whose start will never be done."""
        coming = {job.workdir for job in self.waiting} | {c.workdir for c in self.pool.running}
        for job in list(self.waiting):
            if job.after in coming:
                continue
            if job.after and not (job.after / DONE).exists():
                self.waiting.remove(job)
                self.outcome.left.append(job.workdir.name)
                self.pool.say(f"{job.workdir.name}: not run, {job.after.name} is not done")
            elif None in self.pool.lanes:
                self.waiting.remove(job)
                self.number += 1
                self.pool.say(f"[{self.number}/{self.total}] {job.workdir.name}")
                program = [*PROGRAM, self.file, str(self.folder), job.run, job.number]
                self.pool.begin(program, job.workdir)
        self.pool.view.status(self._state())
        return bool(self.waiting)

    def _state(self) -> str:
        """Counts the runs by state, for the status line."""
        running = len(self.pool.running)
        failed, left = len(self.outcome.failed), len(self.outcome.left)
        over = self.total - running - len(self.waiting) - failed - left
        parts = [f"{over} done", f"{running} running", f"{len(self.waiting)} waiting"]
        parts += [f"{failed} failed"] if failed else []
        parts += [f"{left} not run"] if left else []
        return f"{', '.join(parts)}  since {duration(time.monotonic() - self.since)}"

    def _ended(self, child: Child, code: int) -> None:
        if code == 0:
            self.pool.say(f"{child.name}: done in {duration(time.monotonic() - child.since)}")
            return
        self.outcome.failed.append(child.name)
        children.failed(child, code, self.pool.say)
