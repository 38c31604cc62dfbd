"""Model files: where a model lies, what it is (checksums), and the cache of what was exported from it."""

import hashlib
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kshot.errors import InvalidParameter, MissingDependency

GRAPH = "model.onnx"
TOKENIZER = "tokenizer.json"
EXPORT_FORMAT = 1
"""Part of the cache's key: raise it whenever an older export must not be used any more."""
_FACTS = "export.json"
_TEMPORARY = "tmp-"
_ABANDONED_AFTER_S = 24 * 3600
_MODEL_SUFFIXES = frozenset({".safetensors", ".bin", ".json", ".txt", ".model"})
_OTHER_ENGINES = ("onnx/*", "openvino/*", "*.onnx", "*.h5", "*.msgpack", "*.ot")
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What an embedder has to know about a model.

    Attributes
    ----------
    dimension, token_dimension : int
        Lengths of sentence and of token vectors.
    layers : int
        Number of encoder layers; layer 0 is the embedding layer.
    max_tokens : int
        Tokens of a window, markers included.
    pad_id : int
        Vocabulary id of padding; some models derive positions from it.
    """

    dimension: int
    token_dimension: int
    layers: int
    max_tokens: int
    pad_id: int


@dataclass(frozen=True, slots=True)
class Export:
    """A complete entry of the cache."""

    folder: Path
    facts: ModelFacts


def cache_folder() -> Path:
    """Return ``KSHOT_CACHE``, or ``kshot`` in the platform's folder for a user's caches."""
    chosen = os.environ.get("KSHOT_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "kshot" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "kshot"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kshot"


def find_model(model: str) -> Path:
    """Return the folder of a model given by folder or by its name on the Hugging Face hub.

    A name is looked up in the local hub cache and downloaded if need be; ``HF_HUB_OFFLINE=1`` forbids that.

    Raises
    ------
    InvalidParameter
        There is no such folder and no such model.
    MissingDependency
        A name is given and huggingface_hub is not installed.
    """
    folder = Path(model)
    with suppress(OSError):  # such as a name that is too long for a file
        if folder.is_dir():
            return folder
    if not _HUB_NAME.fullmatch(model):
        raise InvalidParameter(
            f"model {model!r} is neither an existing folder nor a name such as 'owner/model'"
        )
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415  slow to import, rarely needed
    except ImportError as error:
        raise MissingDependency.of("huggingface_hub", extra="embedded", purpose=f"model {model!r}") from error
    name = model if "/" in model else f"sentence-transformers/{model}"
    try:
        return Path(snapshot_download(name, ignore_patterns=list(_OTHER_ENGINES)))
    except (OSError, ValueError) as error:
        raise InvalidParameter(
            f"model {model!r} is neither an existing folder nor a model that the Hugging Face hub "
            f"or its local cache gives: {type(error).__name__}"
        ) from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; about 1 GB/s."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_digest(folder: Path) -> str:
    """Return a SHA-256 over the files that decide what a model computes: weights, settings, vocabulary.

    Raises
    ------
    InvalidParameter
        The folder holds no such file.
    """
    files = [path for path in folder.rglob("*") if path.suffix in _MODEL_SUFFIXES and path.is_file()]
    if not files:
        raise InvalidParameter(f"{folder} holds no model")
    names = sorted((path.relative_to(folder).as_posix(), path) for path in files)
    if any(name.endswith(".safetensors") for name, _ in names):
        names = [(name, path) for name, path in names if not name.endswith(".bin")]
    total = hashlib.sha256()
    for name, path in names:
        total.update(f"{name} {sha256_of(path)}\n".encode())
    return total.hexdigest()


def find_or_export(digest: str, export: Callable[[Path], None], *, cache: Path | None = None) -> Export:
    """Return the cache's entry for a model, exporting it first if there is none.

    Parameters
    ----------
    digest : str
        From `model_digest`.
    export : callable
        Fills an empty folder by way of `write_export`.
    cache : Path or None
        Root of the cache; None for `cache_folder`.

    Notes
    -----
    An entry appears under its name only when it is complete, so processes may race: the first one to finish
    provides the entry, the others throw theirs away. An entry that fails its checksums is replaced.
    """
    root = (cache or cache_folder()) / "embedders"
    entry = root / f"{digest[:32]}-v{EXPORT_FORMAT}"
    present = _read_export(entry)
    if present is not None:
        return present
    root.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    _set_aside(entry)
    work = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=root))
    try:
        export(work)
        try:
            work.rename(entry)
        except OSError:
            if not entry.is_dir():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    exported = _read_export(entry)
    if exported is None:
        raise OSError(f"{entry} was written and cannot be read back")
    return exported


def write_export(folder: Path, facts: ModelFacts, measured: dict[str, Any]) -> None:
    """Seal ``folder``, which holds graph and tokenizer, with their checksums and the model's facts."""
    content = {
        "facts": asdict(facts),
        "sha256": {name: sha256_of(folder / name) for name in (GRAPH, TOKENIZER)},
        "measured": measured,
    }
    (folder / _FACTS).write_text(json.dumps(content, indent=1), encoding="utf-8")


def _read_export(entry: Path) -> Export | None:
    try:
        content = json.loads((entry / _FACTS).read_text(encoding="utf-8"))
        intact = all(sha256_of(entry / name) == content["sha256"][name] for name in (GRAPH, TOKENIZER))
        return Export(entry, ModelFacts(**content["facts"])) if intact else None
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError) as error:
        _logger.warning("cannot read the exported model in %s: %s", entry, error)
        return None


def _sweep(root: Path) -> None:
    """Remove what processes that were killed have left behind."""
    for work in root.glob(f"{_TEMPORARY}*"):
        try:
            abandoned = time.time() - work.stat().st_mtime > _ABANDONED_AFTER_S
        except OSError:
            continue  # its owner has just finished
        if abandoned:
            shutil.rmtree(work, ignore_errors=True)


def _set_aside(entry: Path) -> None:
    if not entry.exists():
        return
    _logger.warning("the exported model in %s is damaged and will be exported again", entry)
    with tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=entry.parent, ignore_cleanup_errors=True) as bin_:
        try:
            entry.rename(Path(bin_) / "damaged")
        except FileNotFoundError:
            return  # another process was faster
