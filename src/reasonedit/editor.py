"""Edit and ask without Lightning."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from reasonedit.codebook import EditMemory
from reasonedit.codebook.memory import check_fingerprint
from reasonedit.design import Design
from reasonedit.edits import Answer, Edit, Query, Region
from reasonedit.embedding import statistics_of
from reasonedit.images import ImageSource
from reasonedit.method import Method, Written
from reasonedit.vlm import VLM, load_vlm


class ReasonEditor:
    """A frozen VLM that is corrected by human reasoning.

    Args:
        vlm: The VLM.
        design: How edits are embedded, grounded, written and fetched; when not given, for the embedded VLM what won on
            it, for any other the paper's.

    Example:
        >>> editor = ReasonEditor.from_pretrained("llava-hf/llava-1.5-7b-hf")  # doctest: +SKIP
        >>> editor.edit("photo.jpg", "What is it?", answer="a boomerang",
        ...             reasoning="It is curved and flat. It comes back when thrown.")  # doctest: +SKIP
        >>> editor.ask("other.jpg", "What is it?").text  # doctest: +SKIP
    """

    def __init__(self, vlm: VLM, design: Design | None = None) -> None:
        self.vlm = vlm
        self.method = Method(vlm, design)

    @property
    def memory(self) -> EditMemory:
        """The codebook."""
        return self.method.memory

    @classmethod
    def from_pretrained(
        cls, model: str, design: Design | None = None, *, dtype: str = "auto", **kwargs: Any
    ) -> ReasonEditor:
        """Load a VLM and start with an empty codebook.

        Args:
            model: Hub id, folder, or ``"embedded"``.
            design: As above.
            dtype: ``"auto"`` or the name of a torch type.
            **kwargs: Passed on to transformers, such as ``device_map``.

        Raises:
            ReasonEditError: The model cannot be had, or an argument is out of range.
        """
        return cls(load_vlm(model, dtype=dtype, place=True, **kwargs), design)

    def edit(
        self,
        image: ImageSource,
        question: str,
        *,
        answer: str,
        reasoning: str | Sequence[str],
        choices: Sequence[str] | None = None,
        evidence: Sequence[Sequence[Region] | None] = (),
    ) -> Edit:
        """Correct one answer.

        Args:
            image: The image asked about.
            question: The question that was answered wrongly.
            answer: The right answer.
            reasoning: Why it is right, one fact per sentence.
            choices: The choices of a multiple-choice question.
            evidence: For each sentence the regions it speaks of, as in :class:`~reasonedit.Edit`.

        Returns:
            The edit, with its id.

        Raises:
            ReasonEditError: Anything of it is unusable; nothing is stored then.
        """
        edit = Edit.of(image, question, answer, reasoning, choices, evidence)
        self.write(edit)
        return edit

    def write(self, edit: Edit) -> Written:
        """Write an edit that was made already.

        Returns:
            What became of it: how many keys are new, and the evidence of each sentence.

        Raises:
            ReasonEditError: An edit of this id is there already.
        """
        return self.method.write(edit)

    def ask(self, image: ImageSource, question: str, choices: Sequence[str] | None = None) -> Answer:
        """Answer a question, with the facts that bear on it.

        Raises:
            ReasonEditError: The image or the question is unusable.
        """
        return self.ask_batch([Query.of(image, question, choices)])[0]

    def ask_batch(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer several questions at once, each as :meth:`ask` does."""
        method = self.method
        questions, choices = [q.question for q in queries], [q.choices for q in queries]
        vision = method.embedder.see([q.image for q in queries])
        texts, found = method.prompts(vision, questions, method.retrieve(vision, questions), choices)
        answers = self.vlm.answer(vision, texts, choices)
        return [
            Answer(answer, r.hits, text, r.nearest, r.threshold, r.left_out)
            for answer, text, r in zip(answers, texts, found, strict=True)
        ]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the codebook into a folder (safetensors and JSON), with what is needed to load it again.

        Raises:
            ReasonEditError: The folder cannot be written.
        """
        config = {"model": self.vlm.name, "design": self.method.design.to_dict()}
        self.memory.save(folder, self.method.embedder.fingerprint, config, self.method.tensors)

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], vlm: VLM | None = None, *, dtype: str = "auto", **kwargs: Any
    ) -> ReasonEditor:
        """Go on with a saved codebook.

        Args:
            folder: Where it was saved.
            vlm: The VLM, when it is loaded already; else the one named in the folder is loaded.
            dtype: As in :meth:`from_pretrained`.
            **kwargs: As in :meth:`from_pretrained`.

        Raises:
            ReasonEditError: There is no codebook, it is damaged, or it was made with another model.
        """
        memory, fingerprint, config, tensors = EditMemory.load(folder)
        editor = cls.__new__(cls)
        editor.vlm = vlm or load_vlm(config["model"], dtype=dtype, place=True, **kwargs)
        design = Design.from_dict(config["design"])
        editor.method = Method(editor.vlm, design, memory, statistics=statistics_of(tensors))
        check_fingerprint(fingerprint, editor.method.embedder.fingerprint, folder)
        return editor
