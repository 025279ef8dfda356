"""SQuAD's nested files: articles with paragraphs, and questions about each."""

from collections.abc import Iterator, Mapping
from typing import Any


def is_squad(values: list[Any]) -> bool:
    """Whether a list of objects are SQuAD's articles."""
    return bool(values) and all(
        isinstance(value, Mapping) and isinstance(value.get("paragraphs"), list) for value in values
    )


def flatten(articles: list[Any]) -> Iterator[Any]:
    """Give an object for each question: id, title, question, context and answers.

    What has another form is given as it is, and is refused as a row.
    """
    for article in articles:
        for paragraph in article["paragraphs"]:
            questions = paragraph.get("qas") if isinstance(paragraph, Mapping) else None
            if not isinstance(questions, list):
                yield paragraph
                continue
            for asked in questions:
                yield _flatten(article, paragraph, asked) if isinstance(asked, Mapping) else asked


def _flatten(
    article: Mapping[str, Any], paragraph: Mapping[str, Any], asked: Mapping[str, Any]
) -> dict[str, Any]:
    # Files to be answered have none. Those of questions that have no answer are an empty list.
    answers = asked.get("answers")
    if isinstance(answers, list) and all(isinstance(answer, Mapping) for answer in answers):
        keys = ("text", "answer_start")
        answers = {key: [answer.get(key) for answer in answers] for key in keys}
    return {
        "id": asked.get("id"),
        "title": article.get("title"),
        "question": asked.get("question"),
        "context": paragraph.get("context"),
        "answers": answers,
    }
