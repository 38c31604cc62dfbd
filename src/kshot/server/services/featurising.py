"""From stored examples to the features that the index keeps."""

from collections.abc import Iterator, Sequence

import numpy as np

from kshot.errors import InvalidInput
from kshot.index.segments import Features
from kshot.records import Example
from kshot.server.logs import get_logger
from kshot.server.services.runtime import PoolRuntime

log = get_logger(__name__)


def features_of(runtime: PoolRuntime, examples: Sequence[Example]) -> Iterator[Features]:
    """Encode examples, in as few pieces as possible and in their order.

    An example that the embed template or the embedder refuses is left out, and stays unselectable.

    Raises
    ------
    KshotError
        The embedder as a whole does not work; worth a retry.
    """
    if not examples:
        return
    try:
        yield _encoded(runtime, examples)
    except InvalidInput as error:
        if len(examples) == 1:
            log.warning("example_refused", pool=runtime.record.name, example=examples[0].id, code=error.code)
            return
        # Find the refused ones by halves.
        middle = len(examples) // 2
        yield from features_of(runtime, examples[:middle])
        yield from features_of(runtime, examples[middle:])


def _encoded(runtime: PoolRuntime, examples: Sequence[Example]) -> Features:
    keys = np.array([example.feature_seq for example in examples], np.int64)
    if runtime.settings.embedder.type == "external":
        vectors = [np.frombuffer(example.vector or b"", "<f4") for example in examples]
        if any(len(vector) != runtime.settings.embedder.dimension for vector in vectors):
            raise InvalidInput("an example has no vector of the pool's dimension")
        return Features(keys, np.stack(vectors).astype(np.float32), np.zeros(len(keys), np.bool_))
    texts = [runtime.templates.embed_text(example.inputs) for example in examples]
    encoded = runtime.embedder.encode(texts, token_layer=runtime.token_layer)
    if encoded.tokens is None:
        return Features(keys, encoded.vectors, encoded.truncated)
    return Features(
        keys,
        encoded.vectors,
        encoded.truncated,
        encoded.tokens.astype(np.float16),
        encoded.offsets,
        encoded.token_ids,
    )
