"""`launch.py search`."""

from pathlib import Path

from research import bucket
from research.lab import search as searches
from research.lab.record import Record
from research.lab.reports import curves, provenance, sheets, written
from research.lab.reports.report import Report
from research.lab.reports.sheets import Sheet, number
from research.lab.search import Search
from research.lab.workers import searcher

STATES = {"COMPLETE": "", "PRUNED": "pruned", "FAIL": "failed"}
NOTE = (
    "The value is the best of a trial's evaluations on the validation split. Pruned trials were "
    "stopped because they were worse than the median of the others after as many evaluations. The "
    "best of many trials looks better on this split than it is: measure it on the test split, with "
    "new seeds."
)


def run(
    config: str, workdir: str = "", trials: int = 0, parallel: int = 0, devices: int = 0
) -> int:
    """Makes the trials, prints them sorted by value, and writes report.md and the page."""
    search = searches.load(config)
    folder = bucket.path(workdir or f"runs/{search.name}")
    outcome = searcher.run(search, config, folder, trials, parallel, devices)
    if outcome.interrupted:
        print("\nstopped. The same command resumes.")
        return 130
    report = _report(search, outcome, Path(folder))
    files = written.write(report, Path(folder))
    print(f"\n{sheets.markdown(report.sheets[0])}\n\nwritten to {', '.join(map(str, files))}")
    return 1 if outcome.failed else 0


def _report(search: Search, outcome: searcher.Outcome, folder: Path) -> Report:
    done = searches.over(outcome.study)
    have = [t for t in done if t.state.name == "COMPLETE"]
    have.sort(key=lambda t: t.value, reverse=not search.lower_is_better)
    rows, data = [], [["trial", *search.space, search.metric, "evaluations", "state"]]
    for trial in have + [t for t in done if t not in have]:
        seen = list(trial.intermediate_values.values())
        value = trial.value if trial.state.name == "COMPLETE" else None
        if value is None and seen:
            value = searcher.best(search.metric, seen)
        name, state = trial.user_attrs[searches.FOLDER], STATES[trial.state.name]
        chosen = [trial.params[key] for key in search.space]
        data.append([name, *chosen, value, len(seen), state])
        rows.append(
            [
                name,
                *(searcher.shown({"": value})[1:] for value in chosen),
                "" if value is None else number(value),
                str(len(seen)),
                state,
            ]
        )
    header = ["trial", *search.space, search.metric.replace("_", " "), "evaluations", "state"]
    tables = [Sheet("Trials", header, rows, NOTE, "trials", data)]
    if len(have) > len(search.space) > 1 and len({trial.value for trial in have}) > 1:
        tables.append(_importance(outcome))
    names = [trial.user_attrs[searches.FOLDER] for trial in done]
    records = [Record(folder / name, name) for name in names]
    drawn = curves.of_runs(records)
    return Report(search.name, tables, {}, provenance.about(records), curves=drawn)


def _importance(outcome: searcher.Outcome) -> Sheet:
    """The share of the variance of trials that each key explains (Hutter et al. 2014, fANOVA)."""
    from optuna import importance

    evaluator = importance.FanovaImportanceEvaluator(seed=0)
    shares = importance.get_param_importances(outcome.study, evaluator=evaluator)
    rows = [[key, f"{share:.2f}"] for key, share in shares.items()]
    note = "The share of the variance that a key explains (fANOVA); with few trials a guess."
    header = ["key", "share"]
    return Sheet("What mattered", header, rows, note, "importance", [header, *shares.items()])
