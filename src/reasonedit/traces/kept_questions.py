"""Questions that a server keeps, with their pictures, so that a person can look through them.

A folder beside the codebook: ``questions.jsonl`` has a line for each question, and one for each time that a person
marked one; ``pictures/`` has the pictures, each under the name of its pixels. What was kept long ago goes.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from PIL import Image

from reasonedit.codebook.disk.files import read_content, write_atomically
from reasonedit.codebook.stored_edit import picture_name
from reasonedit.errors import ConflictError, NotFoundError, UnavailableError
from reasonedit.images import load_image
from reasonedit.util.threads import Guard

from .erased_edits import ErasedEdits, remove

MARKS = ("right", "corrected")
_FILE, _PICTURES, _LOCK = "questions.jsonl", "pictures", ".lock"
_MOST_BYTES = 2**30
_NAME = re.compile(r"[0-9a-f]{64}\.png")


def folder_of_questions(codebook: Path) -> Path:
    """Where the questions to a codebook are kept; whichever way it is reached, by a link or as ``.``, there is one."""
    real = codebook.resolve()
    return real.with_name(f"{real.name}.questions")


class KeptQuestions:
    """The questions that are kept in a folder; several processes may use it.

    Args:
        folder: The folder; made when the first question is kept.
        most: How many questions are kept; older ones go.
    """

    def __init__(self, folder: Path, most: int = 10_000) -> None:
        self.folder, self.most = folder, most
        self._file = folder / _FILE
        self._guard = Guard()
        self._known: tuple[object, dict[str, dict[str, Any]]] = (None, {})

    def rows(self) -> dict[str, dict[str, Any]]:
        """The questions by their ids, the oldest first, each with its ``mark``."""
        with self._guard:
            stamp = self._stamp()
            if stamp != self._known[0]:
                self._known = stamp, self._read() if stamp is not None else {}
            return dict(self._known[1])

    def add(self, row: Mapping[str, Any], image: Image.Image) -> None:
        """Keep a question.

        Args:
            row: What is kept of it; ``id`` is its name.
            image: Its picture.

        Raises:
            UnavailableError: It cannot be written.
        """
        name = picture_name(image)
        with self._writing():
            path = self.folder / _PICTURES / f"{name}.png"
            if not path.exists():
                with write_atomically(path) as file:
                    image.save(file, "PNG")
            self._append({**row, "picture": name})
            if len(self.rows()) > self.most + max(self.most // 10, 10):
                self._rewrite(list(self.rows().values())[-self.most :])

    def remove(self, name: str) -> None:
        """Take a question out.

        Raises:
            UnavailableError: It cannot be written.
        """
        with self._writing():
            self._rewrite([row for row in self.rows().values() if row["id"] != name])

    def mark(
        self, name: str, mark: str | None, edit_id: str | None = None, edits: Container[str] = ()
    ) -> dict[str, Any]:
        """Mark a question as looked at, or as not looked at.

        Args:
            name: Its id.
            mark: ``"right"``, ``"corrected"``, or ``None``.
            edit_id: The edit that corrects it.
            edits: The ids of the edits that count: what one of them corrects was not answered rightly.

        Raises:
            ConflictError: It is to be marked as right, and somebody has corrected it.
            NotFoundError: It is not kept.
            UnavailableError: It cannot be written.
        """
        with self._writing():
            by = self.find(name)["corrected_by"]
            if mark == "right" and by in edits:
                raise ConflictError(
                    f"The question was corrected by the edit '{by}': undo that if the answer was right after all."
                )
            self._append({"marks": name, "mark": mark, "corrected_by": edit_id})
            return self.find(name)

    def find(self, name: str) -> dict[str, Any]:
        """One question.

        Raises:
            NotFoundError: It is not kept.
        """
        row = self.rows().get(name)
        if row is None:
            raise NotFoundError(f"There is no question '{name}' among those that are kept.")
        return row

    def picture(self, name: str) -> Image.Image:
        """The picture of a question; errors as for :meth:`find`."""
        path = self.folder / _PICTURES / f"{self.find(name)['picture']}.png"
        return load_image(path)

    def forget(self, erased: ErasedEdits) -> int:
        """Take out questions about pictures of erased edits, and those that their facts stood before.

        What a killed server left of keeping one goes, too: a picture of which no line tells, a file that was cut short.

        Returns:
            How many were taken out.

        Raises:
            UnavailableError: It cannot be written.
        """
        if not self.folder.is_dir():
            return 0
        with self._writing():
            rows = list(self.rows().values())
            rest = [row for row in rows if not _is_of(row, erased)]
            content = self._file.read_bytes() if self._file.is_file() else b""
            if len(rest) < len(rows) or erased.is_in(content):  # in a line that was cut short, or that counts no more
                self._rewrite(rest)
            pictures = [path for path in (self.folder / _PICTURES).iterdir() if path.is_file()]
            left = [path for path in pictures if path.name.removeprefix(".")[:64] in erased.pictures]
            for path in (*left, *self.folder.glob(f".{_FILE}.*.part")):
                remove(path)
        return len(rows) - len(rest)

    # ---- the file

    def _read(self) -> dict[str, dict[str, Any]]:
        rows: dict[str, dict[str, Any]] = {}
        for line in _lines(read_content(self._file, _MOST_BYTES)):
            _take_in(rows, line)
        return rows

    def _append(self, line: Mapping[str, Any]) -> None:
        rows = self.rows()
        with self._file.open("ab+") as file:
            # A line that was cut short (the disk was full) ends here, so that it costs no other.
            if file.tell() and not self._ends_well():
                file.write(b"\n")
            file.write(json.dumps(line).encode() + b"\n")
        _take_in(rows, line)
        self._known = self._stamp(), rows  # the file need not be read again

    def _ends_well(self) -> bool:
        with self._file.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        """Keep these questions alone, and the pictures that they have."""
        with write_atomically(self._file) as file:
            file.writelines(json.dumps(row).encode() + b"\n" for row in rows)
        names = {f"{row['picture']}.png" for row in rows}
        for path in (self.folder / _PICTURES).iterdir():
            if _NAME.fullmatch(path.name) and path.name not in names:
                remove(path)

    def _stamp(self) -> object:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            (self.folder / _PICTURES).mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._guard, FileLock(self.folder / _LOCK, timeout=30):
                yield
        except (OSError, TimeoutError) as error:
            raise UnavailableError(f"Questions cannot be kept in '{self.folder}' ({error}).") from error


def _take_in(rows: dict[str, dict[str, Any]], line: Mapping[str, Any]) -> None:
    """Let a line of the file count."""
    name = str(line.get("marks"))
    if name in rows:
        rows[name] = {**rows[name], "mark": line.get("mark"), "corrected_by": line.get("corrected_by")}
    elif isinstance(line.get("id"), str) and _NAME.fullmatch(f"{line.get('picture')}.png"):
        rows[line["id"]] = {"mark": None, "corrected_by": None, **line}


def _lines(content: bytes) -> Iterator[dict[str, Any]]:
    for raw in content.split(b"\n"):
        try:
            line = json.loads(raw) if raw else None
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict):
            yield line


def _is_of(row: Mapping[str, Any], erased: ErasedEdits) -> bool:
    if row.get("picture") in erased.pictures or row.get("corrected_by") in erased.ids:
        return True
    if not erased.ids.isdisjoint(row.get("edit_ids") or ()):
        return True
    return erased.is_in(json.dumps(row).encode())
