"""Tensors in files (safetensors): written as any file is, and checked when they are read."""

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
MAPPED = 32 << 20
"""Bytes: larger files are mapped into memory, smaller ones read: who cuts a file that is mapped ends this process."""
_AT_ONCE = 1 << 22
"""Numbers that are looked at together: they stay in the processor's cache."""


def write_tensors(file: BinaryIO, tensors: Mapping[str, Tensor]) -> None:
    """Write what safetensors reads.

    Its own writing goes through a file that only its owner may read and that stays where the process is killed, and
    takes the memory of all tensors once more.

    Args:
        file: Where to.
        tensors: The tensors by name.

    Raises:
        OSError: They cannot be written.
    """
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))  # each is aligned then
    told, end = {}, 0
    for name, tensor in ordered:
        start, end = end, end + tensor.numel() * tensor.element_size()
        told[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    header = json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    file.write(len(header).to_bytes(8, "little") + header)
    for _, tensor in ordered:
        if tensor.numel():
            file.write(_bytes_of(tensor))


def load_tensors(path: Path, *names: str) -> dict[str, Tensor]:
    """The tensors of a file; a large one is mapped into memory.

    Args:
        path: The file.
        names: What it must hold.

    Raises:
        DamagedError: It is missing, no regular file, or no safetensors file, or does not hold that.
        UnreadableError: It must not be read.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load

    with open_to_read(path) as read:  # what opens it next asks nothing of it
        data = read.read() if os.fstat(read.fileno()).st_size <= MAPPED else None
    try:
        if data is not None:
            found = load(data)
        else:
            with safe_open(path, "pt") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError, KeyError, RuntimeError) as error:
        raise DamagedError(path, 0, f"it is no safetensors file that can be read ({str(error)[:200]})") from error
    missing = [name for name in names if name not in found]
    if missing:
        raise DamagedError(path, 0, f"it holds no '{missing[0]}'")
    return found


def load_keys(folder: Path, part: KeyRange, width: int | None = None) -> tuple[Tensor, Tensor]:
    """The keys and radii in a file, once it is certain that they are what was written and can be used.

    Args:
        folder: The codebook's folder.
        part: Which.
        width: Numbers per key, where that is known.

    Returns:
        Keys (count, D) and radii (count,), both float32 and mapped from the file.

    Raises:
        DamagedError: They are not.
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
    """What merged where, from a file: (numbers,) int64, each the number of the key that it is part of, or -1.

    Args:
        path: The file.
        most: How many numbers there are.

    Raises:
        DamagedError: It does not hold that.
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
        digest: What :func:`digest_of` made of it when the codebook was made; nothing where that is not known.

    Raises:
        DamagedError: It is another one, or a number in it is not finite.
        UnreadableError: The file must not be read.
    """
    found = load_tensors(path)
    if digest and digest_of(found) != digest:
        raise DamagedError(path, 0, "it is not what the codebook was made with")
    if not all(all_finite(tensor) for tensor in found.values()):
        raise DamagedError(path, 0, "a number in it is not finite")
    return found


def are_founders(founders: Tensor, counts: Tensor) -> bool:
    """Whether all that counts is part of a key: one that counts, and is part of nothing but itself.

    Args:
        founders: What each is part of: (numbers,) int64.
        counts: Whether each counts: (numbers,) bool.
    """
    parts = founders[counts]
    return bool((parts >= 0).all() and (founders[parts] == parts).all() and counts[parts].all())


def all_finite(numbers: Tensor) -> bool:
    """Whether none is infinite or no number at all; several times as fast as asking each by itself."""
    if not numbers.is_floating_point():
        return True
    flat = numbers.detach().reshape(-1)
    parts = (flat[i : i + _AT_ONCE] for i in range(0, len(flat), _AT_ONCE))
    if numbers.element_size() < 4:
        parts = (part.float() for part in parts)
    return all(bool(torch.stack(torch.aminmax(part)).isfinite().all()) for part in parts)


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """A checksum of tensors, whatever file they lie in: 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {_NAMES.get(tensor.dtype, tensor.dtype)} {list(tensor.shape)} ".encode())
        if tensor.numel():
            digest.update(_bytes_of(tensor))
    return digest.hexdigest()
