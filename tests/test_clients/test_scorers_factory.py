"""From an operator's settings to a scorer."""

import pytest

from kshot.clients.scorers.factory import build_scorer
from kshot.clients.scorers.vllm_http import VllmHttpScorer
from kshot.errors import InvalidParameter


def test_no_scorer_is_an_answer():
    assert build_scorer("none", "http://127.0.0.1:1/v1", "m", "k") is None


async def test_a_scorer_over_a_server_is_built_without_asking_it():
    made = build_scorer("vllm", "http://127.0.0.1:1/v1", None, "the-key")
    assert isinstance(made, VllmHttpScorer)
    assert "the-key" not in repr(made)
    await made.close()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("vllm", "needs the URL"),
        ("vllm_offline", "kind vllm_offline needs a model"),
        ("transformers", "kind transformers needs a model"),
        ("gguf", "allowed: none, vllm, vllm_offline"),
    ],
)
def test_what_is_missing_is_named(kind, said):
    with pytest.raises(InvalidParameter, match=said):
        build_scorer(kind)


@pytest.mark.parametrize("kind", ["vllm_offline", "transformers"])
@pytest.mark.parametrize("model", ["./absent", "/absent", "~/absent"])
def test_a_folder_that_is_not_there_is_not_taken_for_a_name(kind, model):
    with pytest.raises(InvalidParameter, match=f"model '{model}' is no folder"):
        build_scorer(kind, model=model)
