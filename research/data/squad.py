"""SQuAD's nested form (Rajpurkar et al. 2016, 2018): articles with paragraphs with questions."""

from collections.abc import Iterator

from research.data.row import Row
from research.errors import UserError


def is_nested(fields: dict) -> bool:
    """Whether a row is an article, or a paragraph with its questions."""
    return isinstance(fields.get("paragraphs"), list) or (
        isinstance(fields.get("qas"), list) and "context" in fields
    )


def paragraphs(articles: Iterator[Row]) -> Iterator[Row]:
    """A row for each paragraph of an article."""
    for article in articles:
        title = article.fields.get("title", "")
        found = article.fields.get("paragraphs", [article.fields])
        for place, paragraph in enumerate(_list(article.where, "paragraphs", found), 1):
            where = f"{article.where}, paragraph {place}"
            yield Row(
                where, f"{article.fallback_id}.{place}", {"title": title} | _object(paragraph)
            )


def questions(paragraphs: Iterator[Row]) -> Iterator[Row]:
    """A row for each question of a paragraph, with the paragraph's context and title."""
    for paragraph in paragraphs:
        fields = paragraph.fields
        qas = _list(paragraph.where, "qas", _get(paragraph.where, fields, "qas"))
        for number, qa in enumerate(qas, 1):
            context = {
                "title": fields["title"],
                "context": _get(paragraph.where, fields, "context"),
            }
            place = f"{paragraph.fallback_id}.{number}"
            where = f"{paragraph.where}, question {number}"
            yield Row(where, place, {"id": place} | _object(qa) | context)


def examples(questions: Iterator[Row]) -> Iterator[Row]:
    """A row a question: id, title, context, question, answers {text, answer_start}.

    A question that is_impossible has no answers, its plausible ones notwithstanding; without
    answers (of a hidden test set) it has no such field.
    """
    for row in questions:
        qa = row.fields
        fields = {
            name: _get(row.where, qa, name) for name in ("id", "title", "context", "question")
        }
        if qa.get("is_impossible"):
            fields["answers"] = {"text": [], "answer_start": []}
        elif "answers" in qa:
            answers = _list(row.where, "answers", qa["answers"])
            fields["answers"] = {
                name: [_get(f"{row.where}, answers", _object(a), name) for a in answers]
                for name in ("text", "answer_start")
            }
        yield Row(row.where, str(fields["id"]), fields)


def _object(value: object) -> dict:
    """What is not an object has no field, which is said of it alone."""
    return value if isinstance(value, dict) else {}


def _list(where: str, name: str, value: object) -> list:
    if not isinstance(value, list):
        raise UserError(f"{where}: {name!r} should be a list of objects, as in SQuAD's files")
    return value


def _get(where: str, fields: dict, name: str) -> object:
    if name not in fields:
        raise UserError(f"{where}: no field {name!r}; there are: {', '.join(fields)}")
    return fields[name]
