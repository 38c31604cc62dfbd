"""LangChain's similarity and MMR over FAISS in process, as a peer for `benchmarks/select.py`.

Runs in an environment of its own. Reads {"texts", "vectors", "queries", "model", "k", "threads", "best_of"}
from standard input, where "vectors" names a file of NumPy's with the vectors of the texts, and prints
{"similarity": [ms ...], "mmr": [ms ...], "versions": {...}}.
"""

import json
import os
import sys
import time
from importlib.metadata import version

job = json.load(sys.stdin)
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from langchain_community.vectorstores import FAISS
from langchain_core.embeddings import Embeddings
from sentence_transformers import SentenceTransformer

torch.set_num_threads(job["threads"])


class MiniLm(Embeddings):
    """The same model that kshot uses, through sentence-transformers as LangChain's users run it."""

    def __init__(self) -> None:
        self._model = SentenceTransformer(job["model"], device="cpu")

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed in batches."""
        return self._model.encode(texts, batch_size=64, normalize_embeddings=True).tolist()

    def embed_query(self, text: str) -> list[float]:
        """Embed one."""
        return self._model.encode([text], normalize_embeddings=True)[0].tolist()


embeddings = MiniLm()
vectors = np.load(job["vectors"]).tolist()
store = FAISS.from_embeddings(list(zip(job["texts"], vectors, strict=True)), embeddings)


def timed(call) -> list[float]:
    """Time one call per query, in milliseconds, after 20 to warm up."""
    for query in job["queries"][:20]:
        call(query)
    took = []
    for query in job["queries"]:
        tries = []
        for _ in range(job["best_of"]):
            started = time.perf_counter()
            call(query)
            tries.append((time.perf_counter() - started) * 1000)
        took.append(min(tries))
    return took


k = job["k"]
json.dump(
    {
        "embed": timed(embeddings.embed_query),
        "similarity": timed(lambda query: store.similarity_search(query, k=k)),
        "mmr": timed(lambda query: store.max_marginal_relevance_search(query, k=k, fetch_k=16 * k)),
        "versions": {
            name: version(name) for name in ("langchain-core", "langchain-community", "faiss-cpu", "torch")
        },
    },
    sys.stdout,
)
