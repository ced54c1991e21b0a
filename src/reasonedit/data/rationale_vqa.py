"""RationaleVQA: samples of A-OKVQA and FVQA with chains of thought."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from reasonedit.edits import split_reasoning
from reasonedit.errors import ReasonEditError, needed
from reasonedit.metrics import normalise

from .pool import Pool, Sample, chosen, folder_of_images, text_of
from .rows import Row, read_rows

HUB_ID = "JJoy333/RationaleVQA"
SUBSETS = ("AOKVQA", "FVQA")
_LOADERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
_log = logging.getLogger(__name__)


class RationaleVQA(Pool):
    """RationaleVQA, from the hub or from a local copy.

    The reasoning is the sample's chain of thought without its last sentence where that states the answer, or, for a
    sample that has no chain, its rationale.

    Args:
        subset: ``"AOKVQA"`` or ``"FVQA"``.
        images: Folder of the images: that of COCO 2017 (with ``train2017`` and the like), or of FVQA.
        root: Hub id, or a folder with the same folders as there.
        **options: As for :class:`~reasonedit.data.pool.Pool`.

    Raises:
        ReasonEditError: An argument is out of range, the data cannot be had, or a row cannot be used.
    """

    def __init__(self, subset: str, images: str, root: str = HUB_ID, **options: Any) -> None:
        if subset not in SUBSETS:
            raise ReasonEditError(f"There is no subset '{subset}' of RationaleVQA: use {' or '.join(SUBSETS)}.")
        self.subset, self.images, self.root = subset, Path(images), root
        super().__init__(**options)

    @cached_property
    def samples(self) -> dict[str, Sample]:
        """See :attr:`Pool.samples`; says how many have no chain of thought."""
        samples = super().samples
        without = sum(name not in self._chains for name in samples)
        if without and self._chains:
            _log.warning("%d of %d samples have no chain of thought: their rationale is used.", without, len(samples))
        return samples

    @property
    def name(self) -> str:
        """Where it is from."""
        return f"'{self.root}' ({self.subset})"

    def rows(self) -> Iterator[Row]:
        """The samples."""
        folder_of_images(self.images)
        datasets = needed("datasets", "data")
        paths = [p for p in self._files.under(self.subset) if PurePosixPath(p).suffix in _LOADERS]
        if not paths:
            raise ReasonEditError(
                f"There are no samples of '{self.subset}' in '{self.root}': that folder must hold a JSON, JSONL, "
                "Parquet or CSV file."
            )
        local = [self._files.local(p) for p in paths]
        try:
            parts = [datasets.load_dataset(_LOADERS[p.suffix], data_files=str(p), split="train") for p in local]
            table = datasets.concatenate_datasets(parts)
        except Exception as error:  # the library has many, with no base of its own
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ReasonEditError(f"The samples in '{self.root}' cannot be read: {reason}") from error
        for number, values in enumerate(table, 1):
            yield Row(number, dict(values))

    def sample(self, row: Row) -> Sample:
        """One sample."""
        name = _name(row)
        choices, answer = chosen(_choices(row.values.get("choices")), row.values.get("idx_choices"))
        answer = answer or text_of(row, "answer")
        if name in self._chains:
            reasoning = without_conclusion(self._chains[name], answer)
        else:
            told = row.values.get("rationale")
            texts = told if isinstance(told, list) else [text_of(row, "rationale")]
            reasoning = [s for text in texts for s in split_reasoning(text)]
        return Sample(
            name,
            self._image(text_of(row, "image_path")),
            text_of(row, "question"),
            answer,
            list(dict.fromkeys(reasoning)),
            choices,
        )

    def _image(self, path: str) -> Path:
        """By its whole path below the images' folder, else by its last parts, also in the folders of COCO."""
        parts = PurePosixPath(path.replace("\\", "/")).parts
        ways = [self.images.joinpath(*parts[i:]) for i in range(len(parts)) if parts[i] != "/"]
        ways += [self.images / folder / parts[-1] for folder in ("train2017", "val2017", "test2017")]
        return next((way for way in ways if way.is_file()), ways[0])

    @cached_property
    def _files(self) -> _Files:
        return _Files(self.root)

    @cached_property
    def _chains(self) -> dict[str, list[str]]:
        chains: dict[str, list[str]] = {}
        for path in self._files.under(f"{self.subset}/r_gen"):
            if not PurePosixPath(path).name.startswith("cot"):
                continue
            for row in read_rows(self._files.local(path), named=True):
                if row.problem:
                    raise ReasonEditError(
                        f"Row {row.number} of '{path}' in '{self.root}' cannot be used: {row.problem}."
                    )
                told = row.values.get("cot", row.values.get("value"))
                if isinstance(told, str):
                    told = split_reasoning(told)
                if not isinstance(told, list):
                    raise ReasonEditError(f"Row {row.number} of '{path}' cannot be used: 'cot' is missing.")
                chains[_name(row)] = [str(s) for s in told]
        return chains


class _Files:
    """The files of a data set, in a folder or on the hub."""

    def __init__(self, root: str) -> None:
        self.folder = Path(root) if Path(root).is_dir() else None
        self.root = root
        if self.folder is not None:
            self.paths = sorted(p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file())
            return
        from huggingface_hub import list_repo_files

        try:
            self.paths = sorted(list_repo_files(root, repo_type="dataset"))
        except (OSError, ValueError) as error:  # the hub's errors are OSErrors, those of names ValueErrors
            raise ReasonEditError(
                f"There is no data set '{root}': give a folder, or a hub id that can be reached."
            ) from error

    def under(self, folder: str) -> list[str]:
        """Paths of the files in a folder, not of those in folders of it."""
        return [p for p in self.paths if PurePosixPath(p).parent.as_posix() == folder]

    def local(self, path: str) -> Path:
        """A file on this machine."""
        if self.folder is not None:
            return self.folder / path
        from huggingface_hub import hf_hub_download

        try:
            return Path(hf_hub_download(self.root, path, repo_type="dataset"))
        except (OSError, ValueError) as error:
            raise ReasonEditError(
                f"'{path}' of '{self.root}' cannot be fetched: {str(error).splitlines()[0]}"
            ) from error


def without_conclusion(chain: Sequence[str], answer: str) -> list[str]:
    """A chain of thought without its last sentence, where that states the answer and is not all there is.

    >>> without_conclusion(["It is a kettle.", "It boils water.", "So the answer is tea."], "tea")
    ['It is a kettle.', 'It boils water.']
    >>> without_conclusion(["It is a kettle.", "Kettles are metal."], "tea")
    ['It is a kettle.', 'Kettles are metal.']
    """
    stated = len(chain) > 1 and f" {normalise(answer)} " in f" {_plain(chain[-1])} "
    return list(chain[:-1] if stated else chain)


def _plain(sentence: str) -> str:
    return " ".join("".join(c if c.isalnum() or c in "'-" else " " for c in sentence.lower()).split())


def _name(row: Row) -> str:
    value = row.values.get("uid", row.values.get("id"))
    if value is None or not str(value).strip():
        raise ReasonEditError("'uid' is missing or empty.")
    return str(value)


def _choices(value: Any) -> Any:
    """A list of choices; a CSV file has it as text."""
    if isinstance(value, str) and value.strip():
        import ast

        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError) as error:
            raise ReasonEditError(f"'choices' is no list: {value!r}.") from error
    return value
