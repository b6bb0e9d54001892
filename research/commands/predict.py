"""`launch.py predict`."""

from research.data import files, jsonl
from research.errors import UserError
from research.evaluation import predictor
from research.tasks.protocol import Example, Prediction
from research.training.inference import Loaded, load_model, require_head


def run(checkpoint: str, input: str = "", output: str = "", **fields: str) -> int:
    """Predicts for one example given by flags, or for those of a file."""
    if input and fields:
        raise UserError(
            f"predict: give --input or --{next(iter(fields))}, not both: a file has its own texts"
        )
    rows = list(files.rows(files.find(input))) if input else []
    if output:
        jsonl.check_writable(output)
    loaded = require_head(load_model(checkpoint), checkpoint)
    examples = [_from_row(loaded, row) for row in rows] if input else [_from_flags(loaded, fields)]
    if not examples:
        raise UserError(f"{input} is empty: there is not one example in it")
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


def _from_flags(loaded: Loaded, fields: dict[str, str]) -> Example:
    form = predictor.fitting(loaded, fields)
    known = {*form.fields, *form.optional} if form else set()
    if not fields.keys() <= known or not known:
        wrong = [f"--{name}" for name in fields if name not in known]
        what = f"{', '.join(wrong)} cannot be used here" if wrong else "there is nothing to predict"
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


def _from_row(loaded: Loaded, row: files.Row) -> Example:
    """The fields of the row that this checkpoint reads, and an id."""
    form = predictor.fitting(loaded, row.fields)
    if form is None:
        raise UserError(f"{row.where}: {predictor.wrong_fields(loaded, row.fields)}")
    example = {n: row.fields[n] for n in (*form.fields, *form.optional) if n in row.fields}
    for name, value in example.items():
        right = _words(value) if name == "tokens" else isinstance(value, str)
        if not right:
            wanted = "a list of words" if name == "tokens" else "text"
            raise UserError(f"{row.where}: {name!r} should be {wanted}, found {value!r:.60}")
    return example | {"id": row.fields.get("id", row.fallback_id)}


def _words(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(w, str) and w for w in value)


def _details(prediction: Prediction) -> list[str]:
    """The probabilities of all labels, where there are any."""
    shares = prediction.get("probabilities", {})
    width = max(map(len, shares), default=0)
    return [f"{name:<{width}}  {share:6.1%}" for name, share in shares.items()]
