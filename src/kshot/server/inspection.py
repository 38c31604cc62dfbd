"""Checks of an installation and of a data folder that need no running server; for ``kshot doctor``."""

from dataclasses import dataclass
from pathlib import Path

from kshot.clients.embedders.minilm import NAME, WEIGHTS_SHA256, packaged_folder
from kshot.clients.embedders.model_files import sha256_of
from kshot.errors import Corrupt, SegmentCorrupt
from kshot.index.segments import open_segment


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """What was found below a data folder."""

    checked: int
    disk_bytes: int
    corrupt: list[str]


def check_model() -> str:
    """Return where the packaged model lies, after comparing its weights with the published checksum.

    Raises
    ------
    MissingDependency
        The package is not installed.
    Corrupt
        The weights are absent or other ones.
    """
    weights = packaged_folder() / "model.safetensors"
    if not weights.is_file() or sha256_of(weights) != WEIGHTS_SHA256:
        raise Corrupt(f"the weights of {NAME} in {weights.parent} are not the published ones: reinstall them")
    return str(weights.parent)


def check_segments(data_dir: Path) -> SegmentReport:
    """Read every segment of a data folder and compare its checksums; nothing is changed.

    O(bytes) time. A server may own the folder meanwhile: a segment that it removes is passed over.
    """
    checked, disk_bytes, corrupt = 0, 0, []
    for manifest in sorted(data_dir.glob("pools/**/segments/*/manifest.json")):
        folder = manifest.parent
        try:
            segment = open_segment(folder)
        except SegmentCorrupt as error:
            if folder.exists():
                corrupt.append(error.message)
            continue
        checked += 1
        disk_bytes += segment.disk_bytes
    return SegmentReport(checked, disk_bytes, corrupt)
