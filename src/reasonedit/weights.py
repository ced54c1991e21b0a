"""Checksums of a model's weights: taken once, and kept beside what tells that the files are still the same."""

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

from reasonedit.cache import cache_folder

_SAMPLED = 64
"""Numbers of each weight that are looked at to see that it is still the same."""
_SUFFIXES = (".safetensors", ".bin", ".pt", ".gguf")

_taken: weakref.WeakKeyDictionary[nn.Module, tuple[str, WeightSums]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class WeightSums:
    """Checksums of weights, by name.

    Attributes:
        exact: Of what each holds, with its type.
        rounded: Of the same rounded to bfloat16, so that float32 and bfloat16 agree.
    """

    exact: dict[str, str]
    rounded: dict[str, str]

    def of(self, names: Iterable[str]) -> str:
        """One checksum of some weights, whatever type they are kept in."""
        return digest_of({name: self.rounded[name] for name in names})

    @property
    def all(self) -> str:
        """One checksum of all weights as they are kept."""
        return digest_of(self.exact)


def digest_of(content: Any) -> str:
    """A checksum of anything that JSON can hold; what it cannot counts by its text."""
    told = json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def weight_sums(model: nn.Module, files: str = "") -> WeightSums:
    """Checksums of all weights and buffers of a model, as they are in memory now.

    They are taken once and kept: for this model as long as samples of its weights and their versions stay the same; in
    the cache, where ``files`` says which files the weights came from, for as long as these are the same.

    Args:
        model: The model.
        files: What tells the files it was loaded from, of :func:`files_of`; empty where nothing does.
    """
    state = _state(model)
    samples = _sampled(state)
    versions = digest_of([(name, _version(tensor)) for name, tensor in state.items()])
    known = _taken.get(model)
    if known is not None and known[0] == samples + versions:
        return known[1]
    # Weights that were changed in memory since are not those of the files any more.
    path = None
    if files and known is None:
        path = cache_folder() / "weights" / f"{digest_of([files, samples])}.json"
    sums = _read(path) if path is not None else None
    if sums is None or set(sums.exact) != set(state):
        sums = _take(model, state)
        if path is not None:
            _write(path, sums)
    _taken[model] = (samples + versions, sums)
    return sums


def files_digest(source: str | os.PathLike[str], commit: str | None = None) -> str:
    """What tells whether the files of a model are still the same: their names, sizes and times, or the hub's commit."""
    folder = Path(source)
    if folder.is_dir():
        there = sorted(p for p in folder.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
        told = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in there]
        return digest_of(told) if told else ""
    return digest_of([str(source), commit]) if commit else ""


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {n: t for n, t in model.state_dict().items() if isinstance(t, Tensor)}


def _elsewhere(model: nn.Module, name: str) -> Tensor | None:
    """A weight that is kept on disk or on the CPU until it is needed (``device_map``), if it can be had."""
    owner, _, own = name.rpartition(".")
    hook = getattr(model.get_submodule(owner), "_hf_hook", None)
    for one in getattr(hook, "hooks", [hook]):
        held = getattr(one, "weights_map", None)
        if held is not None:
            with contextlib.suppress(KeyError):
                return torch.as_tensor(held[own])
    return None


def _version(tensor: Tensor) -> int:
    try:
        return int(tensor._version)
    except RuntimeError:  # a tensor of inference mode has none
        return -1


def _sampled(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        if tensor.device.type != "meta" and tensor.numel():
            flat = tensor.detach().reshape(-1)
            some = flat[:: max(1, len(flat) // _SAMPLED)][:_SAMPLED]
            digest.update(some.to("cpu", copy=True).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def _take(model: nn.Module, state: dict[str, Tensor]) -> WeightSums:
    def of(item: tuple[str, Tensor]) -> tuple[str, str, str]:
        name, tensor = item
        about = f"{tuple(tensor.shape)}".encode()
        if tensor.device.type == "meta":
            there = _elsewhere(model, name)
            if there is None:  # it counts by its name and shape
                return name, _hex(about, f"{tensor.dtype}"), _hex(about)
            tensor = there.to(tensor.dtype)
        here = tensor.detach().to("cpu").contiguous()
        exact = _hex(about, f"{tensor.dtype}", here)
        if not here.is_floating_point():
            return name, exact, _hex(about, here)
        return name, exact, _hex(about, here.to(torch.bfloat16))

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # hashing lets other threads run
        taken = list(pool.map(of, state.items()))
    return WeightSums({n: e for n, e, _ in taken}, {n: r for n, _, r in taken})


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
        told = json.loads(path.read_text(encoding="utf-8"))
        return WeightSums(dict(told["exact"]), dict(told["rounded"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, sums: WeightSums) -> None:
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    with contextlib.suppress(OSError):  # they are taken again next time
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"exact": sums.exact, "rounded": sums.rounded}), encoding="utf-8")
        part.replace(path)
