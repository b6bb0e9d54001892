"""--on, without its targets."""

import pytest

from research import cli

TRAIN = ("train", "--config=configs/tiny.py", "--workdir=runs/tiny")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--on=slrum",), "--on=slrum is not valid; did you mean 'slurm'?"),
        (("--on.zone=us-west4-a",), "--on.zone needs --on="),
        (("--on=local", "--on.time=3"), "--on.time needs --on="),
        (("--on=slurm", "--on.time=3h"), "--on.time=3h must be a whole number"),
        (("--on=slurm", "--on.time=60", "--on.memory=8G"), "did you mean 'mem'?"),
        (("--on=slurm", "--on.time=60", "--on.mem=much"), "must be a number with K, M, G or T"),
        (("--on=slurm", "--on.time=60", "--config.train.stops=3"), "did you mean 'steps'?"),
    ],
)
def test_what_is_wrong_ends_with_what_would_be_right(project, capsys, given, message):
    assert cli.main([*TRAIN, *given]) == 2
    assert message in capsys.readouterr().err
    assert not (project / "runs").exists()


def test_a_dry_run_here_prints_the_command(project, capsys):
    assert cli.main([*TRAIN, "--config.seed=3", "--dry_run"]) == 0
    line = "python launch.py train --config=configs/tiny.py --workdir=runs/tiny --config.seed=3\n"
    assert capsys.readouterr().out == line
    assert not (project / "runs").exists()
