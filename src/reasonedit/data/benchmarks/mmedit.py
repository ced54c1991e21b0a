"""MMEdit as its authors publish it (arXiv 2310.08475): E-VQA and E-IC.

Files by the README of github.com/zjunlp/EasyEdit (``examples/MultimodalEdit.md``): ``editing-data/vqa/vqa_eval.json``
and ``editing-data/caption/caption_eval_edit.json``; the images are in ``val2014`` (COCO) and
``val2014_image_rephrase``.
"""

from __future__ import annotations

from typing import Any

from reasonedit.errors import InputError

from .places import find_file, find_images
from .rows import BenchmarkRows

_IMAGES = ("images", "editing-data/images")
_SPLITS = ("train", "eval")


class EVQA(BenchmarkRows):
    """E-VQA, of MMEdit: questions of VQA v2 that BLIP-2 got wrong.

    Rel, T-Gen (``rephrase``), I-Gen (``image_rephrase``), Loc (``m_loc``, from OK-VQA) and text Loc (``loc``, from
    Natural Questions); there is no reasoning, so that the answer is the only fact.

    Args:
        root: Folder of ``vqa_eval.json``, or the one that holds ``editing-data/vqa``.
        images: Folder of ``val2014`` and ``val2014_image_rephrase``; ``root``, or ``images`` in it, when not given.
        split: ``"train"`` or ``"eval"``.
        **options: As for :class:`~reasonedit.data.pool.Pool`.

    Raises:
        InputError: An argument is out of range.
        NotFoundError: The file is not there.
    """

    folder, file = "vqa", "vqa_{}.json"

    def __init__(self, root: str, images: str | None = None, split: str = "eval", **options: Any) -> None:
        if split not in _SPLITS:
            raise InputError(f"There is no split '{split}' of MMEdit: use {' or '.join(_SPLITS)}.")
        name = self.file.format(split)
        self.path = find_file(root, [name, f"{self.folder}/{name}", f"editing-data/{self.folder}/{name}"])
        self.images = find_images(root, images, _IMAGES)
        super().__init__(**options)


class EIC(EVQA):
    """E-IC, of MMEdit: captions of COCO; ``src`` asks for one, ``alt`` is the one that people wrote.

    As :class:`EVQA`. A caption is right here where it is the very one of the row, which no model says by itself: the
    share of tokens (``TokenAccuracy``) says more of it.
    """

    folder, file = "caption", "caption_{}_edit.json"
