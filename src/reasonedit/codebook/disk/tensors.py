"""Tensors in files (safetensors): how they are written, and checked when they are read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import torch
from torch import Tensor

from .errors import DamagedError
from .files import open_to_read

if TYPE_CHECKING:
    from .manifest import KeyRange

_NAMES = {
    torch.float64: "F64", torch.int64: "I64", torch.float32: "F32", torch.int32: "I32", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.int16: "I16", torch.uint8: "U8", torch.int8: "I8", torch.bool: "BOOL",
}  # fmt: skip
"""What safetensors calls the types of numbers."""
LARGEST_READ = 32 << 20
"""Bytes. Larger files are mapped into memory, smaller ones read: who cuts off a mapped file ends this process."""
_CHUNK = 1 << 22
"""Numbers that are checked together: so many stay in the processor's cache."""


def write_tensors(file: BinaryIO, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors reads them.

    The library's own writing goes through a file that only its owner may read and that stays where the process is
    killed, and takes the memory of all tensors once more.

    Args:
        file: Where to write.
        tensors: The tensors by name.

    Raises:
        OSError: They cannot be written.
    """
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))  # so each is aligned
    entries, end = {}, 0
    for name, tensor in ordered:
        start, end = end, end + tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    file.write(len(header).to_bytes(8, "little") + header)
    for _, tensor in ordered:
        if tensor.numel():
            file.write(_bytes_of(tensor))


def load_tensors(path: Path, *names: str) -> dict[str, Tensor]:
    """The tensors of a file, by name; those of a large file stay mapped from it.

    Args:
        path: The file.
        names: Tensors that it must hold.

    Raises:
        DamagedError: It is missing, no regular file or no safetensors file, or one of these tensors is not in it.
        UnreadableError: It must not be read.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load

    with open_to_read(path) as raw:  # also for a mapped file: safetensors would open anything
        data = raw.read() if os.fstat(raw.fileno()).st_size <= LARGEST_READ else None
    try:
        if data is not None:
            tensors = load(data)
        else:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError, KeyError, RuntimeError) as error:
        raise DamagedError(path, 0, f"it is not a safetensors file that can be read ({str(error)[:200]})") from error
    missing = [name for name in names if name not in tensors]
    if missing:
        raise DamagedError(path, 0, f"it holds no '{missing[0]}'")
    return tensors


def load_keys(folder: Path, part: KeyRange, width: int | None = None) -> tuple[Tensor, Tensor]:
    """The keys and radii of a file, checked: they are what was written, and can be used.

    Args:
        folder: The codebook's folder.
        part: The file.
        width: D, where that is known.

    Returns:
        Keys (count, D) and radii (count,), both float32; those of a large file stay mapped from it.

    Raises:
        DamagedError: They are not what was written, or cannot be used.
        UnreadableError: The file must not be read.
    """
    path = part.sums.check(folder)
    tensors = load_tensors(path, "keys", "radii")
    keys, radii = tensors["keys"], tensors["radii"]
    if not (keys.dtype == radii.dtype == torch.float32):
        raise DamagedError(path, 0, "its keys or radii are not in float32")
    if keys.ndim != 2 or radii.ndim != 1 or not len(keys) == len(radii) == part.count or not keys.shape[1]:
        raise DamagedError(path, 0, f"it does not hold {part.count} keys")
    if width is not None and keys.shape[1] != width:
        raise DamagedError(path, 0, f"its keys have {keys.shape[1]} numbers, others {width}")
    if not all_finite(keys):
        raise DamagedError(path, 0, "a key is not finite")
    if not all_finite(radii) or bool((radii < 0).any()):
        raise DamagedError(path, 0, "a radius is not finite, or negative")
    return keys, radii


def load_founders(path: Path, most: int) -> Tensor:
    """Which keys merged, from a file.

    Args:
        path: The file.
        most: How many numbers there are.

    Returns:
        The number of the key that each is part of, or -1: (numbers,) int64.

    Raises:
        DamagedError: The file says something else.
        UnreadableError: The file must not be read.
    """
    founders = load_tensors(path, "founders")["founders"]
    if founders.dtype != torch.int64 or founders.ndim != 1 or len(founders) > most:
        raise DamagedError(path, 0, "it is of another codebook")
    if bool(((founders < -1) | (founders >= len(founders))).any()):
        raise DamagedError(path, 0, "it is of another codebook")
    return founders


def load_statistics(path: Path, digest: str) -> dict[str, Tensor]:
    """What the embedding needs, from a file.

    Args:
        path: The file.
        digest: What :func:`digest_of` said of it when the codebook was made; nothing where that is not known.

    Raises:
        DamagedError: It holds other tensors, or a number in it is not finite.
        UnreadableError: The file must not be read.
    """
    tensors = load_tensors(path)
    if digest and digest_of(tensors) != digest:
        raise DamagedError(path, 0, "it is not what the codebook was made with")
    if not all(all_finite(tensor) for tensor in tensors.values()):
        raise DamagedError(path, 0, "a number in it is not finite")
    return tensors


def are_founders(founders: Tensor, counts: Tensor) -> bool:
    """Whether each number that counts is part of a key that counts, and that is part of itself alone.

    Args:
        founders: The key that each number is part of: (numbers,) int64.
        counts: Whether each number counts: (numbers,) bool.
    """
    parts = founders[counts]
    return bool((parts >= 0).all() and (founders[parts] == parts).all() and counts[parts].all())


def all_finite(numbers: Tensor) -> bool:
    """Whether none is infinite or NaN; several times as fast as ``isfinite`` of each."""
    if not numbers.is_floating_point():
        return True
    flat = numbers.detach().reshape(-1)
    parts = (flat[i : i + _CHUNK] for i in range(0, len(flat), _CHUNK))
    if numbers.element_size() < 4:
        parts = (part.float() for part in parts)
    return all(bool(torch.stack(torch.aminmax(part)).isfinite().all()) for part in parts)


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """A digest of tensors, whatever file they are in: 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {_NAMES.get(tensor.dtype, tensor.dtype)} {list(tensor.shape)} ".encode())
        if tensor.numel():
            digest.update(_bytes_of(tensor))
    return digest.hexdigest()
