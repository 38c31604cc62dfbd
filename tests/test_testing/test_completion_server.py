"""The toy server says what vLLM would, and counts what vLLM would compute."""

import math

import httpx
import numpy as np
import pytest

from kshot.testing import BigramModel, PrefixCache, ToyCompletionServer, ToyTokenizer
from kshot.testing.toy_tokenizer import PIECES

PROMPT = [19, 30, 41, 52, 63]


@pytest.fixture
def server():
    return ToyCompletionServer()


async def complete(server, **body):
    async with httpx.AsyncClient(transport=server.transport(), base_url="http://toy") as client:
        return await client.post("/v1/completions", json={"prompt": [PROMPT], "temperature": 0, **body})


async def choice(server, **body):
    response = await complete(server, **body)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]


@pytest.mark.parametrize("prompt", [(0,), (19, 100), (7, 7, 7)])
def test_the_model_is_a_distribution(prompt):
    assert np.exp(BigramModel().log_probs(prompt)).sum() == pytest.approx(1, abs=1e-12)
    possible = BigramModel(impossible=[(prompt[-1], 5)]).log_probs(prompt)
    assert possible[5] == -math.inf
    assert np.exp(possible).sum() == pytest.approx(1, abs=1e-12)


def test_the_vocabulary_has_200_tokens_that_merge_over_borders():
    tokenizer = ToyTokenizer(bos=False)
    assert len(set(PIECES)) == 200
    assert [tokenizer.encode(text) for text in ("Ans", "wer", "Answer")] == [
        (PIECES.index("Ans"),),
        (PIECES.index("wer"),),
        (PIECES.index("Answer"),),
    ]


@pytest.mark.parametrize("settings", [{}, {"bos": False}, {"leading_space": True}])
@pytest.mark.parametrize("text", ["", "Q: yes\n\nA: no", "naïve 日本 ☃", " two  spaces ", "a<s>b</s>"])
def test_decoding_gives_the_text_back(settings, text):
    tokenizer = ToyTokenizer(**settings)
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text


def test_half_a_character_decodes_to_a_replacement():
    ids = ToyTokenizer(bos=False).encode("é")
    assert len(ids) == 4
    assert ToyTokenizer().decode(ids[:3]) == "\ufffd\ufffd"


async def test_prompt_logprobs_begin_with_null_and_hold_the_token_sent(server):
    entries = (await choice(server, max_tokens=1, prompt_logprobs=0))["prompt_logprobs"]
    assert entries[0] is None
    assert [list(entry) for entry in entries[1:]] == [[str(token)] for token in PROMPT[1:]]
    nats = server.model.token_nats(PROMPT[:1], PROMPT[1:])
    assert [
        entry[str(token)]["logprob"] for token, entry in zip(PROMPT[1:], entries[1:], strict=True)
    ] == nats


async def test_all_prompt_logprobs_are_refused_unless_allowed(server):
    assert (await complete(server, max_tokens=1, prompt_logprobs=-1)).status_code == 400
    server.faults.max_logprobs = 200
    entries = (await choice(server, max_tokens=1, prompt_logprobs=-1))["prompt_logprobs"]
    assert [len(entry) for entry in entries[1:]] == [200] * 4
    ranks = sorted(said["rank"] for said in entries[1].values())
    assert ranks == list(range(1, 201))


async def test_echo_ends_with_the_generated_token_unless_none_was_wanted(server):
    one = (await choice(server, max_tokens=1, echo=True, logprobs=1))["logprobs"]
    none = (await choice(server, max_tokens=0, echo=True, logprobs=1))["logprobs"]
    assert [len(one["token_logprobs"]), len(none["token_logprobs"])] == [6, 5]
    assert one["token_logprobs"][:5] == none["token_logprobs"]
    assert (await complete(server, max_tokens=0, logprobs=1)).status_code == 400


async def test_labels_come_beside_the_generated_token(server):
    body = {"max_tokens": 1, "logprobs": 1, "return_tokens_as_token_ids": True, "logprob_token_ids": [20, 21]}
    told = (await choice(server, **body))["logprobs"]
    row = server.model.log_probs(PROMPT)
    best = int(row.argmax())
    assert told["tokens"] == [f"token_id:{best}"]
    assert told["top_logprobs"][0] == {f"token_id:{i}": row[i] for i in (best, 20, 21)}
    assert (await complete(server, max_tokens=1, logprob_token_ids=[20])).status_code == 400


async def test_a_forced_token_keeps_its_raw_logprob_unless_processed(server):
    body = {"max_tokens": 1, "logprobs": 0, "allowed_token_ids": [20]}
    raw = (await choice(server, **body))["logprobs"]["token_logprobs"]
    server.faults.processed_logprobs = True
    processed = (await choice(server, **body))["logprobs"]["token_logprobs"]
    assert raw == [server.model.log_probs(PROMPT)[20]]
    assert processed == [0.0]


async def test_sixteen_tokens_are_generated_unless_told_otherwise(server):
    told = (await choice(server, logprobs=0))["logprobs"]
    ids = list(PROMPT)
    for _ in range(16):
        ids.append(int(server.model.log_probs(ids).argmax()))
    assert told["tokens"] == [PIECES[token] for token in ids[5:]]


def test_the_cache_keeps_whole_blocks_and_computes_one_token_at_least():
    cache = PrefixCache()
    prompt = tuple(range(32))
    assert cache.cached_tokens(prompt) == 0
    cache.store(prompt)
    # 32 tokens are two blocks, but the second one holds the last token.
    assert cache.cached_tokens(prompt) == 16
    assert cache.cached_tokens((*prompt, 1)) == 32
    assert cache.cached_tokens((*prompt[:31], 99, 1)) == 16
    assert cache.cached_tokens((99, *prompt)) == 0


async def test_reading_a_prompt_fills_the_cache_but_does_not_read_it(server):
    prompt = [list(range(19, 59))]
    for body in ({"prompt_logprobs": 0}, {"prompt_logprobs": 0}, {"logprobs": 0}):
        await complete(server, prompt=prompt, max_tokens=1, **body)
    assert server.ledger.prompts == [(40, 0), (40, 0), (40, 32)]
    assert server.ledger.prefilled_tokens == 88


async def test_prompts_of_one_request_share_nothing(server):
    prompt = list(range(19, 59))
    await complete(server, prompt=[prompt, prompt], max_tokens=1)
    assert server.ledger.prompts == [(40, 0), (40, 0)]


async def test_too_long_prompts_and_unknown_ids_are_refused():
    server = ToyCompletionServer(max_model_tokens=6)
    assert (await complete(server, max_tokens=1)).status_code == 200
    assert (await complete(server, max_tokens=2)).status_code == 400
    assert (await complete(server, prompt=[[200]], max_tokens=1)).status_code == 400


def test_it_answers_on_a_port(server):
    with server.running() as url:
        assert httpx.get(f"{url}/health").status_code == 200
        card = httpx.get(f"{url}/v1/models").json()["data"][0]
        assert (card["id"], card["max_model_len"]) == ("toy", 2048)
        tokens = httpx.post(f"{url}/tokenize", json={"prompt": "Answer"}).json()
        assert tokens["tokens"] == [0, PIECES.index("Answer")]
        told = httpx.post(f"{url}/detokenize", json={"tokens": tokens["tokens"]}).json()
        assert told == {"prompt": "<s>Answer"}
