"""MMKE-Bench as its authors publish it (arXiv 2502.19870).

Files by the README of github.com/mmke-bench-bigai/mmke-bench: ``data_json/entity/eval.json`` (its code also says
``data_json/entity_eval.json``) and so for ``visual`` and ``user``, with images in ``data_image``. Beside the columns of
MMEdit their loader (``easyeditor/dataset/coco_caption.py``) reads:

============================  =======================================================================================
``alt``                       the knowledge to be written, in free text
``m_rel_1``, ``m_rel_ans_1``  two questions about the picture (``m_rel_2`` the second; ``m_rel_1_ans`` in some rows);
                              of ``visual`` one, ``m_rel`` and ``m_rel_ans``
``image_rephrase_question``   of ``visual``, how that question is asked about ``image_rephrase``
``rel_1``, ``rel_ans_1``      questions without a picture about what was written
``port_new``                  portability in one step, as in VLKEB; of ``visual`` and ``user`` about ``one_hop_img``
============================  =======================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from reasonedit.errors import InputError
from reasonedit.validation import split_reasoning

from ..columns import read_text
from ..rows import Row
from ..sample import Sample
from .places import find_file, find_images
from .rows import BenchmarkRows, Planned
from .vlkeb import port_probe, ports_in

SUBSETS = ("entity", "visual", "user")
_SPLITS = ("train", "eval")


class MMKE(BenchmarkRows):
    """MMKE-Bench: visual entities, visual semantics, and what is of one user.

    The edit asks the first question about the picture; its reasoning is the knowledge, in sentences. I-Gen asks the
    same about ``image_rephrase``; R-Gen the second question, about both pictures; then Port-1 (``port_new``), Loc
    (``m_loc``) and text Loc (``loc``). What has no picture (``rel``) is not asked, as facts are found by pictures; nor
    are ``src`` and ``rephrase``, whose right answer is the whole text.

    Args:
        root: Folder of ``data_json`` and ``data_image``.
        images: Folder that the images' paths start from; ``data_image`` in ``root`` when not given.
        subset: ``"entity"``, ``"visual"`` or ``"user"``.
        split: ``"train"`` or ``"eval"``.
        **options: As for :class:`~reasonedit.data.pool.Pool`.

    Raises:
        InputError: An argument is out of range.
        NotFoundError: The file is not there.
    """

    def __init__(
        self, root: str, images: str | None = None, subset: str = "entity", split: str = "eval", **options: Any
    ) -> None:
        if subset not in SUBSETS or split not in _SPLITS:
            raise InputError(
                f"There is no '{subset}/{split}' of MMKE-Bench: use a subset of {', '.join(SUBSETS)} and a split of "
                f"{', '.join(_SPLITS)}."
            )
        places = [f"{subset}/{split}.json", f"{subset}_{split}.json"]
        self.path = find_file(root, [*(f"data_json/{place}" for place in places), *places])
        self.images = find_images(root, images, ["data_image"])
        self.subset = subset
        super().__init__(**options)

    def asked_of(self, row: Row) -> tuple[str, str]:
        """The first question about the picture."""
        if self.subset == "visual":
            return read_text(row, "m_rel"), read_text(row, "m_rel_ans", numbers=True)
        return read_text(row, "m_rel_1"), _answer(row, 1)

    def reasoning(self, row: Row, question: str, answer: str) -> list[str]:
        """The knowledge, in sentences."""
        return split_reasoning(read_text(row, "alt"))

    def planned(self, row: Row) -> Iterator[Planned]:
        """The probes of a row, as the class says."""
        question, answer = self.asked_of(row)
        again = "image_rephrase_question"
        yield Planned(
            "i_gen",
            (lambda: read_text(row, again)) if self.subset == "visual" else (lambda: question),
            lambda: answer,
            "image_rephrase",
        )
        if self.subset != "visual":
            second = Planned("r_gen", lambda: read_text(row, "m_rel_2"), lambda: _answer(row, 2))
            yield from (second, replace(second, image="image_rephrase"))
        yield from self.locality_of(row)
        for port in ports_in(row):
            yield port_probe(port, "port_1", ["1-hop"], "" if self.subset == "entity" else "one_hop_img")

    def remarks(self, samples: Mapping[str, Sample]) -> list[str]:
        """What is not asked."""
        return [
            f"Of {self.name} the questions without a picture about what is written (rel) are not asked, as facts are "
            "found by pictures; nor are src and rephrase, whose right answer is the whole text."
        ]


def _answer(row: Row, number: int) -> str:
    return read_text(row, f"m_rel_ans_{number}", f"m_rel_{number}_ans", numbers=True)
