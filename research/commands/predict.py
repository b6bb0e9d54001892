"""`launch.py predict`."""

import sys
from collections.abc import Callable
from pathlib import Path

from research.data import files, jsonl
from research.errors import UserError
from research.evaluation import predictor, splits
from research.tasks.protocol import Example, Prediction
from research.training.inference import Loaded, require_head

LISTS = {"tokens": "a list of words", "choices": "a list of texts"}  # fields; the others are text


def run(
    checkpoint: str,
    overrides: dict[str, str],
    input: str = "",
    output: str = "",
    skip_malformed: str = "",
    **fields: str,
) -> int:
    """Predicts for one example given by flags, or for those of a file.

    Every line of the file is looked at before the first one is predicted. A malformed one is an
    error, or with `skip_malformed` left out and told on standard error.

    Args:
        overrides: of what decides how outputs are read (`splits.DECISIONS`).
    """
    if input and fields:
        raise UserError(
            f"predict: give --input or --{next(iter(fields))}, not both: a file has its own texts"
        )
    if skip_malformed and not input:
        raise UserError("predict: --skip_malformed is for the lines of a file: give --input too")
    skipped: list[UserError] = []
    malformed = _skip(skipped) if skip_malformed else files.refuse
    paths = files.find(input) if input else []
    if output:
        jsonl.check_writable(output)
        if Path(output).resolve() in [path.resolve() for path in paths]:
            raise UserError(f"predict: --output={output} would overwrite the file of --input")
    rows = list(files.rows(paths, malformed, text_lines=True)) if paths else []
    loaded = require_head(splits.load(checkpoint, overrides, splits.DECISIONS), checkpoint)
    if input:
        examples = _from_rows(loaded, rows, malformed)
        if skipped:
            lines = len(skipped) + len(examples)
            print(f"skipped {len(skipped):,} of {lines:,} lines", file=sys.stderr)
    else:
        examples = [_from_flags(loaded, fields)]
    if not examples:
        raise UserError(
            f"{input}: not one line of it can be used"
            if skipped
            else f"{input} is empty: there is not one example in it"
        )
    found = predictor.predict(loaded, examples, quiet=not input)
    if input or output:
        pairs = zip(examples, found, strict=True)
        made = ({"id": e["id"]} | p if input else p for e, p in pairs)
        if output:
            jsonl.write(output, made)
            print(f"{len(found):,} predictions written to {output}")
        else:
            for prediction in made:
                print(jsonl.line(prediction))
    else:
        print(predictor.show(loaded, examples[0], found[0]))
        for text in _details(found[0]):
            print(f"  {text}")
    return 0


def _skip(skipped: list[UserError]) -> Callable[[UserError], None]:
    """Tells of a malformed line and keeps what was wrong with it."""

    def skip(error: UserError) -> None:
        print(f"skipped: {error}", file=sys.stderr)
        skipped.append(error)

    return skip


def _from_flags(loaded: Loaded, fields: dict[str, str]) -> Example:
    form = predictor.fitting(loaded, fields)
    known = {*form.fields, *form.optional} if form else set()
    if not fields.keys() <= known or not known:
        usable = {n for form in predictor.forms(loaded) for n in (*form.fields, *form.optional)}
        wrong = [f"--{name}" for name in fields if name not in (known or usable)]
        what = "there is nothing to predict"
        if wrong:
            what = f"{', '.join(wrong)} cannot be used here"
        elif fields:
            what = f"{' '.join(f'--{name}' for name in fields)} alone is not enough"
        raise UserError(f"predict: {what}; {predictor.trained_for(loaded)} takes\n{_flags(loaded)}")
    split = {"tokens": fields["tokens"].split()} if "tokens" in fields else {}
    return {**fields, **split}


def _flags(loaded: Loaded) -> str:
    lines = []
    for form in predictor.forms(loaded):
        given = " ".join(
            [f'--{n}="…"' for n in form.fields] + [f'[--{n}="…"]' for n in form.optional]
        )
        lines.append(f"  {given}: {form.gives}")
    return "\n".join([*lines, "  --input=FILE.jsonl: the same, with these fields in each line"])


def _from_rows(
    loaded: Loaded, rows: list[files.Row], malformed: Callable[[UserError], None]
) -> list[Example]:
    examples = []
    for row in rows:
        try:
            example = _from_row(loaded, row)
            try:
                predictor.check(loaded, example)
            except UserError as error:  # which names the example, not its line
                raise UserError(f"{row.where}: {error}") from error
            examples.append(example)
        except UserError as error:
            malformed(error)
    return examples


def _from_row(loaded: Loaded, row: files.Row) -> Example:
    """The fields of the row that this checkpoint reads, and an id."""
    given = row.fields
    form = predictor.fitting(loaded, given)
    if form is None and loaded.config.data.train is not None:
        # A table like the one that it was trained on: its columns have the same names.
        names = dict(loaded.config.data.train.fields)
        given = given | {ours: given[theirs] for ours, theirs in names.items() if theirs in given}
        form = predictor.fitting(loaded, given)
    if form is None:
        raise UserError(f"{row.where}: {predictor.wrong_fields(loaded, row.fields)}")
    example = {n: given[n] for n in (*form.fields, *form.optional) if n in given}
    for name, value in example.items():
        right = _words(value) if name in LISTS else isinstance(value, str)
        if not right:
            wanted = LISTS.get(name, "text")
            raise UserError(f"{row.where}: {name!r} should be {wanted}, found {value!r:.60}")
        try:
            "".join(value).encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"{row.where}: {name!r} holds half a character (a lone surrogate)"
            ) from error
    return example | {"id": given.get("id", row.fallback_id)}


def _words(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(w, str) and w for w in value)


def _details(prediction: Prediction) -> list[str]:
    """The probabilities of all labels, or of the best answers, where there are any."""
    shares = prediction.get("probabilities", {})
    width = max(map(len, shares), default=0)
    labels = [f"{name:<{width}}  {share:6.1%}" for name, share in shares.items()]
    answers = prediction.get("answers", [])
    return labels + [f"{a['probability']:6.1%}  {a['text'] or 'no answer'}" for a in answers]
