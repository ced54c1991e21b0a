"""Edit and ask without Lightning."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from reasonedit.codebook import EditMemory, entries_of
from reasonedit.codebook.memory import check_fingerprint
from reasonedit.edits import Answer, Edit, Query
from reasonedit.embedding import DualEmbedder, EmbeddingConfig
from reasonedit.images import ImageSource
from reasonedit.retrieval import DEFAULT_K, DEFAULT_PERCENTILE, FactRetriever, with_facts
from reasonedit.vlm import VLM, load_vlm


class ReasonEditor:
    """A frozen VLM that is corrected by human reasoning.

    Args:
        vlm: The VLM.
        embedding: How images and texts are embedded.
        k: Number of nearest keys whose facts come before a question.
        percentile: p of the rejection gate.

    Example:
        >>> editor = ReasonEditor.from_pretrained("llava-hf/llava-1.5-7b-hf")  # doctest: +SKIP
        >>> editor.edit("photo.jpg", "What is it?", answer="a boomerang",
        ...             reasoning="It is curved and flat. It comes back when thrown.")  # doctest: +SKIP
        >>> editor.ask("other.jpg", "What is it?").text  # doctest: +SKIP
    """

    def __init__(
        self,
        vlm: VLM,
        embedding: EmbeddingConfig | None = None,
        *,
        k: int = DEFAULT_K,
        percentile: float = DEFAULT_PERCENTILE,
    ) -> None:
        self.vlm = vlm
        self.embedder = DualEmbedder(vlm, embedding)
        self.retriever = FactRetriever(EditMemory(), k, percentile)

    @property
    def memory(self) -> EditMemory:
        """The codebook."""
        return self.retriever.memory

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        embedding: EmbeddingConfig | None = None,
        *,
        k: int = DEFAULT_K,
        percentile: float = DEFAULT_PERCENTILE,
        dtype: str = "auto",
        **kwargs: Any,
    ) -> ReasonEditor:
        """Load a VLM and start with an empty codebook.

        Args:
            model: Hub id, folder, or ``"embedded"``.
            embedding: How images and texts are embedded.
            k: Number of nearest keys.
            percentile: p of the rejection gate.
            dtype: ``"auto"`` or the name of a torch type.
            **kwargs: Passed on to transformers, such as ``device_map``.

        Raises:
            ReasonEditError: The model cannot be had, or an argument is out of range.
        """
        return cls(load_vlm(model, dtype=dtype, place=True, **kwargs), embedding, k=k, percentile=percentile)

    def edit(
        self,
        image: ImageSource,
        question: str,
        *,
        answer: str,
        reasoning: str | Sequence[str],
        choices: Sequence[str] | None = None,
    ) -> Edit:
        """Correct one answer.

        Args:
            image: The image asked about.
            question: The question that was answered wrongly.
            answer: The right answer.
            reasoning: Why it is right, one fact per sentence.
            choices: The choices of a multiple-choice question.

        Returns:
            The edit, with its id.

        Raises:
            ReasonEditError: Anything of it is unusable; nothing is stored then.
        """
        edit = Edit.of(image, question, answer, reasoning, choices)
        self.write(edit)
        return edit

    def write(self, edit: Edit) -> int:
        """Write an edit that was made already.

        Returns:
            How many keys are new.

        Raises:
            ReasonEditError: An edit of this id is there already.
        """
        texts = [text for text, _ in entries_of(edit)]
        vision = self.embedder.see([edit.image])
        return self.memory.write(edit, self.embedder.embed(vision.select([0] * len(texts)), texts))

    def ask(self, image: ImageSource, question: str, choices: Sequence[str] | None = None) -> Answer:
        """Answer a question, with the facts that bear on it.

        Raises:
            ReasonEditError: The image or the question is unusable.
        """
        return self.ask_batch([Query.of(image, question, choices)])[0]

    def ask_batch(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer several questions at once, each as :meth:`ask` does."""
        vision = self.embedder.see([q.image for q in queries])
        found = self.retriever.retrieve(self.embedder.embed(vision, [q.question for q in queries]))
        clean = self.vlm.clean
        texts = [with_facts([clean(f) for f in r.facts], q.question) for r, q in zip(found, queries, strict=True)]
        answers = self.vlm.answer(vision, texts, [q.choices for q in queries])
        return [
            Answer(answer, r.hits, text, r.nearest, r.threshold)
            for answer, text, r in zip(answers, texts, found, strict=True)
        ]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the codebook into a folder (safetensors and JSON), with what is needed to load it again.

        Raises:
            ReasonEditError: The folder cannot be written.
        """
        config = {"model": self.vlm.name, "k": self.retriever.k, "percentile": self.retriever.gate.percentile}
        self.memory.save(folder, self.embedder.fingerprint, config)

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
        memory, fingerprint, config = EditMemory.load(folder)
        embedding = EmbeddingConfig(fingerprint["layer"], fingerprint["text_weight"], fingerprint["encoder"])
        editor = cls(
            vlm or load_vlm(config["model"], dtype=dtype, place=True, **kwargs),
            embedding,
            k=config["k"],
            percentile=config["percentile"],
        )
        check_fingerprint(fingerprint, editor.embedder.fingerprint, folder)
        editor.retriever.memory = memory
        return editor
