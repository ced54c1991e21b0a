"""Checksums of a model's weights: taken once, and cached for as long as its files are the same."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
import weakref
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reasonedit.util.cache import cache_folder

_SAMPLED = 64
"""Numbers of each weight that are compared to see that it is still the same."""
_SUFFIXES = (".safetensors", ".bin", ".pt", ".gguf")

_sums_of_models: weakref.WeakKeyDictionary[nn.Module, tuple[str, WeightSums]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class WeightSums:
    """Checksums of weights, by name.

    Attributes:
        exact: The checksum of each weight, with its type.
        rounded: The same of the weight rounded to bfloat16, so that float32 and bfloat16 agree.
    """

    exact: dict[str, str]
    rounded: dict[str, str]

    def of(self, names: Iterable[str]) -> str:
        """One checksum of some weights, whatever their type."""
        return digest_of({name: self.rounded[name] for name in names})

    @property
    def all(self) -> str:
        """One checksum of all weights with their types."""
        return digest_of(self.exact)


def digest_of(content: Any) -> str:
    """A checksum of anything that JSON can hold; other objects count by their text."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def weight_sums(model: nn.Module, files: str = "") -> WeightSums:
    """Checksums of all weights and buffers of a model, as they are in memory now.

    They are taken once. They hold for this model as long as samples of its weights and their versions stay the same. If
    ``files`` is given, the cache on disk keeps them as well, for as long as the files are the same.

    Args:
        model: The model.
        files: The digest of the files that it was loaded from, by :func:`files_digest`; empty where it is not known.
    """
    state = _state(model)
    samples = _sample(state)
    versions = digest_of([(name, _version(tensor)) for name, tensor in state.items()])
    known = _sums_of_models.get(model)
    if known is not None and known[0] == samples + versions:
        return known[1]
    # Weights that were changed in memory are no longer those of the files.
    path = None
    if files and known is None:
        path = cache_folder() / "weights" / f"{digest_of([files, samples])}.json"
    sums = _read(path) if path is not None else None
    if sums is None or set(sums.exact) != set(state):
        sums = _take(model, state)
        if path is not None:
            _write(path, sums)
    _sums_of_models[model] = (samples + versions, sums)
    return sums


def files_digest(source: str | os.PathLike[str], commit: str | None = None) -> str:
    """What tells a model's files from others: their names, sizes and times, or the hub's commit.

    Args:
        source: The folder or hub id.
        commit: The commit on the hub, where it is known.

    Returns:
        A checksum; empty where nothing is known of the files.
    """
    folder = Path(source)
    if folder.is_dir():
        files = sorted(p for p in folder.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
        stamps = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
        return digest_of(stamps) if stamps else ""
    return digest_of([str(source), commit]) if commit else ""


def _state(model: nn.Module) -> dict[str, Tensor]:
    # The name of what torch.compile puts around a part is none of the model's.
    return {n.replace("_orig_mod.", ""): t for n, t in model.state_dict().items() if isinstance(t, Tensor)}


def _offloaded(model: nn.Module, name: str) -> Tensor | None:
    """A weight that ``device_map`` keeps on disk or on the CPU until it is needed; ``None`` where it cannot be read."""
    owner, _, parameter = name.rpartition(".")
    hook = getattr(model.get_submodule(owner), "_hf_hook", None)
    for part in getattr(hook, "hooks", [hook]):
        weights = getattr(part, "weights_map", None)
        if weights is not None:
            with contextlib.suppress(KeyError):
                return torch.as_tensor(weights[parameter])
    return None


def _version(tensor: Tensor) -> int:
    try:
        return int(tensor._version)
    except RuntimeError:  # inference tensors have none
        return -1


def _sample(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        if tensor.device.type != "meta" and tensor.numel():
            flat = tensor.detach().reshape(-1)
            sample = flat[:: max(1, len(flat) // _SAMPLED)][:_SAMPLED]
            digest.update(sample.to("cpu", copy=True).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def _take(model: nn.Module, state: dict[str, Tensor]) -> WeightSums:
    def sums_of(item: tuple[str, Tensor]) -> tuple[str, str, str]:
        name, tensor = item
        shape = f"{tuple(tensor.shape)}".encode()
        if tensor.device.type == "meta":
            offloaded = _offloaded(model, name)
            if offloaded is None:  # it counts by its name and shape
                return name, _hex(shape, f"{tensor.dtype}"), _hex(shape)
            tensor = offloaded.to(tensor.dtype)
        values = tensor.detach().to("cpu").contiguous()
        exact = _hex(shape, f"{tensor.dtype}", values)
        if not values.is_floating_point():
            return name, exact, _hex(shape, values)
        return name, exact, _hex(shape, values.to(torch.bfloat16))

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # hashing lets other threads run
        sums = list(pool.map(sums_of, state.items()))
    return WeightSums({name: exact for name, exact, _ in sums}, {name: rounded for name, _, rounded in sums})


def _hex(*parts: bytes | str | Tensor) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            digest.update(part.reshape(-1).view(torch.uint8).numpy().data if part.numel() else b"")
        else:
            digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()[:16]


def _read(path: Path) -> WeightSums | None:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return WeightSums(dict(stored["exact"]), dict(stored["rounded"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, sums: WeightSums) -> None:
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    with contextlib.suppress(OSError):  # they are taken again next time
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"exact": sums.exact, "rounded": sums.rounded}), encoding="utf-8")
        part.replace(path)
