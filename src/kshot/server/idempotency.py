"""``Idempotency-Key``: a repeated request does its work once and gets the first answer again.

For requests that read their whole body. Selections are safe to repeat, and so are NDJSON uploads: storing
the same row again changes nothing.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable

from fastapi import Request, Response

from kshot.errors import InvalidInput
from kshot.server.bodies import JSON
from kshot.server.ports import IdempotencyKeys

HEADER = "Idempotency-Key"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


async def once(keys: IdempotencyKeys, request: Request, work: Callable[[], Awaitable[Response]]) -> Response:
    """Run ``work``, unless a request with the same key has done so already.

    Parameters
    ----------
    keys : IdempotencyKeys
        Where keys are kept.
    request : Request
        Its method, path and query are the scope of the key; its body must be the same every time.
    work : callable
        Answers with a JSON object. If it raises, the key may be used again.

    Raises
    ------
    InvalidInput
        The key is no 1 to 255 visible ASCII characters.
    IdempotencyConflict
        The key was used with another body, or its first request is still running.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return await work()
    if not _KEY.fullmatch(key):
        raise InvalidInput(f"{HEADER} must be 1 to 255 visible ASCII characters")
    scope = f"{request.method} {request.url.path}?{request.url.query}"
    body_hash = hashlib.blake2b(await request.body(), digest_size=16).hexdigest()
    stored = await asyncio.to_thread(keys.reserve_idempotency_key, scope, key, body_hash)
    if stored is not None:
        return Response(
            json.dumps(stored.response, ensure_ascii=False),
            status_code=stored.status_code,
            headers={"Idempotency-Replayed": "true"},
            media_type=JSON,
        )
    try:
        response = await work()
    except BaseException:
        await asyncio.to_thread(keys.release_idempotency_key, scope, key)
        raise
    answer = json.loads(bytes(response.body))
    await asyncio.to_thread(keys.complete_idempotency_key, scope, key, response.status_code, answer)
    return response
