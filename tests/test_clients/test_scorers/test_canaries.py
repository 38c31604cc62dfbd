"""Each canary dies of what it is there for, and what is refused then."""

import httpx
import numpy as np
import pytest

from kshot.clients.scorers.base import Pair, Scored, ScoringMode
from kshot.clients.scorers.canaries import is_coarse
from kshot.errors import ScorerUnavailable
from kshot.testing import ToyCompletionServer, ToyTokenizer
from tests.test_clients.test_scorers.toy import IDS, exact_nats, scorer_of

PAIRS = [Pair(context=(19, 30, 41), completion=(50,)), Pair(context=(19, 30, 41), completion=(60,))]
ALL = tuple(ScoringMode)


async def examined(server, **settings):
    async with scorer_of(server, **settings) as scorer:
        return await scorer.capabilities()


def failed(capabilities):
    return [canary.name for canary in capabilities.canaries if not canary.passed]


@pytest.mark.parametrize(
    "settings", [{}, {"bos": False}, {"leading_space": True}, {"bos": False, "leading_space": True}]
)
async def test_a_sound_server_passes_all_eight(settings):
    capabilities = await examined(ToyCompletionServer(tokenizer=ToyTokenizer(**settings)))
    assert [canary.name for canary in capabilities.canaries] == [f"C{i}" for i in range(1, 9)]
    assert failed(capabilities) == []
    assert capabilities.modes == ALL
    assert capabilities.refusals == ()
    assert capabilities.tolerance_nats == 1e-4
    assert capabilities.max_model_tokens == 2048
    assert not capabilities.nondeterministic


@pytest.mark.parametrize(
    ("fault", "canary"),
    [
        ({"null_prompt_logprobs": True}, "C1"),
        ({"null_prompt_logprobs": True, "ignores_prompt_logprobs": True}, "C1"),
        ({"shifted_prompt_logprobs": True}, "C1"),
        ({"shifted_prompt_logprobs": True, "ignores_prompt_logprobs": True}, "C1"),
        ({"double_bos": True}, "C1"),
        ({"corrupt_prompt_logprobs": True}, "C3"),
        ({"inflated_nats": 0.9}, "C5"),
        ({"constant_nats": -5.0}, "C7"),
    ],
)
async def test_numbers_that_are_none_refuse_everything(fault, canary):
    server = ToyCompletionServer()
    for name, value in fault.items():
        setattr(server.faults, name, value)
    async with scorer_of(server) as scorer:
        capabilities = await scorer.capabilities()
        assert canary in failed(capabilities)
        assert capabilities.modes == ()
        assert any(reason.startswith(canary) for reason in capabilities.refusals)
        for call in (scorer.score_batch(PAIRS), scorer.label_logprobs(["a"], [30]), scorer.greedy(["a"], 3)):
            with pytest.raises(ScorerUnavailable, match=canary):
                await call


async def test_c1_alone_dies_of_an_impossible_token():
    server = ToyCompletionServer()
    ids = server.tokenizer.encode("The capital")
    server.restart(type(server.model)(impossible=[(ids[1], ids[2])]))
    capabilities = await examined(server)
    assert "C1" in failed(capabilities)


async def test_c2_dies_at_the_edge_of_a_block_and_refuses_echo_mode():
    server = ToyCompletionServer()
    server.faults.fails_at_block_edges = True
    async with scorer_of(server) as scorer:
        capabilities = await scorer.capabilities()
        assert failed(capabilities) == ["C2"]
        assert capabilities.modes == (ScoringMode.LABEL, ScoringMode.TRIE)
        (scored, _) = await scorer.score_batch(PAIRS)
        assert scored.sum_nats == pytest.approx(exact_nats(server, (19, 30, 41), (50,)), abs=1e-9)
        with pytest.raises(ScorerUnavailable, match="C2"):
            await scorer.score_batch(PAIRS, IDS[ScoringMode.ECHO])


async def test_c4_dies_of_masked_numbers_and_forbids_forced_tokens():
    server = ToyCompletionServer()
    server.faults.processed_logprobs = True
    capabilities = await examined(server)
    assert failed(capabilities) == ["C4"]
    # Where tokens can be asked for, nothing has to be forced.
    assert capabilities.modes == ALL
    server.faults.ignores_logprob_token_ids = True
    async with scorer_of(server) as scorer:
        capabilities = await scorer.capabilities()
        assert "C4" in failed(capabilities)
        assert capabilities.modes == (ScoringMode.ECHO,)
        assert any("C4" in reason for reason in capabilities.refusals)
        matrix = await scorer.label_logprobs([(19, 30)], [50])
        assert matrix[0, 0] == pytest.approx(exact_nats(server, (19, 30), (50,)), abs=1e-9)


async def test_c6_dies_of_noise_and_widens_the_tolerance():
    server = ToyCompletionServer()
    server.faults.noise_nats = 0.2
    capabilities = await examined(server)
    assert failed(capabilities) == ["C6"]
    assert capabilities.nondeterministic
    # Twice the largest difference, which is at most the noise.
    assert 0.3 < capabilities.tolerance_nats <= 0.4
    assert capabilities.modes == ALL


async def test_little_noise_is_measured_and_allowed():
    server = ToyCompletionServer()
    server.faults.noise_nats = 0.02
    capabilities = await examined(server)
    assert failed(capabilities) == []
    assert 0.015 < capabilities.tolerance_nats <= 0.02


@pytest.mark.parametrize(
    ("fault", "modes"),
    [
        ("ignores_logprob_token_ids", ALL),
        ("ignores_prompt_logprobs", ALL),
        ("ignores_token_id_names", (ScoringMode.ECHO,)),
    ],
)
async def test_c8_dies_of_what_is_lacking_and_says_it(fault, modes):
    server = ToyCompletionServer()
    setattr(server.faults, fault, True)
    capabilities = await examined(server)
    assert "C8" in failed(capabilities)
    assert "lacks" in capabilities.canaries[-1].detail
    if fault == "ignores_token_id_names":
        # Nothing can be checked token by token.
        assert capabilities.modes == ()
    else:
        assert capabilities.modes == modes


def test_scores_of_sixteen_bits_are_recognised():
    rng = np.random.default_rng(0)
    scores = 12 + 4 * rng.standard_normal(20)
    for kind, coarse in ((np.float16, True), (np.float32, False)):
        rounded = scores.astype(kind).astype(np.float32)
        nats = rounded - np.log(np.exp(rounded).sum() + 1e5)
        assert is_coarse([float(value) for value in nats]) is coarse


async def test_servers_that_list_few_logprobs_are_asked_for_few():
    server = ToyCompletionServer()
    server.faults.max_logprobs = 5
    capabilities = await examined(server)
    assert failed(capabilities) == []
    assert "21 logprobs: no" in capabilities.canaries[-1].detail


async def test_without_a_tokenizer_nothing_is_scored_unless_one_is_given():
    server = ToyCompletionServer()
    server.faults.no_tokenizer = True
    capabilities = await examined(server)
    assert (capabilities.modes, capabilities.refusals) == (
        (),
        ("it has no /tokenize, and no tokenizer was given (KSHOT_SCORER_TOKENIZER)",),
    )
    async with scorer_of(server, tokenizer=server.tokenizer) as scorer:
        (scored,) = await scorer.score_batch([Pair(context="Q", completion=" yes")])
    assert isinstance(scored, Scored)


async def test_the_fingerprint_changes_with_the_model_and_outlives_a_restart():
    server = ToyCompletionServer()
    first = await examined(server)
    server.restart()
    again = await examined(server)
    server.restart(type(server.model)(seed=1))
    other = await examined(server)
    assert first.fingerprint == again.fingerprint != other.fingerprint


async def test_canaries_sing_at_the_start_every_hour_and_after_a_lost_connection():
    server = ToyCompletionServer()
    now_s = [0.0]
    async with scorer_of(server, clock=lambda: now_s[0]) as scorer:

        async def asked():
            before = len(server.ledger.bodies)
            await scorer.capabilities()
            return len(server.ledger.bodies) - before

        assert await asked() > 20
        now_s[0] = 3599.0
        assert await asked() == 0
        now_s[0] = 3600.0
        assert await asked() > 20
        server.faults.down = True
        with pytest.raises(ScorerUnavailable):
            await scorer.greedy(["a"], 1)
        server.faults.down = False
        now_s[0] += 60.0
        assert await asked() > 20
        assert await asked() == 0


async def test_a_refused_server_is_asked_again_after_a_minute():
    server = ToyCompletionServer()
    server.faults.constant_nats = -5.0
    now_s = [0.0]
    async with scorer_of(server, clock=lambda: now_s[0]) as scorer:
        assert (await scorer.capabilities()).modes == ()
        server.faults.constant_nats = None
        assert (await scorer.capabilities()).modes == ()
        now_s[0] = 60.0
        assert (await scorer.capabilities()).modes == ALL


async def test_the_audit_sees_what_goes_wrong_later():
    server = ToyCompletionServer()
    async with scorer_of(server, audit_share=1.0) as scorer:
        await scorer.score_batch(PAIRS)
        server.faults.corrupt_prompt_logprobs = True
        for i in range(30):
            pairs = [Pair(context=(19 + i, 30, 41), completion=(50,))]
            await scorer.score_batch(pairs, IDS[ScoringMode.LABEL])
            while scorer._background:
                await next(iter(scorer._background))
            if scorer.audit.alarms:
                break
        assert scorer.audit.alarms == 1
        with pytest.raises(ScorerUnavailable, match="C3"):
            await scorer.score_batch(PAIRS)


async def test_prompts_and_keys_are_in_no_message():
    server = ToyCompletionServer()
    secret = "swordfish"
    async with scorer_of(server, api_key=secret) as scorer:
        assert secret not in repr(scorer)
        await scorer.capabilities()
        server.faults.poison_token = 50
        results = await scorer.score_batch([Pair(context=(19, 50), completion=(51,))])
        assert secret not in str(results)
    assert set(server.ledger.authorizations) == {f"Bearer {secret}"}


async def test_a_server_without_models_is_told_on():
    def handler(request):
        return httpx.Response(404 if request.url.path == "/v1/models" else 200, json={})

    async with scorer_of(ToyCompletionServer(), transport=httpx.MockTransport(handler)) as scorer:
        with pytest.raises(ScorerUnavailable, match="models"):
            await scorer.capabilities()
    async with scorer_of(ToyCompletionServer(), model="other") as scorer:
        with pytest.raises(ScorerUnavailable, match="it has: toy"):
            await scorer.capabilities()
