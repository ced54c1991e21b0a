"""How evidence is sought."""

from __future__ import annotations

from dataclasses import dataclass

from reasonedit.errors import InputError

from .windows import check_grid


@dataclass(frozen=True)
class EvidenceConfig:
    """How evidence is sought; the defaults are the paper's (arXiv 2602.02408).

    Attributes:
        grid: Windows of several sizes are cut out on a grid of 3 x 3 or 4 x 4. Where one is kept for each sentence they
            are the nine thirds of the picture, whatever the grid.
        p_yes: A window counts if the VLM affirms the sentence of it with more than this probability.
        single_window: One window is kept for each sentence (ours; see
            :func:`~reasonedit.evidence.choice.keep_single_windows`); for one that the VLM affirms of none, only if its
            probability is above this somewhere. The two routes of section 2 are taken when it is not given.
        top: Number of windows of any size that are kept by their likelihood.
        shortlist: Only so many windows per sentence are verified, those that an open_clip model ranks first; all when
            not given.
        clip: The open_clip model: an architecture, a colon and the name or the file of its weights.

    Raises:
        InputError: A value is out of range.
    """

    grid: int = 3
    p_yes: float = 0.5
    single_window: float | None = None
    top: int = 1
    shortlist: int | None = None
    clip: str = "ViT-B-32:laion2b_s34b_b79k"

    def __post_init__(self) -> None:
        check_grid(self.grid)
        if not 0 <= self.p_yes < 1:
            raise InputError(f"p_yes must be at least 0 and below 1, not {self.p_yes}.")
        if self.single_window is not None and not 0 <= self.single_window < 1:
            raise InputError(f"single_window must be at least 0 and below 1, not {self.single_window}.")
        if self.top < 0:
            raise InputError(f"top must be 0 or more, not {self.top}.")
        if self.shortlist is not None and self.shortlist < 1:
            raise InputError(f"shortlist must be 1 or more, not {self.shortlist}.")

    @property
    def in_use(self) -> tuple[object, ...]:
        """The settings that decide which windows are kept, without those that the others leave idle."""
        kept = (self.grid, self.top) if self.single_window is None else (self.single_window,)
        ranked = () if self.shortlist is None else (self.shortlist, self.clip)
        return (self.p_yes, kept, ranked)
