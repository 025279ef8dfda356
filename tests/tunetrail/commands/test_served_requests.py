"""MLflow's server with a logged model: what fits its signature is answered, the rest is 400."""

import io
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.pyfunc import scoring_server
from starlette.testclient import TestClient
from toys import Store

from tunetrail.tracking.store import connect

JSON, CSV, PARQUET = "application/json", "text/csv", "application/x-parquet"
TEXTS = ["a good day", "l'été à 5 € 🙂", "5", "NA", '"quoted, with a comma"\nand a line']

Ask = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def loaded(store: Store) -> mlflow.pyfunc.PyFuncModel:
    connect(f"sqlite:///{store.folder}/mlruns/mlflow.db")
    return mlflow.pyfunc.load_model("models:/tiny@champion")


@pytest.fixture(scope="module")
def ask(loaded: mlflow.pyfunc.PyFuncModel) -> Iterator[Ask]:
    """The app that ``mlflow models serve`` runs, without the process around it."""
    with pytest.MonkeyPatch.context() as patch:
        # The app sets it, and nothing takes it back.
        patch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
        client = TestClient(scoring_server.init(loaded))

        def ask(body: object, content_type: str | None = JSON) -> tuple[int, Any]:
            sent = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers = {} if content_type is None else {"Content-Type": content_type}
            answer = client.post("/invocations", content=sent, headers=headers)
            return answer.status_code, answer.json()

        yield ask


def parquet(**columns: list[Any]) -> bytes:
    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer)
    return buffer.getvalue()


def test_the_signature_names_what_is_read(loaded: mlflow.pyfunc.PyFuncModel) -> None:
    assert loaded.metadata.signature.inputs.input_names() == ["text"]


def test_every_format_gives_the_same_answers(loaded: mlflow.pyfunc.PyFuncModel, ask: Ask) -> None:
    records = [{"text": text} for text in TEXTS]
    expected = loaded.predict(records).to_dict("records")
    table = pd.DataFrame(records)
    for body, content_type in (
        ({"inputs": TEXTS}, JSON),
        ({"instances": TEXTS}, JSON),
        ({"inputs": records}, JSON),
        ({"instances": records}, f"{JSON}; charset=utf-8"),
        ({"inputs": {"text": TEXTS}}, JSON),
        ({"dataframe_records": records}, JSON),
        ({"dataframe_split": table.to_dict("split")}, JSON),
        ({"dataframe_split": {"columns": ["text"], "data": [[text] for text in TEXTS]}}, JSON),
        (table.to_csv(index=False).encode(), CSV),
        (parquet(text=TEXTS), PARQUET),
    ):
        assert ask(body, content_type) == (200, {"predictions": expected}), body
    for body in ({"inputs": TEXTS[0]}, {"inputs": {"text": TEXTS[0]}}):
        assert ask(body) == (200, {"predictions": expected[:1]})
    for body in ({"inputs": []}, {"dataframe_split": {"columns": ["text"], "data": []}}):
        assert ask(body) == (200, {"predictions": []})


@pytest.mark.parametrize(
    ("body", "content_type", "found"),
    [
        # Columns that are not the model's, or not all of them.
        ({"dataframe_records": [{"id": "7", "text": "a day"}]}, JSON, "row 0 has 'id'"),
        ({"dataframe_split": {"columns": ["id", "text"], "data": [[7, "a"]]}}, JSON, "'id'"),
        ({"inputs": [{"text": "a", "text_pair": "b"}]}, JSON, "'text_pair'"),
        ({"inputs": {"id": [1], "text": ["a"]}}, JSON, "'id'"),
        ({"instances": [{"text": "a"}, {"txt": "a"}]}, JSON, "row 1 has no 'text' (found: txt)"),
        ({"dataframe_split": {"columns": ["text", "text"], "data": []}}, JSON, "same name"),
        (b"id,text\n1,a day\n", CSV, "'id'"),
        (b"words\na day\n", CSV, "no 'text' (found: words)"),
        (parquet(id=[1], text=["a"]), PARQUET, "'id'"),
        # Values that are no text.
        ({"inputs": ["a day", None]}, JSON, "row 1 has no answer: 'text' holds null"),
        ({"inputs": [5]}, JSON, "'text' holds 5"),
        ({"inputs": [1.5, "a"]}, JSON, "'text' holds 1.5"),
        ({"inputs": [True]}, JSON, "'text' holds true"),
        ({"inputs": [["a", "b"]]}, JSON, "'text' holds [\"a\", \"b\"]"),
        ({"inputs": [{"text": {"a": 1}}]}, JSON, "'text' holds {\"a\": 1}"),
        ({"inputs": None}, JSON, "'text' holds null"),
        ({"dataframe_split": {"columns": ["text"], "data": [[5], [6]]}}, JSON, "holds 5"),
        (parquet(text=[1, 2]), PARQUET, "holds 1"),
        (parquet(text=["a", None]), PARQUET, "row 1 has no answer: 'text' holds null"),
        (parquet(text=[None, 1.5]), PARQUET, "'text' holds null"),
        (parquet(text=[["a", "b"]]), PARQUET, "'text' holds [\"a\", \"b\"]"),
        (b'{"inputs": [NaN]}', JSON, "holds NaN"),
        # Texts without an answer.
        ({"inputs": ["a", ""]}, JSON, "row 1 has no answer: the text is empty"),
        ({"inputs": [" \n\t"]}, JSON, "the text is empty"),
        ({"inputs": ["\u200b\u200d\ufeff"]}, JSON, "the text is empty"),
        ({"inputs": ["\xad \u2060\u3164\ufe0f\0"]}, JSON, "the text is empty"),
        ("text\n\u200b\n".encode(), CSV, "row 0 has no answer: the text is empty"),
        ({"inputs": ["\ud83d"]}, JSON, "half a surrogate pair"),
        # Requests that are no table.
        ({"inputs": ["a"]}, None, "no Content-Type"),
        ({"inputs": ["a"]}, "", "Content-Type:  cannot be read"),
        ({"inputs": ["a"]}, "text/plain", "send one of application/json, text/csv"),
        ({"inputs": ["a"]}, f"{JSON}; charset=latin-1", "charset=latin-1"),
        (b"", JSON, "no JSON"),
        (b"{'inputs': ['a']}", JSON, "no JSON"),
        (b"[" * 100_000, JSON, "no JSON"),
        (b"\xff\xfe\xfa", JSON, "no JSON"),
        (["a"], JSON, "(found: list)"),
        ("a", JSON, "(found: str)"),
        ({}, JSON, "(found: nothing)"),
        ({"texts": ["a"]}, JSON, "(found: texts)"),
        ({"messages": [{"role": "user", "content": "a"}]}, JSON, "(found: messages)"),
        ({"inputs": ["a"], "instances": ["a"]}, JSON, "(found: inputs, instances)"),
        ({"inputs": ["a"], "params": {"top_k": 3}}, JSON, "(found: inputs, params)"),
        ({"dataframe_split": ["a"]}, JSON, "columns and data"),
        ({"dataframe_split": {"data": [["a"]]}}, JSON, "columns and data"),
        ({"dataframe_split": {"columns": "text", "data": [["a"]]}}, JSON, "must be lists"),
        ({"dataframe_split": {"columns": ["text"], "data": [["a", "b"]]}}, JSON, "row 0"),
        ({"dataframe_split": {"columns": ["text"], "data": ["a"]}}, JSON, "row 0"),
        ({"dataframe_records": ["a"]}, JSON, "row 0 of dataframe_records is no object"),
        ({"inputs": {"text": ["a"], "id": []}}, JSON, "the same length"),
        (b"", CSV, "no header"),
        (b'text\n"a day\n', CSV, "no CSV"),
        (b"text\na,b\n", CSV, "row 0"),
        (b"text\n\xff\n", CSV, "no CSV in UTF-8"),
        (b"PAR1", PARQUET, "no Parquet"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_sentence(
    ask: Ask, body: object, content_type: str | None, found: str
) -> None:
    status, answer = ask(body, content_type)
    assert status == 400
    assert "stack_trace" not in answer
    assert found in answer["message"]
    assert "\n" not in answer["message"]
    assert len(answer["message"]) < 300


@pytest.mark.parametrize(
    "text",
    ["bad sad " * 700_000, "good" * 1_300_000, " " * 5_000_000 + "good", "🙂" * 1_300_000],
    ids=["words", "a word", "spaces", "signs"],
)
def test_a_text_of_5_mb_is_answered_in_seconds(ask: Ask, text: str) -> None:
    started = time.monotonic()
    status, answer = ask({"inputs": [text]})
    assert status == 200
    assert time.monotonic() - started < 10
    # Its beginning decides: it is cut where training cut.
    if not text.startswith(" "):
        assert answer == ask({"inputs": [text[:4000]]})[1]


def test_other_models_in_the_same_process_are_answered_as_before(ask: Ask) -> None:
    class Other:
        def get_raw_model(self) -> Any:
            raise NotImplementedError

        def predict(self, table: pd.DataFrame) -> list[int]:
            return list(table["id"])

    answer = scoring_server.invocations(b"id,text\n7,a\n", CSV, Other(), None)
    assert json.loads(answer.response) == {"predictions": [7]}
