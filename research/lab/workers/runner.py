"""Makes the runs of an experiment, each in a process of its own, several at a time.

A run starts when what it starts from is done. What is finished is not made again; what fails is
reported, and the others go on.
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
    """The jobs of the experiment, and those that are not done by their workdir's name."""

    jobs: list[Job]
    failed: list[str]
    left: list[str]  # start from a failed run, or come after an interrupt
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
        only: runs whose name, with or without its seed, fits this pattern ("sentiment*",
            "sentiment-seed1"); what they start from must be done.
        parallel: runs at a time; 0: as many as fit (`research.lab.workers.lanes`).
        say: where progress is told.
        rerun_changed: see `unfinished`.
        devices: of an accelerator, that each run has; 0: all, and one run at a time.

    Raises UserError for anything wrong in the experiment, before the first run starts.
    """
    planned = jobs(experiment, folder)
    most = sharing.count(parallel, devices)  # raises, if it does, before anything is moved
    waiting = unfinished(planned, only, say, rerun_changed)
    if not waiting:
        return Outcome(planned, [], [])
    lanes = min(most, len(waiting))
    say(f"to make: {len(waiting)}, {lanes} at a time; each prints to its {folder}/RUN/{LOG}")
    return _Runner(planned, waiting, file, folder, Pool("runs", lanes, devices, say)).run()


def choose(planned: list[Job], only: str) -> list[Job]:
    """The jobs whose run's name, with or without its seed, fits a pattern; all where it is empty.

    Raises UserError where none fits.
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
    """What becomes of the chosen jobs.

    waiting: to be made; again: those of them whose folder is put aside for it.
    finished: by the same code, `other_code` by that of another commit.
    """

    waiting: list[Job] = dataclasses.field(default_factory=list)
    again: list[Job] = dataclasses.field(default_factory=list)
    finished: list[Job] = dataclasses.field(default_factory=list)
    other_code: list[Job] = dataclasses.field(default_factory=list)

    def state(self, job: Job) -> str:
        """In a word; nothing of one that is made for the first time."""
        if job in self.again:
            return "made again"
        if job in self.waiting:
            return "goes on" if (job.workdir / CHECKPOINTS).exists() else ""
        return "finished"


def decide(planned: list[Job], only: str = "", rerun_changed: bool = False) -> Decision:
    """Looks at what is in the folders of the chosen jobs.

    Args:
        rerun_changed: those are made again that were made with another config or other data, or
            finished with another commit, and what starts from them.

    Raises UserError where one starts from a run that is neither chosen nor done, and, without
    `rerun_changed`, where a run with another config or other data is in its folder.
    """
    chosen = choose(planned, only)
    missing = {job.after for job in chosen if job.after and not (job.after / DONE).exists()}
    for workdir in sorted(missing - {job.workdir for job in chosen}):
        raise UserError(
            f"--only={only!r}: {workdir} is not done, and a run of these starts from it"
        )
    found, commit = Decision(), starts.commit()
    for job in chosen:
        fresh = job.config.init == "fresh"  # of its start it has only the shape
        begins_anew = job.after in {j.workdir for j in found.waiting} and not fresh
        done = _record(job, DONE)
        # What has no checkpoint yet can begin again with any config.
        begun = done or (_record(job, BEGUN) if (job.workdir / CHECKPOINTS).exists() else None)
        if begun is None:
            found.waiting.append(job)
            continue
        state = "finished" if done else "unfinished"
        if begins_anew and not rerun_changed:
            raise UserError(
                f"{job.workdir} is {state}, but {job.after.name}, which it starts from, is "
                "not there; put it back, or make both again with --rerun_changed"
            )
        gone = job.after is not None and not (job.after / DONE).exists()
        same = not begins_anew and (gone or begun["fingerprint"] == fingerprint(job))
        if not same and not rerun_changed:
            raise UserError(
                f"{job.workdir} holds a run, {state}, with another config or other data; remove "
                "it, give another --workdir, or --rerun_changed"
            )
        if done and same and done["commit"] == commit:
            found.finished.append(job)
        elif done and same and not rerun_changed:
            found.other_code.append(job)
        else:
            found.waiting.append(job)
            if done or not same:
                found.again.append(job)
    return found


def unfinished(
    planned: list[Job],
    only: str = "",
    say: Callable[[str], None] = print,
    rerun_changed: bool = False,
) -> list[Job]:
    """The chosen jobs that are still to be made, see `decide`; tells of the others, and puts the
    folders of those that are made again aside under another name."""
    found = decide(planned, only, rerun_changed)
    for job in found.finished:
        say(f"{job.workdir.name}: finished before")
    if found.other_code:
        say(
            f"finished before, with other code than the commit {(starts.commit() or 'none')[:12]}: "
            f"{', '.join(job.workdir.name for job in found.other_code)}; --rerun_changed makes "
            "them again"
        )
    for job in found.again:  # all have been looked at: nothing is moved before an error
        say(f"{job.workdir.name}: made again; what was there is now {_put_aside(job.workdir).name}")
    return found.waiting


def _record(job: Job, name: str) -> dict | None:
    """What a job wrote of itself into its folder."""
    file = job.workdir / name
    return read_record(file) if file.exists() else None


def _put_aside(workdir: Path) -> Path:
    """Renames a folder, so that another can take its place; nothing is lost."""
    number = 1
    while (to := workdir.with_name(f"{workdir.name}.before-{number}")).exists():
        number += 1
    workdir.rename(to)
    return to


class _Runner:
    """What waits, and what became of the others; the pool asks it what begins next."""

    def __init__(self, planned, waiting, file, folder, pool):
        self.waiting, self.file, self.folder, self.pool = list(waiting), file, folder, pool
        self.number, self.total, self.since = 0, len(waiting), time.monotonic()
        self.outcome = Outcome(planned, [], [])

    def run(self) -> Outcome:
        stopped = self.pool.work(self._fill, self._ended)
        if stopped is not None:
            self.outcome.interrupted = True
            self.outcome.left += [job.workdir.name for job in self.waiting]
            # One may have come to its end meanwhile.
            self.outcome.left += [c.name for c in stopped if not (c.workdir / DONE).exists()]
        return self.outcome

    def _fill(self) -> bool:
        """Starts what can start; drops what waits for a run that will not be done."""
        coming = {job.workdir for job in self.waiting} | {c.workdir for c in self.pool.running}
        for job in list(self.waiting):
            if job.after in coming:
                continue
            if job.after and not (job.after / DONE).exists():
                self.waiting.remove(job)
                self.outcome.left.append(job.workdir.name)
                self.pool.say(f"{job.workdir.name}: not made, {job.after.name} is not done")
            elif None in self.pool.lanes:
                self.waiting.remove(job)
                self.number += 1
                self.pool.say(f"[{self.number}/{self.total}] {job.workdir.name}")
                program = [*PROGRAM, self.file, str(self.folder), job.run, job.number]
                self.pool.begin(program, job.workdir)
        self.pool.view.status(self._state())
        return bool(self.waiting)

    def _state(self) -> str:
        """How many runs are where."""
        running = len(self.pool.running)
        failed, left = len(self.outcome.failed), len(self.outcome.left)
        over = self.total - running - len(self.waiting) - failed - left
        parts = [f"{over} done", f"{running} running", f"{len(self.waiting)} waiting"]
        parts += [f"{failed} failed"] if failed else []
        parts += [f"{left} not made"] if left else []
        return f"{', '.join(parts)}  since {duration(time.monotonic() - self.since)}"

    def _ended(self, child: Child, code: int) -> None:
        if code == 0:
            self.pool.say(f"{child.name}: done in {duration(time.monotonic() - child.since)}")
            return
        self.outcome.failed.append(child.name)
        children.failed(child, code, self.pool.say)
