"""How the flags of a command line are read; no verb is run."""

import time
import weakref

import pytest

from research import cli, errors


@pytest.mark.parametrize(
    ("given", "found"),
    [([], {}), (["--dry_run"], {"dry_run": True}), (["--dry_run=True"], {"dry_run": True})]
    + [([f"--dry_run={word}"], {"dry_run": False}) for word in ("false", "FALSE")],
)
def test_a_switch_may_be_given_its_value(given, found):
    parsed = cli.parse("experiment", cli.VERBS["experiment"], ["--config=a", *given])
    assert parsed.flags == {"config": "a"} | found


@pytest.mark.parametrize("given", ["--dry_run=no", "--dry_run=1", "--dry_run="])
def test_a_switch_takes_no_other_value(capsys, given):
    assert cli.main(["experiment", "--config=a", given]) == 2
    assert f"error: experiment: {given} must be true or false" in capsys.readouterr().err


def test_of_a_flag_that_is_given_twice_the_last_value_counts():
    line = ["--config=a", "--config.seed=1", "--workdir", "w", "--dry_run"]
    again = ["--config.seed=2", "--config", "b", "--dry_run=false"]
    on = ["--on=slurm", "--on.time=3", "--on.time=4"]
    flags, overrides, options = cli.parse("train", cli.VERBS["train"], [*line, *again, *on])
    assert flags == {"config": "b", "workdir": "w", "dry_run": False, "on": "slurm"}
    assert (overrides, options) == ({"seed": "2"}, {"time": "4"})
    stops = ["--checkpoint=c", "--prompt=p", "--stop=a", "--stop=b"]
    assert cli.parse("generate", cli.VERBS["generate"], stops)[0]["stop"] == ("a", "b")


@pytest.mark.parametrize(
    "line",
    [["help", "train"], ["--help", "train"], ["train", "--help"], ["train", "help"]]
    + [["train", "--config=none.py", help_, "--workdir=w"] for help_ in ("-h", "--help")],
    ids=" ".join,
)
def test_help_may_stand_anywhere(capsys, line):
    assert cli.main(line) == 0
    assert capsys.readouterr().out.startswith("python launch.py train: pre-train or fine-tune")


@pytest.mark.parametrize("verb,flag", [("predict", "text"), ("generate", "prompt")])
def test_a_text_needs_no_flag(verb, flag):
    for text in ("The cat.", "-", "help"):
        parsed = cli.parse(verb, cli.VERBS[verb], ["--checkpoint=c", text])
        assert parsed.flags == {"checkpoint": "c", flag: text}


@pytest.mark.parametrize(
    ("verb", "text", "value"),
    [
        ("generate", "--max_tokens=12", 12),
        ("generate", "--temperature=1", 1.0),
        ("generate", "--prompt=3", "3"),
        ("predict", "--fields={'text': 'review'}", {"text": "review"}),
        ("predict", "--text=none", "none"),
        ("plan", "--price=1e-1", 0.1),
        ("data", "--rows=0", 0),
    ],
)
def test_a_flag_has_the_type_of_its_annotation(verb, text, value):
    needed = [
        f"--{flag}=x" for flag in cli.VERBS[verb].required if not text.startswith(f"--{flag}")
    ]
    flag = text[2:].partition("=")[0]
    found = cli.parse(verb, cli.VERBS[verb], [*needed, text]).flags[flag]
    assert found == value and type(found) is type(value)


WRONG = {
    "train --config=a --workdir=w --rewind=-1": "--rewind=-1 must be a whole number of at least 0",
    "train --config=a --workdir=w --on=slrum": "--on=slrum is not valid; did you mean 'slurm'?",
    "generate --checkpoint=a --top_pp=1": "no flag --top_pp; did you mean 'top_p'?",
    "predict --checkpoint=a --fields=words": "--fields=words must be a dict, such as",
    "plan --config=a --topology=b --price=-1": "--price=-1 must be a number of at least 0",
    "train --config=a --workdir=w --steps=3": "did you mean --config.train.steps?",
    "train --config=a --workdir=w --train.steps=3": "did you mean --config.train.steps?",
    "train --config=a --workdir=w --lr=3": "did you mean --config.optimizer.learning_rate?",
    "train --config=a --workdir=w --batch-size=3": "did you mean --config.train.batch_size?",
    "train --config=a --wrokdir=w": "no flag --wrokdir; did you mean 'workdir'?",
    "train config=a --workdir=w": "did you mean --config=a for 'config=a'?",
    "train -config=a --workdir=w": "did you mean --config=a for '-config=a'?",
    "train bert --workdir=w": "'bert' is not a flag; did you mean --config=bert?",
    "train --config=a --workdir=w bert": "'bert' is not a flag; flags are written --name=value",
    "train --config=a --size=tiny": "an argument of the config file is --config=FILE.py:size=…",
    "train --config=a --workdir=w --checkpoint=c": "did you mean --config.init_from?",
    "experiment --config=a --config.seed=3": "these keys are as the file says",
    "generate --checkpoint=a --config.seed=3": "these keys are as the checkpoint says",
    "predict --model=a text": "did you mean --checkpoint?",
    "generate --checkpoint=a --text=b": "did you mean --prompt?",
    "import bert-base-uncased": "did you mean --source=bert-base-uncased?",
    "finetune --config=a": "no verb 'finetune'; did you mean 'train'?",
    "predict --checkpoint=c The cat": "'The' and 'cat' are two texts; put quotation marks",
    "predict checkpoint=c text": "did you mean --checkpoint=c for 'checkpoint=c'?",
    "predict -x --checkpoint=c": "'-x' is not a flag",
    "--config=a train": "the verb comes first: python launch.py VERB --flag=",
}


@pytest.mark.parametrize("line", WRONG)
def test_what_is_meant_is_said(capsys, line):
    assert cli.main(line.split()) == 2
    assert WRONG[line] in capsys.readouterr().err


def test_a_switch_that_is_off_launches_nothing(capsys, monkeypatch):
    joined = []
    monkeypatch.setattr("research.commands.processes.join", lambda **given: joined.append(given))
    line = ["train", "--config=none.py", "--workdir=w", "--process_id=3"]
    assert cli.main([*line, "--dry_run"]) == 2 and not joined
    assert "--process_id is for a process that runs here" in capsys.readouterr().err
    assert cli.main([*line, "--dry_run=false"]) == 2 and joined == [{"process_id": 3}]


def test_an_interrupt_that_the_garbage_collector_swallows_comes_again():
    """Python ignores what is raised in its callbacks: a run would go on for hours."""

    class Thing:
        pass

    def swallowed(reference):
        raise KeyboardInterrupt

    def run():
        thing = Thing()
        kept = weakref.ref(thing, swallowed)
        del thing
        time.sleep(5)
        return 0 if kept else 1

    assert errors.guarded(run) == 130
