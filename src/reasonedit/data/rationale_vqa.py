"""RationaleVQA: samples of A-OKVQA and FVQA with chains of thought, and the probes published with them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from reasonedit.errors import InputError, NotFoundError
from reasonedit.images import find_spelling, path_inside
from reasonedit.types import Edit
from reasonedit.validation import split_reasoning

from .chains import read_chains, without_conclusion
from .choices import right_choice
from .columns import read_text
from .pictures import picture_in
from .pool import Pool, check_image_folder
from .published_probes import FOLDERS, PublishedProbes
from .published_rows import files_of_subset, sample_id
from .repository import ENDINGS, Repository
from .rows import Row
from .sample import Sample
from .source import Probe

HUB_ID = "JJoy333/RationaleVQA"
SUBSETS = ("AOKVQA", "FVQA")


class RationaleVQA(Pool):
    """RationaleVQA, from the hub or from a local copy, as its authors' own loader reads it.

    ========================= ========================================================================================
    ``AOKVQA/*``, ``FVQA/*``  the samples, all splits: ``uid``, ``image_path``, ``question``, ``answer``, ``rationale``,
                              ``choices`` (one text with ``; `` between, or a list), ``idx_choices`` (lettered lines, or
                              the right one's number or letter); what two of these say must agree
    ``r_gen/cot/aokvqa.*``    chains of thought: ``uid``, ``reason``; also ``AOKVQA/r_gen/cot*``
    ``t_gen/aokvqa.*``        T-Gen: ``uid``, ``variants`` (the first five are asked) or ``question``
    ``r_gen/qa/aokvqa.*``     R-Gen: ``uid``, ``sid``, ``question``, ``answers`` (``right | wrong | wrong``; asked in an
                              order of the seed) or ``answer`` and ``choices``; where there is no ``image_path`` and no
                              painted picture ``r_gen/image/aokvqa/{sid}.png``, about the sample's own picture
    ``coe_gen/**``            CoE-Gen, in files ``{model}_aokvqa.*``: ``uid``, ``image_path``, or painted pictures
                              ``coe_gen_merge/image/aokvqa/{model}/{uid}/scenario_0.png`` to ``scenario_2.png``
    ========================= ========================================================================================

    Files are Parquet, JSONL, JSON or CSV. In probes ``question``, ``answer``, ``choices`` and ``image_path`` are the
    sample's where there are none. They are used where no ``probes`` are given, and are found by the edits' ``uid``;
    what cannot be used is counted in one warning. Pictures are looked for below ``images`` and below the root.

    The reasoning is the sample's chain of thought without its last sentence where that states the answer, or, for a
    sample that has no chain, its rationale; a warning says for how many.

    Args:
        subset: ``"AOKVQA"`` or ``"FVQA"``.
        images: Folder of the images: that of COCO 2017 (with ``train2017`` and the like), or of FVQA.
        root: Hub id, or a folder with the same folders as there.
        coe_model: Whose errors the published CoE-Gen probes are about, as their files are called; needed where there
            are those of several models.
        **options: As for :class:`~reasonedit.data.pool.Pool`.

    Raises:
        InputError: An argument is out of range, or there are no samples that can be used.
        NotFoundError: There is no such data set.
    """

    def __init__(
        self, subset: str, images: str, root: str = HUB_ID, coe_model: str | None = None, **options: Any
    ) -> None:
        if subset not in SUBSETS:
            raise InputError(f"There is no subset '{subset}' of RationaleVQA: use {' or '.join(SUBSETS)}.")
        self.subset, self.images = subset, Path(images).absolute()
        self.root = str(Path(root).absolute()) if Path(root).is_dir() else root
        self.coe_model = coe_model
        super().__init__(**options)

    @property
    def name(self) -> str:
        """Where it is from."""
        return f"'{self.root}' ({self.subset})"

    def remarks(self, samples: Mapping[str, Sample]) -> list[str]:
        """How many samples have no chain of thought."""
        chains, problems = self._chains_and_problems
        without = sum(name not in chains for name in samples)
        remarks = []
        if without and not chains:
            remarks.append(
                f"There are no chains of thought in '{self.root}' (r_gen/cot/{self.subset.lower()}.parquet): all "
                f"{without} samples have their rationale as reasoning."
            )
        elif without:
            remarks.append(f"{without} of {len(samples)} samples have no chain of thought: their rationale is used.")
        if problems:
            remarks.append(
                f"{len(problems)} rows of the chains of thought cannot be used (the first, {problems[0].rstrip('.')})."
            )
        return remarks

    def rows(self) -> Iterator[Row]:
        """The samples."""
        check_image_folder(self.images)
        paths = self._files.tables(self.subset)
        if not paths:
            raise NotFoundError(
                f"There are no samples of '{self.subset}' in '{self.root}': that folder must hold a file that ends in "
                f"{', '.join(ENDINGS)}."
            )
        for path in paths:
            yield from self._files.rows(path)

    def sample(self, row: Row) -> Sample:
        """One sample."""
        name = sample_id(row)
        chains, _ = self._chains_and_problems
        choices, answer = right_choice(row)
        if name in chains:
            reasoning = without_conclusion(chains[name], answer)
        else:
            rationale = row.values.get("rationale")
            texts = rationale if isinstance(rationale, list) else [read_text(row, "rationale")]
            reasoning = [s for text in texts for s in split_reasoning(text)]
        return Sample(
            name,
            self._image(row),
            read_text(row, "question"),
            answer,
            list(dict.fromkeys(reasoning)),
            choices,
        )

    def published_probes(self, edits: Sequence[Edit]) -> Mapping[str, list[Probe]]:
        """The probes that are published for edits."""
        return self._published.load(edits, self.samples)

    def unusable_probes(self, edits: Sequence[Edit]) -> Iterator[tuple[int, str]]:
        """Their rows that cannot be used, each with its number and why; all pictures are opened."""
        return self._published.problems(edits)

    @property
    def _published(self) -> PublishedProbes:
        paths = {
            group: files_of_subset(self._files.tables(folder, deep=group == "coe_gen"), self.subset, self._others)
            for group, folder in FOLDERS.items()
        }
        return PublishedProbes(self._files, paths, self.subset, self.coe_model, self._find_picture, self.seed)

    def _image(self, row: Row) -> Path | bytes:
        if row.values.get("image_path") is None and row.values.get("image") is not None:
            return picture_in(row.values["image"], self.images, "image")
        path = read_text(row, "image_path")
        name = PurePosixPath(path.replace("\\", "/")).name
        places = [path, *(f"{folder}/{name}" for folder in ("train2017", "val2017", "test2017"))]
        return next((file for place in places if (file := self._find_picture(place, 1))), self.images / name)

    def _find_picture(self, path: str, least: int) -> Path | None:
        """A picture by its published path: by all of it below a folder of pictures, else by its last parts."""
        parts = [part for part in PurePosixPath(path.replace("\\", "/")).parts if part not in ("/", ".")]
        if ".." in parts:
            raise InputError(f"The image path {path[:200]!r} leads out of its folder.")
        for i in range(len(parts) - least + 1):
            for folder in (self.images, self._files.folder):
                name = "/".join(parts[i:])
                if folder is not None and os.path.isfile(find_spelling(folder / name)):
                    return path_inside(folder, name)
        return None

    @property
    def _others(self) -> list[str]:
        return [subset for subset in SUBSETS if subset != self.subset]

    @cached_property
    def _files(self) -> Repository:
        return Repository(self.root)

    @cached_property
    def _chains_and_problems(self) -> tuple[dict[str, list[str]], list[str]]:
        in_subset = [p for p in self._files.tables(f"{self.subset}/r_gen") if PurePosixPath(p).name.startswith("cot")]
        in_subset += self._files.tables(f"{self.subset}/r_gen/cot")
        shared = files_of_subset(self._files.tables("r_gen/cot"), self.subset, self._others)
        return read_chains(row for path in [*shared, *in_subset] for row in self._files.rows(path, named=True))
