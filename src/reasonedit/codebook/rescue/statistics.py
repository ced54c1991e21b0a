"""The statistics in a folder that may be damaged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load

from ..disk.checksums import Checksums
from ..disk.errors import DamagedError
from ..disk.files import is_there, read_content
from ..disk.manifest import LACKS_STATISTICS, MANIFEST, Manifest
from ..disk.tensors import digest_of, load_tensors
from .findings import Found
from .flipped_bit import correct_bit

CALIBRATION = "calibration"
"""Where a manifest's config says of which pictures the user calibrated the codebook."""


def read_statistics(folder: Path, manifest: Manifest | None, found: Found) -> None:
    """Read what the embedding needs: keys that were made by statistics which are lost are lost with them.

    What is measured anew is not what was measured then: on another machine, by another version, of pictures that have
    changed.

    Args:
        folder: The codebook's folder.
        manifest: Its manifest, where it is there.
        found: Gets the statistics, and is told what is damaged. Keys that were made by lost ones are taken out of it.

    Raises:
        UnreadableError: A file must not be read.
    """
    sums = found.manifest.statistics if found.manifest is not None else None
    unproven = folder / "statistics.safetensors"  # before format 5 the journal did not say what they are
    if manifest is not None and manifest.lacks_statistics:
        found.damages.append(DamagedError(folder / MANIFEST, 0, LACKS_STATISTICS))
    elif sums is None and (manifest is not None or not is_there(unproven)):
        return
    else:
        found.statistics = _load(folder, sums, unproven, found)
    if not found.statistics:
        found.lost_reference = _reference_of(found.manifest.config if found.manifest is not None else {})
        found.keys.clear()  # nothing that is asked can be compared with them any more


def _load(folder: Path, sums: Checksums | None, unproven: Path, found: Found) -> dict[str, Any]:
    """The statistics; nothing where they are damaged or another codebook's, which ``found`` is told."""
    digest = found.manifest.statistics_digest if found.manifest is not None else ""
    try:
        path = sums.check(folder) if sums is not None else unproven
        tensors = load_tensors(path)
    except DamagedError as damage:
        found.damages.append(damage)
        return _correct(folder, sums, digest) if sums is not None and digest else {}
    if sums is None:
        found.notes.append(f"nothing says whether '{path}' is what was written")
    if tensors and digest not in ("", digest_of(tensors)):
        found.damages.append(DamagedError(path, 0, "it is not the one that the codebook was made with"))
        return {}
    return tensors


def _correct(folder: Path, sums: Checksums, digest: str) -> dict[str, Any]:
    """The statistics, if one bit of their file was flipped, which their digest proves; else nothing."""
    try:
        data = correct_bit(read_content(folder / sums.file, sums.bytes), sums)
        tensors = load(data) if data is not None else {}
    except (DamagedError, SafetensorError):
        return {}
    return tensors if digest_of(tensors) == digest else {}


def _reference_of(config: Mapping[str, Any]) -> str:
    """Of which pictures a codebook's statistics were, in words."""
    from reasonedit.embedding.reference import is_named

    if CALIBRATION in config:
        return "the pictures by which the codebook was calibrated"
    design = config.get("design")
    embedding = design.get("embedding") if isinstance(design, Mapping) else None
    reference = embedding.get("reference") if isinstance(embedding, Mapping) else None
    if reference is None or is_named(str(reference)):
        return "unrelated pictures"
    return f"the pictures in '{reference}'"
