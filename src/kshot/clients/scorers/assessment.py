"""What is known of a back end after asking it: its tokenizer, its model, what it may be used for and why."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kshot.clients.scorers import wire
from kshot.clients.scorers.backend import Backend
from kshot.clients.scorers.base import Canary, Capabilities, NotScored, ScoringMode, Text, Tokens
from kshot.clients.scorers.boundary import split
from kshot.clients.scorers.cache_blocks import DEFAULT_BLOCK_TOKENS
from kshot.clients.scorers.canaries import Canaries, Findings, Material
from kshot.clients.scorers.probing import ServedModel, probe_dialect, served_model
from kshot.clients.scorers.server_tokenizer import ServerTokenizer
from kshot.clients.scorers.special_tokens import SpecialTokens, learn_special_tokens
from kshot.clients.scorers.tokenization import Flow, encodings, run_flow
from kshot.errors import InvalidParameter

_LEAST_TOLERANCE_NATS = 1e-4
_HALF_PRECISION_NATS = 0.05
_IDS = 64
_DISTINCT = 5
_TEXT = (
    "The capital of France is Paris, and the capital of Italy is Rome. Seven days make a week, twelve months "
    "make a year. She opened the window because it was warm outside, and the birds sang in the trees. "
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sanity:
    """A context with a good and a bad completion; any sane model tells them apart by more than 2 nats."""

    context: Text = "The capital of France is"
    likely: Text = " Paris"
    unlikely: Text = " banana"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What a server may be asked, and how.

    Attributes
    ----------
    capabilities : Capabilities
    dialect : wire.Dialect
        Without the forms that failed their canary.
    special : SpecialTokens
    block_tokens : int or None
        Of the prefix cache; None if there is none.
    """

    capabilities: Capabilities
    dialect: wire.Dialect
    special: SpecialTokens
    block_tokens: int | None = DEFAULT_BLOCK_TOKENS


async def assess(
    backend: Backend,
    *,
    tokenizer: ServerTokenizer,
    model: str | None,
    end: str | None,
    sanity: Sanity,
    tolerance_nats: float,
    max_model_tokens: int | None,
) -> Assessment:
    """Ask a server everything that has to be known before a score of it counts.

    Raises
    ------
    NotAnswered, ScorerUnavailable
        The server does not answer, or has no such model.
    """
    served = await served_model(backend, model)
    served = replace(served, max_model_tokens=max_model_tokens or served.max_model_tokens)
    if not await tokenizer.is_there():
        return _refused(served, "it has no /tokenize, and no tokenizer was given (KSHOT_SCORER_TOKENIZER)")
    if served.max_model_tokens is None:
        return _refused(served, "it does not say how long its context is; give max_model_tokens")
    special = await run_flow(learn_special_tokens(end), tokenizer.answer)
    material = await run_flow(_material(special, sanity), tokenizer.answer)
    distinct = tuple(dict.fromkeys(material.ids))[:_DISTINCT]
    if len(distinct) < _DISTINCT or len(material.ids) < _IDS:
        return _refused(served, "its tokenizer does not tell ordinary words apart")
    dialect, features = await probe_dialect(backend, served.name, distinct)
    findings = await Canaries(backend, served.name, dialect, material, tolerance_nats).run()
    concluded = conclude(served, special, dialect, findings, features)
    return replace(concluded, block_tokens=await backend.cache_block_tokens())


def conclude(
    served: ServedModel, special: SpecialTokens, dialect: wire.Dialect, findings: Findings, features: Canary
) -> Assessment:
    """Decide what may be asked after what the canaries found.

    A failed C1, C3, C5 or C7 refuses everything: the numbers are no log-probabilities. A failed C2 refuses
    echo mode, a failed C4 the forced form, a failed C6 widens the tolerance, and C8 leaves out the modes
    whose forms are not understood.
    """
    canaries = (*findings.canaries, features)
    fatal = [canary for canary in canaries if canary.name in {"C1", "C3", "C5", "C7"} and not canary.passed]
    refusals = [f"{canary.name}: {canary.detail}" for canary in fatal]
    detail_of = {canary.name: canary.detail for canary in canaries}
    dialect = replace(dialect, forced_form=dialect.forced_form and findings.passed("C4"))
    modes: list[ScoringMode] = []
    if not fatal:
        if findings.passed("C2"):
            modes.append(ScoringMode.ECHO)
        else:
            refusals.append(f"echo mode: C2: {detail_of['C2']}")
        if dialect.id_names and (dialect.label_form or dialect.forced_form):
            modes += [ScoringMode.LABEL, ScoringMode.TRIE]
        else:
            name = "C8" if findings.passed("C4") else "C4"
            refusals.append(f"label and trie mode: {name}: {detail_of[name]}")
    least = _HALF_PRECISION_NATS if findings.half_precision else _LEAST_TOLERANCE_NATS
    tolerance = max(findings.spread_nats, least)
    assert served.max_model_tokens is not None
    capabilities = Capabilities(
        backend=served.kind,
        model=served.name,
        fingerprint=_fingerprint(served, findings.signature),
        max_model_tokens=served.max_model_tokens,
        modes=tuple(modes),
        tolerance_nats=2 * tolerance if findings.nondeterministic else tolerance,
        refusals=tuple(refusals),
        canaries=canaries,
        nondeterministic=findings.nondeterministic,
    )
    return Assessment(capabilities=capabilities, dialect=dialect, special=special)


def _refused(served: ServedModel, why: str) -> Assessment:
    capabilities = Capabilities(
        backend=served.kind,
        model=served.name,
        fingerprint=_fingerprint(served, ()),
        max_model_tokens=served.max_model_tokens or 0,
        modes=(),
        tolerance_nats=0.0,
        refusals=(why,),
    )
    return Assessment(capabilities=capabilities, dialect=wire.Dialect(), special=SpecialTokens())


def _material(special: SpecialTokens, sanity: Sanity) -> Flow[Material]:
    (ids,) = yield from encodings([_TEXT])
    completions = (sanity.likely, sanity.unlikely)
    likely, unlikely = yield from split(sanity.context, completions, special=special)
    if isinstance(likely, NotScored) or isinstance(unlikely, NotScored):
        raise InvalidParameter("sanity is not a context with two completions that can be scored")
    return Material(
        ids=special.begin(_long_enough(ids)),
        context=likely.context,
        likely=likely.completion,
        unlikely=unlikely.completion,
    )


def _long_enough(ids: Tokens) -> Tokens:
    return ids * (1 + _IDS // len(ids)) if 0 < len(ids) < _IDS else ids


def _fingerprint(served: ServedModel, signature: Sequence[float]) -> str:
    """Name what scores depend on: the model as served, and what it says of two sentences.

    To a tenth of a nat, so that it outlives a restart, but another model or number format under the same name
    does not pass.
    """
    parts = [served.name, served.root, *(f"{nats:.1f}" for nats in signature)]
    return f"vllm:{served.name}:{hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()}"
