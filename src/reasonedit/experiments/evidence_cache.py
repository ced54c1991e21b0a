"""Evidence that was found once is not sought again: editors and experiments share it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Any

import torch
from PIL import Image

from reasonedit.boxes import Box
from reasonedit.errors import UnavailableError
from reasonedit.evidence import Evidence, EvidenceConfig, EvidenceFinder, Shortlist, WindowScore
from reasonedit.runs.data_files import DataFiles
from reasonedit.util.cache import cache_folder
from reasonedit.util.dependencies import code_of, versions_of
from reasonedit.util.threads import Guard
from reasonedit.vlm import VLM, Seen


class CachedEvidenceFinder(EvidenceFinder):
    """Finds evidence, and keeps on disk what it found.

    A search is known by its image and sentences, and by all that its result depends on: the model and its device, the
    settings, what ranks the windows, the code and the libraries. Several threads and processes may use the cache at
    once: each search is written whole, and the first to end counts.

    Args:
        vlm: The VLM that verifies and scores.
        config: How evidence is sought.
        shortlist: What ranks the windows, in place of the open_clip model that the config names.

    Attributes:
        seconds_saved: Seconds that the searches took when they were made, of those that were not made again.

    Raises:
        UnavailableError: The cache cannot be used.
    """

    def __init__(self, vlm: VLM, config: EvidenceConfig | None = None, shortlist: Shortlist | None = None) -> None:
        super().__init__(vlm, config, shortlist)
        self.seconds_saved = 0.0
        self._adding = Guard()
        self._path = cache_folder() / "evidence" / f"{self._key()}.sqlite"
        with self._open() as base:
            base.execute("create table if not exists found (asked text primary key, evidence text, seconds real)")

    def _key(self) -> str:
        """A checksum of all that the results depend on, beside image and sentences."""
        vlm, ranks_windows = self.vlm, [type(self.shortlist)] if self.shortlist is not None else []
        on_gpu = vlm.device.type == "cuda"
        made_by = {
            "model": vlm.identity,
            "device": torch.cuda.get_device_name(vlm.device) if on_gpu else str(vlm.device),
            "config": asdict(self.config),
            "files": DataFiles().of(self.config.clip) if self.config.shortlist is not None else {},
            "code": code_of([EvidenceFinder, type(vlm), *ranks_windows]),
            "libraries": versions_of(("torch", "transformers", "pillow", "open_clip_torch")),
        }
        return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()

    def find_with_windows(
        self,
        image: Image.Image,
        sentences: Sequence[str],
        layers: Sequence[str] = (),
    ) -> tuple[list[Evidence], dict[Box, Seen]]:
        """As :meth:`EvidenceFinder.find_with_windows`, but without the passes of windows that come from the cache."""
        digest = hashlib.sha256(json.dumps([list(sentences), image.mode, image.size]).encode())
        digest.update(image.tobytes())
        search = digest.hexdigest()
        with self._open() as base:
            row = base.execute("select evidence, seconds from found where asked = ?", (search,)).fetchone()
        if row is not None:
            with self._adding:
                self.seconds_saved += float(row[1])
            return [_read_evidence(values) for values in json.loads(row[0])], {}
        started = time.perf_counter()
        evidence, windows = super().find_with_windows(image, sentences, layers)
        seconds = time.perf_counter() - started
        content = json.dumps([asdict(e) for e in evidence])
        with self._open() as base:
            base.execute("insert or ignore into found values (?, ?, ?)", (search, content, seconds))
        return evidence, windows

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one look: a connection belongs to one thread, and a transaction is soon over."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=600)) as base, base:
                yield base
        except (OSError, sqlite3.Error) as error:
            raise UnavailableError(
                f"The cache '{self._path}' cannot be used ({error}): delete this file, or set REASONEDIT_CACHE to "
                "a folder that can be written."
            ) from error


def _read_evidence(values: dict[str, Any]) -> Evidence:
    windows = [WindowScore(**{**window, "box": tuple(window["box"])}) for window in values["windows"]]
    return Evidence(values["sentence"], windows)
