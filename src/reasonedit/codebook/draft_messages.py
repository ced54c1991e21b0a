"""Edits as bytes, from one process to another: tensors and JSON, no pickled objects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load, save
from torch import Tensor

from .records import Draft, Entry, Fact, StoredEdit

_TOLD = "json"


def pack_drafts(drafts: Sequence[Draft], told: Sequence[dict[str, Any]]) -> bytes:
    """Drafts, and something to be told of each.

    Args:
        drafts: The drafts.
        told: For each a dict that JSON can hold.
    """
    content, tensors, pictures = [], dict[str, Tensor](), list[str]()
    for i, (draft, mine) in enumerate(zip(drafts, told, strict=True)):
        if draft.entries:
            tensors[f"keys.{i}"] = torch.stack([e.key.detach().to("cpu", torch.float32) for e in draft.entries])
        for name, picture in draft.pictures.items():
            if name not in pictures:
                tensors[f"picture.{len(pictures)}"] = torch.from_numpy(np.array(picture))
                pictures.append(name)
        facts = [(e.fact.text, e.fact.kind, e.radius) for e in draft.entries]
        seen = [pictures.index(name) for name in draft.pictures]
        content.append({"edit": asdict(draft.edit), "facts": facts, "pictures": seen, "told": mine})
    text = json.dumps({"drafts": content, "pictures": pictures}).encode()
    return save({**tensors, _TOLD: torch.frombuffer(bytearray(text), dtype=torch.uint8)})


def unpack_drafts(data: bytes, *, pictures: bool = True) -> list[tuple[Draft, dict[str, Any]]]:
    """What :func:`pack_drafts` was given.

    Args:
        data: What it made.
        pictures: Whether pictures are wanted, too.
    """
    tensors = load(data)
    content = json.loads(bytes(tensors[_TOLD].numpy()))
    found = []
    for i, mine in enumerate(content["drafts"]):
        edit = StoredEdit.from_dict(mine["edit"])
        keys = tensors.get(f"keys.{i}", ())
        entries = [
            Entry(key, radius, Fact(text, kind, edit.id))
            for key, (text, kind, radius) in zip(keys, mine["facts"], strict=True)
        ]
        seen = {
            content["pictures"][n]: Image.fromarray(tensors[f"picture.{n}"].numpy())
            for n in (mine["pictures"] if pictures else ())
        }
        found.append((Draft(edit, entries, seen), mine["told"]))
    return found
