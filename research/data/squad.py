"""SQuAD's nested form (Rajpurkar et al. 2016, 2018): articles with paragraphs with questions."""

from collections.abc import Iterator

from research.data.row import Row
from research.errors import UserError


def is_nested(fields: dict) -> bool:
    """Whether a row is an article, or a paragraph with its questions."""
    return isinstance(fields.get("paragraphs"), list) or (
        isinstance(fields.get("qas"), list) and "context" in fields
    )


def rows(articles: Iterator[Row]) -> Iterator[Row]:
    """A row a question: id, title, context, question, answers {text, answer_start}.

    A question that is_impossible has no answers, its plausible ones notwithstanding; without
    answers (of a hidden test set) it has no such field.
    """
    for article in articles:
        paragraphs = article.fields.get("paragraphs", [article.fields])
        title = article.fields.get("title", "")
        for place, paragraph in enumerate(_list(article.where, "paragraphs", paragraphs), 1):
            where = f"{article.where}, paragraph {place}"
            for number, qa in enumerate(_list(where, "qas", _get(where, paragraph, "qas")), 1):
                here = f"{where}, question {number}"
                fields = {
                    "id": qa.get("id", f"{article.fallback_id}.{place}.{number}"),
                    "title": title,
                    "context": _get(where, paragraph, "context"),
                    "question": _get(here, qa, "question"),
                }
                if qa.get("is_impossible"):
                    fields["answers"] = {"text": [], "answer_start": []}
                elif "answers" in qa:
                    answers = _list(here, "answers", qa["answers"])
                    fields["answers"] = {
                        name: [_get(f"{here}, answers", answer, name) for answer in answers]
                        for name in ("text", "answer_start")
                    }
                yield Row(here, str(fields["id"]), fields)


def _list(where: str, name: str, value: object) -> list[dict]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise UserError(f"{where}: {name!r} should be a list of objects, as in SQuAD's files")
    return value


def _get(where: str, fields: dict, name: str) -> object:
    if name not in fields:
        raise UserError(f"{where}: no field {name!r}; there are: {', '.join(fields)}")
    return fields[name]
