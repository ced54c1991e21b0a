"""A calibration: what unlabelled pictures like the user's say of one VLM (ours)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasonedit.codebook.disk.errors import DamagedError
from reasonedit.codebook.disk.files import is_there, write_atomically
from reasonedit.codebook.disk.tensors import digest_of, load_statistics, write_tensors
from reasonedit.embedding import Statistics, statistics_of, tensors_of
from reasonedit.errors import ConflictError, InputError, NotFoundError, ReasonEditError, UnavailableError
from reasonedit.util.regular import read_file
from reasonedit.util.strictjson import strict_json

from .record import CalibrationRecord

RECORD, TENSORS = "calibration.json", "calibration.safetensors"
FORMAT = 1
_MOST = 1 << 20
"""Bytes of a record."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What unlabelled pictures like the user's say of one VLM.

    Attributes:
        statistics: What they have in common in one layer, and how near they come to each other.
        record: What they were, and for what the statistics hold.
    """

    statistics: Statistics
    record: CalibrationRecord

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``calibration.json`` and ``calibration.safetensors`` into a folder, made where it is not there.

        Raises:
            ConflictError: There is a calibration already.
            UnavailableError: The folder cannot be written.
        """
        path, tensors = Path(folder), tensors_of(self.statistics)
        refuse_another(path)
        values = {"format": FORMAT, "record": self.record.to_dict(), "digest": digest_of(tensors)}
        text = json.dumps(values, ensure_ascii=False, indent=1)
        try:
            path.mkdir(parents=True, exist_ok=True)
            with write_atomically(path / TENSORS) as file:
                write_tensors(file, tensors)
            with write_atomically(path / RECORD) as file:  # what makes it count
                file.write(f"{text}\n".encode())
        except OSError as error:
            raise UnavailableError(
                f"The calibration cannot be written into '{path}' ({error.strerror or error}): name another folder."
            ) from error

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Calibration:
        """Read what :meth:`save` wrote.

        Raises:
            NotFoundError: There is no calibration.
            InputError: It is damaged, or of another version.
            UnavailableError: It must not be read.
        """
        path = Path(folder)
        if not is_there(path / RECORD):
            raise NotFoundError(f"There is no calibration in '{path}': it would hold a file {RECORD}.")
        try:
            values = strict_json(read_file(path / RECORD, _MOST, f"The calibration '{path / RECORD}'").decode())
            record, digest = _parse(values, path)
            statistics = statistics_of(load_statistics(path / TENSORS, digest))
        except InputError:
            raise
        except DamagedError as error:
            raise _damaged(path, f"{error.path.name}: {error.what}") from error
        except ReasonEditError:
            raise
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise _damaged(path, str(error)) from error
        if statistics is None:
            raise _damaged(path, f"{TENSORS} holds nothing")
        return cls(statistics, record)


def refuse_another(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder that holds a calibration, and what is no folder.

    Raises:
        ConflictError: It does.
        InputError: It is a file.
    """
    if is_there(Path(folder)) and not Path(folder).is_dir():
        raise InputError(f"'{folder}' is a file: name a folder for the calibration.")
    if is_there(Path(folder) / RECORD):
        raise ConflictError(f"There is a calibration in '{folder}' already: name another folder, or remove that one.")


def _parse(values: Any, folder: Path) -> tuple[CalibrationRecord, str]:
    if not isinstance(values, dict) or not isinstance(values.get("digest"), str):
        raise TypeError(f"{RECORD} is not what a calibration has there")
    if values.get("format") != FORMAT:
        raise InputError(
            f"The calibration in '{folder}' is of format {str(values.get('format'))[:20]}, this version reads "
            f"{FORMAT}: make a new one with 'reasonedit calibrate'."
        )
    return CalibrationRecord.from_dict(values["record"]), values["digest"]


def _damaged(folder: Path, what: str) -> InputError:
    return InputError(f"The calibration in '{folder}' is damaged ({what}): make it again with 'reasonedit calibrate'.")
