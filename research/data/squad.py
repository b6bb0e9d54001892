"""Reads SQuAD's nested form (Rajpurkar et al. 2016, 2018): articles, paragraphs, questions."""

from collections.abc import Iterator

from research.data.row import Row


def is_nested(fields: dict) -> bool:
    """Returns whether a row is an article, or a paragraph with its questions."""
    return isinstance(fields.get("paragraphs"), list) or (
        isinstance(fields.get("qas"), list) and "context" in fields
    )


def paragraphs(article: Row) -> Iterator[Row]:
    """Yields a row for each paragraph of an article."""
    title = article.fields.get("title", "")
    listed = _list(article, "paragraphs", article.fields.get("paragraphs", [article.fields]))
    for place, paragraph in enumerate(listed, 1):
        where = f"{article.where}, paragraph {place}"
        yield Row(where, f"{article.fallback_id}.{place}", {"title": title} | _object(paragraph))


def questions(paragraph: Row) -> Iterator[Row]:
    """Yields a row for each question of a paragraph, with the paragraph's context and title."""
    for number, qa in enumerate(_list(paragraph, "qas", paragraph.get("qas")), 1):
        context = {"title": paragraph.fields["title"], "context": paragraph.get("context")}
        place, where = f"{paragraph.fallback_id}.{number}", f"{paragraph.where}, question {number}"
        yield Row(where, place, {"id": place} | _object(qa) | context)


def examples(question: Row) -> Iterator[Row]:
    """Yields the question with id, title, context, question, answers {text, answer_start}.

    If it is_impossible, its answers are empty, despite plausible ones; without answers (a hidden
    test set) it has no such field.
    """
    fields = {name: question.get(name) for name in ("id", "title", "context", "question")}
    if question.fields.get("is_impossible"):
        fields["answers"] = {"text": [], "answer_start": []}
    elif "answers" in question.fields:
        where = f"{question.where}, answers"
        listed = _list(question, "answers", question.fields["answers"])
        answers = [Row(where, "", _object(answer)) for answer in listed]
        fields["answers"] = {
            name: [answer.get(name) for answer in answers] for name in ("text", "answer_start")
        }
    yield Row(question.where, str(fields["id"]), fields)


def _object(value: object) -> dict:
    """Treats a value that is not an object as one without fields; only its row fails then."""
    return value if isinstance(value, dict) else {}


def _list(row: Row, name: str, value: object) -> list:
    if not isinstance(value, list):
        raise row.error(f"{name!r} should be a list of objects, as in SQuAD's files")
    return value
