"""Drafts of edits as bytes that one process sends to another: tensors and JSON, no pickled objects."""

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

from .drafts import Draft, Entry, Fact
from .stored_edit import StoredEdit

_JSON = "json"
"""Name of the tensor that holds the JSON."""


def pack_drafts(drafts: Sequence[Draft], notes: Sequence[dict[str, Any]]) -> bytes:
    """Turn drafts into bytes.

    Args:
        drafts: The drafts.
        notes: A dict for each draft that goes with it, of what JSON can hold.
    """
    content, tensors, pictures = [], dict[str, Tensor](), list[str]()
    for i, (draft, note) in enumerate(zip(drafts, notes, strict=True)):
        if draft.entries:
            tensors[f"keys.{i}"] = torch.stack([e.key.detach().to("cpu", torch.float32) for e in draft.entries])
        for name, picture in draft.pictures.items():
            if name not in pictures:
                tensors[f"picture.{len(pictures)}"] = torch.from_numpy(np.array(picture))
                pictures.append(name)
        facts = [(e.fact.text, e.fact.kind, e.radius) for e in draft.entries]
        indices = [pictures.index(name) for name in draft.pictures]
        content.append({"edit": asdict(draft.edit), "facts": facts, "pictures": indices, "note": note})
    text = json.dumps({"drafts": content, "pictures": pictures}).encode()
    return save({**tensors, _JSON: torch.frombuffer(bytearray(text), dtype=torch.uint8)})


def unpack_drafts(data: bytes, *, pictures: bool = True) -> list[tuple[Draft, dict[str, Any]]]:
    """The drafts that :func:`pack_drafts` was given, each with its note.

    Args:
        data: The bytes.
        pictures: Whether to unpack the pictures, too.
    """
    tensors = load(data)
    content = json.loads(bytes(tensors[_JSON].numpy()))
    drafts = []
    for i, values in enumerate(content["drafts"]):
        edit = StoredEdit.from_dict(values["edit"])
        keys = tensors.get(f"keys.{i}", ())
        entries = [
            Entry(key, radius, Fact(text, kind, edit.id))
            for key, (text, kind, radius) in zip(keys, values["facts"], strict=True)
        ]
        images = {
            content["pictures"][n]: Image.fromarray(tensors[f"picture.{n}"].numpy())
            for n in (values["pictures"] if pictures else ())
        }
        drafts.append((Draft(edit, entries, images), values["note"]))
    return drafts
