"""Evidence that was found once is not sought again: editors and experiments share it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from PIL import Image

from reasonedit.boxes import Box
from reasonedit.cache import cache_folder
from reasonedit.dependencies import code_of, versions_of
from reasonedit.errors import ReasonEditError
from reasonedit.evidence import Evidence, EvidenceFinder, WindowScore
from reasonedit.threads import Guard
from reasonedit.vlm import Seen

from .described import DataFiles


class RememberedEvidence(EvidenceFinder):
    """Finds evidence, and keeps on disk what was found: by all that it depends on, image and sentences.

    That is the model and its device, the settings, what ranks the windows, the code and the libraries. Several threads
    and processes may use it at once: each search is kept whole, and the first to end counts.

    Args:
        finder: What finds it.

    Attributes:
        spared: Seconds that the finding took when it was done, of what was not done again.

    Raises:
        ReasonEditError: The cache cannot be used.
    """

    def __init__(self, finder: EvidenceFinder) -> None:
        super().__init__(finder.vlm, finder.config, finder.shortlist)
        self._finder = finder
        self.spared = 0.0
        self._adding = Guard()
        vlm = finder.vlm
        on_gpu = vlm.device.type == "cuda"
        made_by = {
            "model": vlm.identity,
            "device": torch.cuda.get_device_name(vlm.device) if on_gpu else str(vlm.device),
            "config": asdict(finder.config),
            "files": DataFiles().of(finder.config.clip) if finder.config.shortlist is not None else {},
            "code": code_of([type(finder), type(vlm), *([type(self.shortlist)] if self.shortlist is not None else [])]),
            "libraries": versions_of(("torch", "transformers", "pillow", "open_clip_torch")),
        }
        name = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()
        self._path = cache_folder() / "evidence" / f"{name}.sqlite"
        with self._base() as base:
            base.execute("create table if not exists found (asked text primary key, evidence text, seconds real)")

    def find_seen(
        self,
        image: Image.Image,
        sentences: Sequence[str],
        layers: Sequence[str] = (),
        known: Mapping[Box, Seen] | None = None,
    ) -> tuple[list[Evidence], dict[Box, Seen]]:
        """As :meth:`EvidenceFinder.find_seen`; windows of what is remembered are not there as they were seen."""
        digest = hashlib.sha256(json.dumps([list(sentences), image.mode, image.size]).encode())
        digest.update(image.tobytes())
        asked = digest.hexdigest()
        with self._base() as base:
            row = base.execute("select evidence, seconds from found where asked = ?", (asked,)).fetchone()
        if row is not None:
            with self._adding:
                self.spared += float(row[1])
            return [_evidence(e) for e in json.loads(row[0])], {}
        start = time.perf_counter()
        found, seen = self._finder.find_seen(image, sentences, layers, known)
        taken = time.perf_counter() - start
        content = json.dumps([asdict(e) for e in found])
        with self._base() as base:
            base.execute("insert or ignore into found values (?, ?, ?)", (asked, content, taken))
        return found, seen

    @contextmanager
    def _base(self) -> Iterator[sqlite3.Connection]:
        """The file, opened for one look at it: a connection belongs to one thread, and a transaction is soon over."""
        try:
            with closing(_opened(self._path)) as base, base:
                yield base
        except (OSError, sqlite3.Error) as error:
            raise ReasonEditError(
                f"The cache '{self._path}' cannot be used ({error}): delete this file, or set REASONEDIT_CACHE to "
                "a folder that can be written."
            ) from error


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    return sqlite3.connect(path, timeout=600)


def _evidence(values: dict[str, object]) -> Evidence:
    windows = values["windows"]
    assert isinstance(windows, list)
    made = []
    for w in windows:
        left, top, right, bottom = w["box"]
        made.append(WindowScore(**{**w, "box": (left, top, right, bottom)}))
    return Evidence(str(values["sentence"]), made)
