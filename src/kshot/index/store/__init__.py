"""The store: the one truth from which everything else can be recomputed, and the only package with SQL."""

from kshot.index.store.example_rows import ExampleHeader, Outcome, PoolChanges, UpsertResult
from kshot.index.store.example_writes import KeepsFeatures
from kshot.index.store.idempotency import StoredResponse
from kshot.index.store.jobs import JobChanges
from kshot.index.store.store import Store

__all__ = [
    "ExampleHeader",
    "JobChanges",
    "KeepsFeatures",
    "Outcome",
    "PoolChanges",
    "Store",
    "StoredResponse",
    "UpsertResult",
]
