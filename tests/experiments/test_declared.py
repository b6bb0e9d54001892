"""What the files of experiments and searches may declare; nothing is made of them."""

import re

import pytest

from research.config import from_values
from research.errors import UserError
from research.experiments import experiment, search

HEAD = """
from research.experiments.experiment import Experiment, Run
from research.experiments.search import Choice, Float, Int, Search
from research.experiments.table import Column, Table

RUN = Run("config.py")
SPACE = {"train.batch_size": Choice((16, 32))}


"""


@pytest.fixture
def load(tmp_path):
    """A function: what a file returns, as text -> the experiment or the search that is loaded."""

    def found(text):
        of_search = text.startswith("Search(")
        name = "get_search" if of_search else "get_experiment"
        (tmp_path / "made.py").write_text(f"{HEAD}def {name}(arg=''):\n    return {text}\n")
        return (search if of_search else experiment).load(str(tmp_path / "made.py"))

    return found


def runs(text):
    return f"Experiment('made', {{'a': RUN, 'b': {text}}})"


def table(text):
    return f"Experiment('made', {{'a': RUN}}, table={text})"


def searched(text):
    return f"Search('made', RUN, {text}, 'accuracy')"


WRONG = {
    runs("Run('c.py', seeds=3)"): "seeds must be a tuple, each item a whole number, not 3",
    runs("Run('c.py', seeds='12')"): "runs['b'].seeds must be a tuple, each item a",
    runs("Run('c.py', seeds=(0, True))"): "seeds[1] must be a whole number, not True (bool)",
    runs("Run('c.py', [1])"): "runs['b'].overrides must be a dict, not [1] (list)",
    runs("Run('c.py', 'x')"): "runs['b'].overrides must be a dict, not 'x' (str)",
    runs("Run('c.py', None)"): "runs['b'].overrides must be a dict, not None (NoneType)",
    runs("Run('c.py', {3: 4})"): "runs['b'].overrides has the key 3, which must be a string",
    runs("Run(None)"): "runs['b'].config must be a string, not None (NoneType)",
    runs("Run('c.py', start=RUN)"): "runs['b'].start must be a string, not a Run; give its name",
    runs("Run('c.py', train='no')"): "runs['b'].train must be True or False, not 'no' (str)",
    runs("{}"): "Experiment.runs['b'] must be a Run, not {} (dict)",
    "Experiment('made', [RUN])": "Experiment.runs must be a dict, each value a Run, not [Run(",
    "Experiment('made', {3: RUN})": "Experiment.runs has the key 3, which must be a string",
    "Experiment('made', {'a': RUN}, 'a')": "pretraining must be a tuple, each item a string",
    "Experiment('a/b', {'a': RUN})": "experiment 'a/b': a name is made of letters, dig",
    "Experiment('..', {'a': RUN})": "experiment '..': a name is made of",
    "Experiment('', {'a': RUN})": "experiment '': a name is made of",
    table("{}"): "Experiment.table must be a Table or None, not {} (dict)",
    table("Table([], {})"): "table.rows must be a dict, each value a dict, each value a",
    table("Table({'x': ['a']}, {})"): "rows['x'] must be a dict, each value a string, not",
    table("Table({'x': 'a'}, {})"): "table.rows['x'] must be a dict, each value a string, not 'a'",
    table("Table({'x': {'y': RUN}}, {})"): "rows['x']['y'] must be a string, not a Run; give its",
    table("Table({}, ['y'])"): "table.columns must be a dict, each value a Column, not",
    table("Table({}, {'y': 'f1'})"): "table.columns['y'] must be a Column, not 'f1' (str)",
    searched("{'a': (1, 2)}"): "space['a'] must be a Float or an Int or a Choice, not",
    searched("{'a': [1]}"): "space['a'] must be a Float or an Int or a Choice, not [1]",
    searched("{'a': 1}"): "Search.space['a'] must be a Float or an Int or a Choice, not 1 (int)",
    searched("{'a': Float(float('nan'), 1)}"): "space['a'].low must be a finite number, not nan",
    searched("{'a': Int(1, 2.5)}"): "space['a'].high must be a whole number, not 2.5 (float)",
    searched("{'a': Choice('abc')}"): "space['a'].values must be a tuple, each item a",
    searched("{'seed': Int(0, 3)}"): "space['seed']: that key is set by the run's seeds",
    searched("{'train.best': Choice(('f1',))}"): "train.best is set by the search's metric",
    "Search('made', Run('c.py', seeds=3), SPACE, 'f1')": "Search.run.seeds must be a tuple",
    "Search('made', 'a', SPACE, 'f1')": "Search.run must be a Run, not 'a' (str)",
    "Search('made', RUN, SPACE, 'f1', trials='x')": "trials must be a whole number, not 'x' (str)",
    "Search('made', RUN, SPACE, 'f1', startup=-1)": "startup=-1 must be at least 0",
    "Search('a/b', RUN, SPACE, 'f1')": "search 'a/b': a name is made of",
    "Search('made', Run('c.py', {'train.batch_size': 8}), SPACE, 'f1')": (
        "'train.batch_size' is in the space and in the run's overrides; leave one out"
    ),
    "Search('made', Run('c.py', {'train': {'batch_size': 8}}), SPACE, 'f1')": (
        "'train.batch_size' is in the space and in the run's overrides"
    ),
    "Search('made', Run('c.py', {'seed': 8}), SPACE, 'f1')": "overrides['seed']: that key is",
    "Search('made', Run('c.py', fresh=True), SPACE, 'f1')": "fresh=True needs a start",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_of_another_type_is_named(load, text):
    with pytest.raises(UserError, match=re.escape(WRONG[text])) as error:
        load(text)
    assert "made.py: " in str(error.value)


def test_lists_are_taken_for_tuples_and_whole_numbers_for_numbers(load):
    assert load(runs("Run('c.py', {'train.steps': 3}, seeds=[1, 2])")).runs["b"].seeds == [1, 2]
    loaded = load("Experiment('2.made-x', {'a': RUN}, table=Table({'x': {}}, {'y': Column()}))")
    assert loaded.table.rows == {"x": {}}
    with pytest.raises(UserError, match="no config file 'config.py'"):  # what comes next
        load(searched("{'a': Float(1, 2), 'b': Choice([1, 'x', True])}"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"overrides": {"seed": 3}}, "overrides['seed']: that key is set by the run's seeds"),
        (
            {"overrides": {"init_from": "x"}},
            "overrides['init_from']: that key is set by the run's start",
        ),
        (
            {"overrides": {"init": "fresh"}},
            "overrides['init']: that key is set by the run's start and",
        ),
        ({"fresh": True}, "fresh=True needs a start, whose shape and tokenizer it takes"),
    ],
)
def test_what_would_be_left_aside_is_refused(tmp_path, given, message):
    made = experiment.Experiment("made", {"a": experiment.Run("config.py", **given)})
    with pytest.raises(UserError, match=re.escape(f"run 'a': {message}")):
        experiment.jobs(made, tmp_path)


def test_a_run_that_makes_no_checkpoint_is_no_start(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "_config", lambda *_: from_values({}, to_run=False))
    runs = {
        "scored": experiment.Run("config.py", start="elsewhere", train=False),
        "after": experiment.Run("config.py", start="scored"),
    }
    message = "'after' starts from 'scored', which has train=False .*; start='elsewhere' is"
    with pytest.raises(UserError, match=message):
        experiment.jobs(experiment.Experiment("made", runs), tmp_path)


@pytest.mark.parametrize("name", [["span_qa"], {}, None, 3])
def test_a_task_whose_name_is_no_string(name):
    with pytest.raises(UserError, match=re.escape(f"task.name={name!r} is not known")):
        from_values({"task": {"name": name}})
