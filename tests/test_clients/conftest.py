"""Fixtures that several files of this area share."""

import pytest

from kshot.clients.embedders.minilm import open_minilm


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def minilm(model_cache):
    """The real default embedder, exported afresh once per run; for tests marked `component`."""
    embedder = open_minilm(cache=model_cache)
    assert embedder.runtime == "onnx"
    yield embedder
    embedder.close()
