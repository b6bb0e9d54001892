"""`launch.py predict`."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from research.commands import standard_input
from research.data import files, formats, jsonl
from research.data.left_out import LeftOut
from research.data.row import Row
from research.errors import UserError
from research.evaluation import predictor, splits
from research.run.loaded import Loaded, require_head
from research.tasks.task import Example, Prediction


def run(
    checkpoint: str,
    overrides: dict[str, str],
    input: str = "",
    output: str = "",
    fields: Mapping[str, str] | None = None,
    skip_malformed: bool = False,
    format: str = "",
    **texts: str,
) -> int:
    """Predicts for one example given by flags, or for the examples of a file.

    Reads the whole file before the first prediction. A malformed line is an error, or with
    `skip_malformed` skipped and reported on stderr. Lines of standard input (`input` "-", or a
    terminal without other input) are answered as they come.

    Args:
        fields: our names -> the file's columns, if they differ from those of training.
        overrides: of the keys in `splits.DECISIONS`, which decide how outputs are read.
        format: of the file (see `formats`); if empty, detected from its ending and first row.
    """
    if input and texts:
        raise UserError(
            f"predict: give --input or --{next(iter(texts))}, not both: the file has the texts"
        )
    formats.check(format)
    for flag, value in (("fields", fields), ("format", format)):
        if value and not input:
            raise UserError(f"predict: --{flag} is for a file: give --input too")
    if skip_malformed and not input:
        raise UserError("predict: --skip_malformed is for the lines of a file: give --input too")
    skipped: list[UserError] = []
    typed = not input and not texts and sys.stdin.isatty()
    live = typed or input == standard_input.SIGN
    malformed = _skip(skipped) if skip_malformed or typed else files.refuse
    paths = files.find(input, format) if input and not live else []
    if live and output:
        raise UserError("predict: answers to standard input go to standard output: use > FILE")
    if live and format:
        raise UserError("predict: --format is for a file; standard input has texts or JSON objects")
    if output:
        jsonl.check_writable(output)
        if Path(output).resolve() in [path.resolve() for path in paths]:
            raise UserError(f"predict: --output={output} would overwrite the file of --input")
    texts = standard_input.texts(texts)
    loaded = require_head(splits.load(checkpoint, overrides, splits.DECISIONS), checkpoint)
    if live:
        return _answer(loaded, typed, fields or {}, malformed)
    rows: list[Row] = []
    if input:
        kind, left_out = predictor.kind_of(loaded), LeftOut()
        rows = list(files.rows(paths, malformed, format, document="line", kind=kind))
        examples = _from_rows(loaded, rows, fields or {}, malformed, left_out)
        if skipped:
            count = len(skipped) + len(examples) + left_out.counts.total()
            print(f"skipped {len(skipped):,} of {count:,} lines", file=sys.stderr)
        print("".join(f"{line}\n" for line in left_out.lines()), end="", file=sys.stderr)
    else:
        examples = [_from_flags(loaded, texts)]
    if not examples:
        raise UserError(
            f"{input}: none of its lines can be used"
            if rows or skipped
            else f"{input} is empty: it has no examples"
        )
    predictions = predictor.predict(loaded, examples, quiet=not input)
    if input or output:
        pairs = zip(examples, predictions, strict=True)
        lines = ({"id": e["id"]} | p if input else p for e, p in pairs)
        if output:
            jsonl.write(output, lines)
            print(f"{len(predictions):,} predictions written to {output}")
        else:
            for line in lines:
                print(jsonl.line(line))
    else:
        _print(loaded, examples[0], predictions[0])
    return 0


def _answer(
    loaded: Loaded,
    typed: bool,
    fields: Mapping[str, str],
    malformed: Callable[[UserError], None],
) -> int:
    """Predicts for each line of standard input as it comes; prints text for typed lines, JSON Lines
    for a pipe."""
    if typed:
        forms = " or ".join(" with ".join(form.fields) for form in predictor.forms(loaded))
        print(f"one example per line, {forms} (JSON); Ctrl-D ends", file=sys.stderr)
    for row in standard_input.rows(malformed):
        left_out = LeftOut()
        for example in _from_rows(loaded, [row], fields, malformed, left_out):
            prediction = predictor.predict(loaded, [example])[0]
            if typed:
                _print(loaded, example, prediction)
            else:
                print(jsonl.line({"id": example["id"]} | prediction), flush=True)
        print("".join(f"{line}\n" for line in left_out.lines()), end="", file=sys.stderr)
    return 0


def _print(loaded: Loaded, example: Example, prediction: Prediction) -> None:
    print(predictor.show(loaded, example, prediction))
    for text in _details(prediction):
        print(f"  {text}", flush=True)


def _skip(skipped: list[UserError]) -> Callable[[UserError], None]:
    """A handler of malformed lines: reports each error, and appends it to `skipped`."""

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
        if "messages" in form.fields:  # has no flag: only in files
            continue
        flags = [f'--{n}="…"' for n in form.fields] + [f'[--{n}="…"]' for n in form.optional]
        lines.append(f"  {' '.join(flags)}: {form.gives}")
    return "\n".join([*lines, "  --input=FILE: the same, with these fields in each row"])


def _from_rows(
    loaded: Loaded,
    rows: list[Row],
    fields: Mapping[str, str],
    malformed: Callable[[UserError], None],
    left_out: LeftOut,
) -> list[Example]:
    kind = predictor.kind_of(loaded)
    columns = predictor.columns(loaded, fields, kind)
    examples = []
    for row in rows:
        try:
            examples.append(left_out.read(row, lambda row: predictor.example(loaded, row, columns)))
        except UserError as error:
            malformed(error)
    return [example for example in examples if example is not None]


def _details(prediction: Prediction) -> list[str]:
    """Lines with the probabilities of all labels or of the best answers, if the task has them."""
    shares = prediction.get("probabilities", {})
    width = max(map(len, shares), default=0)
    labels = [f"{name:<{width}}  {share:6.1%}" for name, share in shares.items()]
    answers = prediction.get("answers", [])
    return labels + [f"{a['probability']:6.1%}  {a['text'] or 'no answer'}" for a in answers]
