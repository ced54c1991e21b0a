"""Files of a codebook, each on the disk and whole when it is written."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reasonedit.errors import ReasonEditError
from reasonedit.images import load_image

from ..events import Event
from ..records import picture_name
from .checksums import Checksums
from .errors import DamagedError
from .files import open_to_read, sync, write_atomically
from .layout import PICTURES, keys_name, settled_name
from .manifest import KeyRange, Manifest, SavedMerges
from .tensors import load_keys, write_tensors

EditArrays = tuple[Tensor, np.ndarray[Any, Any], Mapping[str, Image.Image]]
"""What an edit writes: keys (n, D), their radii (n,), and its pictures by name."""


@dataclass
class Content:
    """What a journal is to hold.

    Attributes:
        records: Its records.
        loose: The files of keys that are not joined.
        pictures: Names of the pictures that edits have.
        numbers: How many keys there are then.
    """

    records: list[dict[str, Any]]
    loose: list[KeyRange]
    pictures: set[str]
    numbers: int


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, so that they are on the disk.

    Raises:
        OSError: It cannot be made.
    """
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def write_file(folder: Path, name: str, content: Mapping[str, Tensor]) -> Checksums:
    """Tensors into a file.

    Raises:
        OSError: They cannot be written.
    """
    with write_atomically(folder / name) as file:
        write_tensors(file, content)
    return Checksums.of_file(folder / name, name)


def write_keys(folder: Path, name: str, mine: Tensor, radii: np.ndarray[Any, Any]) -> Checksums:
    """Keys and their radii into a file; errors as for :func:`write_file`."""
    return write_file(folder, name, {"keys": mine, "radii": torch.from_numpy(radii.copy())})


def write_pictures(folder: Path, wanted: Mapping[str, Image.Image]) -> None:
    """Pictures, where they are not there already; one that lies there damaged is written anew.

    Raises:
        OSError: They cannot be written.
    """
    for name, picture in wanted.items():
        try:
            read_picture(folder, name)
        except DamagedError:
            with write_atomically(folder / PICTURES / f"{name}.png") as file:
                picture.save(file, "PNG", compress_level=3)


def read_picture(folder: Path, name: str) -> Image.Image:
    """A picture by its name.

    Raises:
        DamagedError: It is missing or not what was written.
        UnreadableError: It must not be read.
    """
    path = folder / PICTURES / f"{name}.png"
    with open_to_read(path):  # what may not be read is not damaged
        pass
    try:
        image = load_image(path)
    except ReasonEditError as error:
        raise DamagedError(path, 0, "it is no picture that can be read") from error
    if picture_name(image) != name:
        raise DamagedError(path, 0, "the picture is not what was written")
    return image


def write_edits(folder: Path, manifest: Manifest, events: Sequence[Event], written: Iterable[EditArrays]) -> Content:
    """Pictures, and a file of keys for each edit.

    Raises:
        OSError: They cannot be written.
        ValueError: An edit has other numbers or as many keys as facts.
    """
    content, edits = Content([], [], set(), manifest.numbers), iter(written)
    for event in events:
        record = event.to_dict()
        if event.edit is not None:
            mine, radii = _write_pictures_of(folder, event, next(edits), content)
            if event.first != content.numbers:
                raise ValueError(f"The edit '{event.edit_id}' begins at {event.first} instead of {content.numbers}.")
            if len(mine):
                sums = write_keys(folder, keys_name(manifest.generation, event.first, len(mine)), mine, radii)
                record["keys"] = asdict(sums)
                content.loose.append(KeyRange(event.first, len(mine), sums))
            content.numbers += len(mine)
        content.records.append(record)
    return content


def write_all(
    folder: Path, manifest: Manifest, events: Sequence[Event], written: Iterable[EditArrays]
) -> tuple[Manifest, Content]:
    """Pictures, and one file of the keys of all edits, which are numbered anew.

    Returns:
        The manifest with that file, and the records.

    Raises:
        OSError: They cannot be written.
        ValueError: An edit has not as many keys as facts.
    """
    content, edits = Content([], [], set(), 0), iter(written)
    found: list[tuple[Tensor, np.ndarray[Any, Any]]] = []
    for event in events:
        content.records.append(replace(event, first=content.numbers).to_dict())
        if event.edit is not None:
            mine, radii = _write_pictures_of(folder, event, next(edits), content)
            if len(mine):  # what its own file would hold: so it can be proven whatever becomes of the others
                name = keys_name(manifest.generation, content.numbers, len(mine))
                content.records[-1]["keys"] = asdict(_sums_alone(name, mine, radii))
                content.numbers += len(mine)
                found.append((mine, radii))
    sealed: tuple[KeyRange, ...] = ()
    if found:
        name = keys_name(manifest.generation, 0, content.numbers, joined=True)
        sums = write_keys(folder, name, torch.cat([k for k, _ in found]), np.concatenate([r for _, r in found]))
        sealed = (KeyRange(0, content.numbers, sums),)
    return replace(manifest, numbers=content.numbers, sealed=sealed), content


def _write_pictures_of(
    folder: Path, event: Event, written: EditArrays, content: Content
) -> tuple[Tensor, np.ndarray[Any, Any]]:
    mine, radii, seen = written
    assert event.edit is not None
    if not len(mine) == len(radii) == len(event.facts):
        raise ValueError(f"The edit '{event.edit_id}' has {len(event.facts)} facts and {len(mine)} keys.")
    write_pictures(folder, seen)
    content.pictures.update(event.edit.pictures)
    return mine, radii


def _sums_alone(name: str, mine: Tensor, radii: np.ndarray[Any, Any]) -> Checksums:
    file = io.BytesIO()
    write_tensors(file, {"keys": mine, "radii": torch.from_numpy(radii.copy())})
    return Checksums.of_content(name, file.getvalue())


def join_keys(folder: Path, manifest: Manifest, loose: Sequence[KeyRange], *, everything: bool) -> Manifest:
    """Join files of keys into one: those of single edits, or all.

    Returns:
        The manifest with the new file; as it was where there is nothing to join.

    Raises:
        OSError: It cannot be written.
        DamagedError: One of them is damaged.
    """
    parts = [*(manifest.sealed if everything else ()), *loose]
    if len(parts) < 2:
        return manifest
    found = [load_keys(folder, part) for part in parts]
    first, count = parts[0].first, sum(part.count for part in parts)
    name = keys_name(manifest.generation, first, count, joined=True)
    sums = write_file(
        folder, name, {"keys": torch.cat([k for k, _ in found]), "radii": torch.cat([r for _, r in found])}
    )
    kept = () if everything else manifest.sealed
    return replace(manifest, sealed=(*kept, KeyRange(first, count, sums)))


def write_merges(
    folder: Path, manifest: Manifest, events: int, founders: np.ndarray[Any, Any], merge: bool
) -> Manifest:
    """What merged where when so much had happened; the manifest with it.

    Raises:
        OSError: It cannot be written.
    """
    counts = torch.from_numpy((founders >= 0).astype(np.uint8))  # for repair: what a lost record may have undone
    founded = {"founders": torch.from_numpy(founders.copy()), "counts": counts}
    sums = write_file(folder, settled_name(manifest.generation, events), founded)
    return replace(manifest, settled=SavedMerges(events, merge, sums))


def head_record(manifest: Manifest) -> dict[str, Any]:
    """The journal's first record: with it the journal and the files that it names are enough to make all else from."""
    told = {name: getattr(manifest, name) for name in ("id", "created", "fingerprint", "config", "merge", "generation")}
    sums = {
        "statistics": None if manifest.statistics is None else asdict(manifest.statistics),
        "statistics_digest": manifest.statistics_digest,
        "keys": [asdict(part.sums) for part in manifest.sealed],
    }
    return {"op": "create", **told, **sums}
