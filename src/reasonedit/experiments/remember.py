"""Evidence that was found once is not sought again: editors and experiments share it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import asdict

from PIL import Image

import reasonedit.evidence
from reasonedit.cache import cache_folder, code_version
from reasonedit.edits import Box
from reasonedit.evidence import Evidence, EvidenceFinder, WindowScore
from reasonedit.vlm import Vision


class RememberedEvidence(EvidenceFinder):
    """Finds evidence, and keeps on disk what was found, by model, settings, image and sentences.

    Args:
        finder: What finds it.

    Attributes:
        spared: Seconds that the finding took when it was done, of what was not done again.
    """

    def __init__(self, finder: EvidenceFinder) -> None:
        super().__init__(finder.vlm, finder.config)
        self.spared = 0.0
        made_by = json.dumps(
            [finder.vlm.identity, str(finder.vlm.device), code_version(reasonedit.evidence), asdict(finder.config)]
        )
        name = hashlib.sha256(made_by.encode()).hexdigest()[:24]
        path = cache_folder() / "evidence" / f"{name}.sqlite"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._base = sqlite3.connect(path, timeout=60)
        self._base.execute("create table if not exists found (asked text primary key, evidence text, seconds real)")

    def find_seen(
        self, image: Image.Image, sentences: Sequence[str], layers: Sequence[str] = ()
    ) -> tuple[list[Evidence], dict[Box, Vision]]:
        """As :meth:`EvidenceFinder.find_seen`; windows of what is remembered are not there as they were seen."""
        digest = hashlib.sha256(json.dumps([list(sentences), image.size]).encode())
        digest.update(image.tobytes())
        asked = digest.hexdigest()
        row = self._base.execute("select evidence, seconds from found where asked = ?", (asked,)).fetchone()
        if row is not None:
            self.spared += float(row[1])
            return [_evidence(e) for e in json.loads(row[0])], {}
        start = time.perf_counter()
        found, seen = super().find_seen(image, sentences, layers)
        taken = time.perf_counter() - start
        with self._base:
            content = json.dumps([asdict(e) for e in found])
            self._base.execute("insert or replace into found values (?, ?, ?)", (asked, content, taken))
        return found, seen


def _evidence(values: dict[str, object]) -> Evidence:
    windows = values["windows"]
    assert isinstance(windows, list)
    made = []
    for w in windows:
        left, top, right, bottom = w["box"]
        made.append(WindowScore(**{**w, "box": (left, top, right, bottom)}))
    return Evidence(str(values["sentence"]), made)
