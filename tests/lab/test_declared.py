"""Valid and invalid values in files of experiments and searches; no run starts."""

import re

import pytest

from research.config import from_values
from research.errors import UserError
from research.lab import experiment, search

HEAD = """
from research.lab.experiment import Experiment, Run
from research.lab.search import Choice, Float, Int, Search
from research.lab.table import Column, Table

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


LIST = """must be a list, such as '["a", "b"]'"""
DICT = """must be a dict, such as '{"a": "b"}'"""
CHOSEN = "must be a Float or an Int or a Choice"
NAME = "is not a name: it is made of letters, digits"
WRONG = {
    runs("Run('c.py', seeds=3)"): "seeds=3 must be a list, each a whole number from 0 to",
    runs("Run('c.py', seeds='12')"): "runs['b'].seeds='12' must be a list, each",
    runs("Run('c.py', seeds=(0, True))"): "seeds[1]=True must be a whole number",
    runs("Run('c.py', [1])"): f"runs['b'].overrides=[1] {DICT}",
    runs("Run('c.py', 'x')"): f"runs['b'].overrides='x' {DICT}",
    runs("Run('c.py', None)"): f"runs['b'].overrides=None {DICT}",
    runs("Run('c.py', {3: 4})"): "runs['b'].overrides, key=3 must be a string",
    runs("Run(None)"): "runs['b'].config=None must be a string",
    runs("Run('c.py', start=RUN)"): "runs['b'].start must be a string, not a Run; give its name",
    runs("Run('c.py', train='no')"): "runs['b'].train='no' must be true or false",
    runs("{}"): "Experiment.runs['b']={} must be a Run",
    "Experiment('made', [RUN])": "Experiment.runs=[Run(",
    "Experiment('made', {3: RUN})": "Experiment.runs, key=3 must be a string",
    "Experiment('made', {'a': RUN}, 'a')": f"pretraining='a' {LIST}",
    "Experiment('a/b', {'a': RUN})": f"Experiment.name='a/b' {NAME}",
    "Experiment('..', {'a': RUN})": f"name='..' {NAME}",
    "Experiment('', {'a': RUN})": f"name='' {NAME}",
    "Experiment('made', {'a/b': RUN})": f"Experiment.runs, key='a/b' {NAME}",
    table("{}"): "Experiment.table={} must be a Table or None",
    table("Table([], {})"): "table.rows=[] must be a dict, each value a dict, such as",
    table("Table({'x': ['a']}, {})"): f"rows['x']=['a'] {DICT}",
    table("Table({'x': 'a'}, {})"): f"table.rows['x']='a' {DICT}",
    table("Table({'x': {'y': RUN}}, {})"): "rows['x']['y'] must be a string, not a Run; give its",
    table("Table({}, ['y'])"): "table.columns=['y'] must be a dict, each value a Column",
    table("Table({}, {'y': 'f1'})"): "table.columns['y']='f1' must be a Column",
    searched("{'a': (1, 2)}"): f"space['a']=(1, 2) {CHOSEN}",
    searched("{'a': [1]}"): f"space['a']=[1] {CHOSEN}",
    searched("{'a': 1}"): f"Search.space['a']=1 {CHOSEN}",
    searched("{'a': Float(float('nan'), 1)}"): "space['a'].low=nan must be a finite number",
    searched("{'a': Int(1, 2.5)}"): "space['a'].high=2.5 must be a whole number",
    searched("{'a': Choice('abc')}"): "space['a'].values='abc' must be a list, each true or false",
    searched("{'seed': Int(0, 3)}"): "space['seed']: that key is set by the run's seeds",
    searched("{'train.best': Choice(('f1',))}"): "train.best is set by the search's metric",
    "Search('made', Run('c.py', seeds=3), SPACE, 'f1')": "Search.run.seeds=3 must be a list",
    "Search('made', 'a', SPACE, 'f1')": "Search.run='a' must be a Run",
    "Search('made', RUN, SPACE, 'f1', trials='x')": "trials='x' must be a whole number",
    "Search('made', RUN, SPACE, 'f1', trials=0)": "trials=0 must be a whole number of at least 1",
    "Search('made', RUN, SPACE, 'f1', startup=-1)": "startup=-1 must be a whole number of at lea",
    "Search('a/b', RUN, SPACE, 'f1')": f"Search.name='a/b' {NAME}",
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
    assert load(runs("Run('c.py', {'train.steps': 3}, seeds=[1, 2])")).runs["b"].seeds == (1, 2)
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
    message = "'after' starts from 'scored', which has train=False .*; use start='elsewhere'"
    with pytest.raises(UserError, match=message):
        experiment.jobs(experiment.Experiment("made", runs), tmp_path)


@pytest.mark.parametrize("name", [["span_qa"], {}, None, 3])
def test_a_task_whose_name_is_no_string(name):
    with pytest.raises(UserError, match=re.escape(f"task.name={name!r} is not known")):
        from_values({"task": {"name": name}})


def test_a_file_that_imports_the_package_by_its_old_name_is_told_the_new_one(tmp_path):
    file = tmp_path / "old.py"
    file.write_text("\nfrom research.experiments.experiment import Experiment\n")
    with pytest.raises(UserError, match="old.py, line 2: .*; research.experiments is research.lab"):
        experiment.load(str(file))
