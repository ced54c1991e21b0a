"""TensorBoard's event files without the pictures that show what is erased; their figures stay."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from reasonedit.codebook.disk.files import write_atomically
from reasonedit.errors import needed

from .erased_edits import ErasedEdits, remove

_HEAD, _TAIL = struct.Struct("<Q4x"), 4
"""Of a record: its length with a sum of that before it, a sum of the content behind."""


def remove_pictures(path: Path, erased: ErasedEdits) -> bool:
    """Take out of an event file what shows edits; a file that is no such file, or is damaged, goes as a whole.

    That is the evidence of the edits, and all queries with their facts: nobody can tell which facts a picture shows.

    Args:
        path: The file.
        erased: The edits.

    Returns:
        Whether anything was taken out.

    Raises:
        OSError: It cannot be written.
        UnavailableError: TensorBoard is not installed.
    """
    needed("tensorboard", "runs")  # not in the 'try': a file that cannot be read here is not a damaged one
    data = path.read_bytes()
    try:
        rest = [record for record, content in _records(data) if not _shows(content, erased)]
    except ValueError:
        remove(path)
        return True
    if sum(map(len, rest)) == len(data):
        return False
    with write_atomically(path) as file:
        file.write(b"".join(rest))
    return True


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The records of a file, each with its content.

    Raises:
        ValueError: It ends within one.
    """
    place = 0
    while place < len(data):
        if len(data) - place < _HEAD.size:
            raise ValueError("the file ends within a record")
        (length,) = _HEAD.unpack_from(data, place)
        end = place + _HEAD.size + length + _TAIL
        if end > len(data):
            raise ValueError("the file ends within a record")
        yield data[place:end], data[place + _HEAD.size : end - _TAIL]
        place = end


def _shows(content: bytes, erased: ErasedEdits) -> bool:
    """Whether a record shows what is erased.

    Raises:
        ValueError: It is no event.
    """
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    event = Event()
    try:
        event.ParseFromString(content)
    except DecodeError as error:
        raise ValueError("a record is not an event") from error
    tags = [value.tag for value in event.summary.value]
    shows_them = any(tag.startswith("retrieval/") or tag.removeprefix("evidence/") in erased.ids for tag in tags)
    return shows_them or erased.is_in(content)
