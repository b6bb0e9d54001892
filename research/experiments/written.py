"""The report of an experiment, written into its folder and printed."""

from pathlib import Path

from research import bucket
from research.experiments import experiment, page, report
from research.experiments.experiment import Experiment, Job
from research.experiments.job import DONE


def write_report(config: str, workdir: str) -> int:
    """The report of the runs that are done; none is made. 1 where some are not, which are named."""
    loaded, folder = experiment.load(config), bucket.path(workdir)
    planned = experiment.jobs(loaded, folder)
    write(loaded, planned, folder)
    left = [job.workdir.name for job in planned if not (job.workdir / DONE).exists()]
    if left:
        print(f"\nnot done: {', '.join(left)}. The same launch makes what is left.")
    return 1 if left else 0


def write(loaded: Experiment, planned: list[Job], folder: Path) -> None:
    """Writes and prints the report of the runs that are done, if any is."""
    done = [job for job in planned if (job.workdir / DONE).exists()]
    if done:
        made = report.make(loaded, done, folder, left=len(planned) - len(done))
        files = report.write(made, folder, page.render(made))
        print(f"\n{report.markdown(made)}\nwritten to {', '.join(map(str, files))}")
