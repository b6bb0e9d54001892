"""The code as of the commit: no change is left out silently."""

import pytest

from research import shipped
from research.errors import UserError
from research.lab.launchers import snapshot
from research.monitoring import starts
from tests.lab.launchers.conftest import git


@pytest.mark.parametrize(
    "change", ["launch.py", "corpus.jsonl", "configs/new.py", "research/new.py", "requirements.txt"]
)
def test_a_change_that_is_not_committed_is_named(project, change):
    (project / change).parent.mkdir(exist_ok=True)
    (project / change).write_text("# changed\n")
    with pytest.raises(UserError, match=rf"does not have these changes(.|\n)*{change}"):
        snapshot.clean_commit()


def test_what_no_run_reads_does_not_matter(project):
    """What is ignored, and new files beside the code: notes, exports, a folder of data."""
    for name in ("runs/log", "notes.txt", "exported/mine/config.json", "research.md"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("x")
    assert snapshot.clean_commit() == git(project, "rev-parse", "HEAD")


def test_a_folder_that_is_no_checkout_is_said_to_be_none(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "ROOT", tmp_path)
    with pytest.raises(UserError, match="is not a git checkout"):
        snapshot.clean_commit()


def test_the_copy_has_the_commits_files_and_links_to_the_others(project, tmp_path):
    commit = snapshot.clean_commit()
    (project / "runs").mkdir()
    (project / "launch.py").write_text("later")
    snapshot.extract(commit, tmp_path / "code")
    snapshot.link_ignored(tmp_path / "code")
    assert "later" not in (tmp_path / "code" / "launch.py").read_text()
    assert (tmp_path / "code" / "runs").resolve() == project / "runs"
    assert not (tmp_path / "code" / ".git").exists()


def test_what_was_sent_knows_its_commit_in_a_checkout_that_goes_on(project, monkeypatch):
    commit = snapshot.clean_commit()
    code = project / "runs" / "launch" / "code"  # as on Slurm
    snapshot.extract(commit, code)
    (project / "launch.py").write_text("later")
    git(project, "commit", "--quiet", "--all", "--message=Later")
    monkeypatch.setattr(shipped, "ROOT", code)
    found = starts.describe("", "")
    assert starts.commit() == found["commit"] == commit != snapshot.clean_commit()
    assert found["diff"] == "" and found["untracked"] == []


def test_only_what_is_committed_is_tracked(project, tmp_path):
    (project / "runs").mkdir()
    assert snapshot.tracked("configs/tiny.py") == "configs/tiny.py"
    assert snapshot.tracked(str(project / "configs")) == "configs"
    assert snapshot.tracked("runs") is None and snapshot.tracked(str(tmp_path)) is None
