"""Exports the code as of the commit: other machines run exactly the contents of the commit.

Uncommitted changes are an error, since other machines would run without them; so are new files in
the folders that a run reads. The exported code has no .git: a file names its commit
(research.monitoring.starts reads it).
"""

import subprocess
import tarfile
import tempfile
from pathlib import Path

from research.errors import UserError
from research.monitoring import starts
from research.shipped import ROOT

READ = ("launch.py", "research", "configs", "requirements*")  # parts of a checkout that runs read
SHOWN = 8  # at most this many changed files are listed


def clean_commit() -> str:
    """Returns the checked-out commit. Raises UserError if files differ from it."""
    commit = _git("rev-parse", "HEAD").strip()
    changed = _git("status", "--porcelain", "--untracked-files=no").splitlines()
    changed += _git("ls-files", "--others", "--exclude-standard", "--", *READ).splitlines()
    if changed:
        more = [f"  and {len(changed) - SHOWN} more"] if len(changed) > SHOWN else []
        raise UserError(
            "\n".join(
                [
                    f"the code is sent as of commit {commit[:12]}, which does not have these "
                    "changes; commit, stash or ignore them first:",
                    *(f"  {line}" for line in changed[:SHOWN]),
                    *more,
                ]
            )
        )
    return commit


def tracked(path: str) -> str | None:
    """Returns a path relative to the project's root, or None if the commit does not have it."""
    below = Path(path).resolve()
    if not below.is_relative_to(ROOT.resolve()) or not below.exists():
        return None
    name = below.relative_to(ROOT.resolve()).as_posix()
    return name if _git("ls-files", "--", name) else None


def archive(commit: str, file: Path) -> None:
    """Writes the commit's files as a .tar.gz."""
    _git("archive", "--format=tar.gz", f"--output={file}", commit)


def extract(commit: str, folder: Path) -> None:
    """Writes the commit's files and its name into a folder, which appears once it is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        archive(commit, Path(place) / "code.tar.gz")
        with tarfile.open(Path(place) / "code.tar.gz") as tar:
            tar.extractall(Path(place) / "code", filter="data")
        (Path(place) / "code" / starts.SENT).write_text(f"{commit}\n")
        (Path(place) / "code").rename(folder)


def link_ignored(folder: Path) -> None:
    """Links everything beside the commit's files (runs, caches) into the exported folder."""
    for entry in ROOT.iterdir():
        place = folder / entry.name
        if entry.name != ".git" and not place.exists():
            place.symlink_to(entry)


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise UserError("the program 'git' is not on PATH; `apt install git` installs it") from None
    if done.returncode:
        raise UserError(
            f"{ROOT} is not a git checkout, and code is sent as of a commit: "
            f"{done.stderr.strip().splitlines()[0] if done.stderr.strip() else arguments[0]}"
        )
    return done.stdout
