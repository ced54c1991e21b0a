"""Writes the files of a codebook; each is on the disk and whole when its function returns."""

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
from ..stored_edit import picture_name
from .checksums import Checksums
from .errors import DamagedError
from .files import open_to_read, sync, write_atomically
from .layout import PICTURES, keys_name, settled_name
from .manifest import KeyRange, Manifest, SavedMerges
from .tensors import load_keys, write_tensors

Array = np.ndarray[Any, Any]
EditArrays = tuple[Tensor, Array, Mapping[str, Image.Image]]
"""What an edit writes: keys (n, D), their radii (n,), and its pictures by name."""


@dataclass
class JournalContent:
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


def write_tensor_file(folder: Path, name: str, tensors: Mapping[str, Tensor]) -> Checksums:
    """Write tensors into a file.

    Args:
        folder: The codebook's folder.
        name: The file, from the folder on.
        tensors: The tensors by name.

    Raises:
        OSError: They cannot be written.
    """
    with write_atomically(folder / name) as file:
        write_tensors(file, tensors)
    return Checksums.of_file(folder / name, name)


def write_pictures(folder: Path, pictures: Mapping[str, Image.Image]) -> None:
    """Write pictures, except those that are there and whole.

    Raises:
        OSError: They cannot be written.
    """
    for name, picture in pictures.items():
        try:
            read_picture(folder, name)
        except DamagedError:
            with write_atomically(folder / PICTURES / f"{name}.png") as file:
                picture.save(file, "PNG", compress_level=3)


def read_picture(folder: Path, name: str) -> Image.Image:
    """Read a picture by its name.

    Raises:
        DamagedError: It is missing or not what was written.
        UnreadableError: It must not be read.
    """
    path = folder / PICTURES / f"{name}.png"
    with open_to_read(path):  # a file that must not be read is not damaged
        pass
    try:
        image = load_image(path)
    except ReasonEditError as error:
        raise DamagedError(path, 0, "it is not a picture that can be read") from error
    if picture_name(image) != name:
        raise DamagedError(path, 0, "the picture is not what was written")
    return image


def write_edits(
    folder: Path, manifest: Manifest, events: Sequence[Event], arrays: Iterable[EditArrays]
) -> JournalContent:
    """Write the pictures of edits, and a file of keys for each edit.

    Args:
        folder: The codebook's folder.
        manifest: Its manifest.
        events: What happens.
        arrays: What each edit among the events writes.

    Returns:
        What the journal is to hold of it.

    Raises:
        OSError: They cannot be written.
        ValueError: An edit's numbers do not follow, or it has not as many keys as facts.
    """
    content, remaining = JournalContent([], [], set(), manifest.numbers), iter(arrays)
    for event in events:
        record = event.to_dict()
        if event.edit is not None:
            keys, radii = _write_pictures_of(folder, event, next(remaining), content)
            if event.first != content.numbers:
                raise ValueError(f"The edit '{event.edit_id}' begins at {event.first} instead of {content.numbers}.")
            if len(keys):
                name = keys_name(manifest.generation, event.first, len(keys))
                sums = write_tensor_file(folder, name, _key_tensors(keys, radii))
                record["keys"] = asdict(sums)
                content.loose.append(KeyRange(event.first, len(keys), sums))
            content.numbers += len(keys)
        content.records.append(record)
    return content


def write_all(
    folder: Path, manifest: Manifest, events: Sequence[Event], arrays: Iterable[EditArrays]
) -> tuple[Manifest, JournalContent]:
    """Write the pictures of all edits, and one file of all their keys, which are numbered anew.

    Args:
        folder: The codebook's folder.
        manifest: Its manifest.
        events: All that happened.
        arrays: What each edit among the events writes.

    Returns:
        The manifest with that file, and what the journal is to hold.

    Raises:
        OSError: They cannot be written.
        ValueError: An edit has not as many keys as facts.
    """
    content, remaining = JournalContent([], [], set(), 0), iter(arrays)
    all_keys, all_radii = list[Tensor](), list[Array]()
    for event in events:
        content.records.append(replace(event, first=content.numbers).to_dict())
        if event.edit is not None:
            keys, radii = _write_pictures_of(folder, event, next(remaining), content)
            if len(keys):  # the sums of a file of its own: with them repair can prove these keys among all others
                name = keys_name(manifest.generation, content.numbers, len(keys))
                content.records[-1]["keys"] = asdict(_sums_of_own_file(name, keys, radii))
                content.numbers += len(keys)
                all_keys.append(keys)
                all_radii.append(radii)
    sealed: tuple[KeyRange, ...] = ()
    if all_keys:
        name = keys_name(manifest.generation, 0, content.numbers, joined=True)
        sums = write_tensor_file(folder, name, _key_tensors(torch.cat(all_keys), np.concatenate(all_radii)))
        sealed = (KeyRange(0, content.numbers, sums),)
    return replace(manifest, numbers=content.numbers, sealed=sealed), content


def _write_pictures_of(folder: Path, event: Event, arrays: EditArrays, content: JournalContent) -> tuple[Tensor, Array]:
    """Write the pictures of an edit; its keys and radii, which are as many as its facts."""
    keys, radii, pictures = arrays
    assert event.edit is not None
    if not len(keys) == len(radii) == len(event.facts):
        raise ValueError(f"The edit '{event.edit_id}' has {len(event.facts)} facts and {len(keys)} keys.")
    write_pictures(folder, pictures)
    content.pictures.update(event.edit.pictures)
    return keys, radii


def _key_tensors(keys: Tensor, radii: Array) -> dict[str, Tensor]:
    return {"keys": keys, "radii": torch.from_numpy(radii.copy())}


def _sums_of_own_file(name: str, keys: Tensor, radii: Array) -> Checksums:
    """The checksums of a file that holds these keys alone."""
    file = io.BytesIO()
    write_tensors(file, _key_tensors(keys, radii))
    return Checksums.of_content(name, file.getvalue())


def join_keys(folder: Path, manifest: Manifest, loose: Sequence[KeyRange], *, everything: bool) -> Manifest:
    """Join files of keys into one.

    Args:
        folder: The codebook's folder.
        manifest: Its manifest.
        loose: The files of single edits.
        everything: Whether to join these with the joined ones too.

    Returns:
        The manifest with the new file; unchanged where there is nothing to join.

    Raises:
        OSError: It cannot be written.
        DamagedError: One of them is damaged.
    """
    parts = [*(manifest.sealed if everything else ()), *loose]
    if len(parts) < 2:
        return manifest
    arrays = [load_keys(folder, part) for part in parts]
    first, count = parts[0].first, sum(part.count for part in parts)
    name = keys_name(manifest.generation, first, count, joined=True)
    tensors = {"keys": torch.cat([keys for keys, _ in arrays]), "radii": torch.cat([radii for _, radii in arrays])}
    sums = write_tensor_file(folder, name, tensors)
    others = () if everything else manifest.sealed
    return replace(manifest, sealed=(*others, KeyRange(first, count, sums)))


def write_merges(folder: Path, manifest: Manifest, events: int, founders: Array, merge: bool) -> Manifest:
    """Write which keys have merged.

    Args:
        folder: The codebook's folder.
        manifest: Its manifest.
        events: After how many events.
        founders: The key that each number is part of, -1 where it does not count: (numbers,) int64.
        merge: Whether keys merge.

    Returns:
        The manifest with the new file.

    Raises:
        OSError: It cannot be written.
    """
    counts = torch.from_numpy((founders >= 0).astype(np.uint8))  # for repair: what a lost record may have undone
    tensors = {"founders": torch.from_numpy(founders.copy()), "counts": counts}
    sums = write_tensor_file(folder, settled_name(manifest.generation, events), tensors)
    return replace(manifest, settled=SavedMerges(events, merge, sums))


def head_record(manifest: Manifest) -> dict[str, Any]:
    """The journal's first record: with it the journal and the files it names are enough to make all else anew."""
    names = ("id", "created", "fingerprint", "config", "merge", "across_kinds", "generation")
    sums = {
        "statistics": None if manifest.statistics is None else asdict(manifest.statistics),
        "statistics_digest": manifest.statistics_digest,
        "keys": [asdict(part.sums) for part in manifest.sealed],
    }
    return {"op": "create", **{name: getattr(manifest, name) for name in names}, **sums}
