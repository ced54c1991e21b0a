"""The codebook: what is written, joined, kept and refused."""

import numpy as np
import pytest
import torch
from helpers.tiny import picture
from PIL import Image

from reasonedit import Edit, ReasonEditError
from reasonedit.codebook import EditMemory, Entry, Fact, augment, check_fingerprint, overlap
from reasonedit.codebook.neighbours import NeighbourSearch
from reasonedit.kinds import KeyKind


def edit(number: int = 0, **changes) -> Edit:
    values = {"question": "What is it?", "answer": "a kettle", "reasoning": ["It has a spout.", "It boils water."]}
    values |= {"id": f"e{number}"} | changes
    return Edit(image=picture(number), **values)


def keys(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))


def entries(written_edit: Edit, rows: torch.Tensor, radius: float = 0.0) -> list[Entry]:
    texts = [(written_edit.answer_fact, "answer"), *((s, "image") for s in written_edit.reasoning)]
    return [Entry(row, radius, Fact(t, e, written_edit.id)) for row, (t, e) in zip(rows, texts, strict=True)]


def write(memory: EditMemory, written_edit: Edit, rows: torch.Tensor, radius: float = 0.0) -> int:
    return memory.write(written_edit, entries(written_edit, rows, radius))


def test_exact_duplicates_join_and_near_ones_do_not():
    memory, rows = EditMemory(), keys(3)
    assert write(memory, edit(0), rows) == 3
    # The same keys with another answer: no new key, one new fact under the first.
    assert write(memory, edit(1, answer="a teapot"), rows) == 0
    assert [f.text for f in memory.entries[0]] == [
        "The answer to 'What is it?' is a kettle.",
        "The answer to 'What is it?' is a teapot.",
    ]
    assert [len(e) for e in memory.entries] == [2, 1, 1]
    moved = rows.clone()
    moved[1, 0] += 1e-6
    assert write(memory, edit(2), moved) == 1


def merge_by_hand(rows, radii, kinds, across_kinds):
    """Merging by a plain loop: into the first key that qualifies; as it was, into the nearest one of the same kind."""
    merged = []
    for number, (x, a, kind) in enumerate(zip(rows, radii, kinds, strict=True)):
        near = [(float((x - y).norm()), i) for i, (y, *_) in enumerate(merged)]
        if not across_kinds:
            near = sorted(pair for pair in near if merged[pair[1]][2] == kind)
        for d, i in near:
            y, b, kind_of_key, values = merged[i]
            if d == 0 or (d < 0.1 * a and d < 0.1 * b) or (d < 0.3 and sample_overlap(a, b, d, 500) > 0.9):
                merged[i] = (y, max(b, d + a), kind_of_key, [*values, number])
                break
        else:
            merged.append((x, a, kind, [number]))
    return merged


def sample_overlap(a, b, d, steps=1500):
    """Area that two circles share as a share of the larger one's, by counting points of a grid."""
    import numpy as np

    large = max(a, b)
    x, y = np.meshgrid(np.linspace(-large, large, steps), np.linspace(-large, large, steps))
    inside = x * x + y * y <= large**2
    other = (x - d) ** 2 + y * y <= min(a, b) ** 2
    return float((inside & other).sum() / inside.sum())


@pytest.mark.parametrize(
    ("a", "b", "d"), [(1, 1, 0.1), (1, 1, 0.157), (1, 0.97, 0.05), (2, 0.3, 1.8), (1, 1, 2.5), (1, 3, 0)]
)
def test_overlap_is_the_shared_area(a, b, d):
    assert overlap(a, b, d) == pytest.approx(sample_overlap(a, b, d), abs=2e-3)
    assert overlap(b, a, d) == pytest.approx(overlap(a, b, d))


@pytest.mark.parametrize("across_kinds", [True, False])
def test_keys_merge_as_a_plain_loop_merges_them(across_kinds):
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(8, 6, generator=generator)
    # Around each centre some keys at distances below, at and above what merges, with radii that differ.
    spread = torch.rand(120, 1, generator=generator) * 0.2
    rows = (
        centres.repeat(15, 1) + torch.nn.functional.normalize(torch.randn(120, 6, generator=generator), dim=1) * spread
    )
    radii = (0.6 + 0.5 * torch.rand(120, generator=generator)).tolist()
    rows[100:] = rows[20:40]  # some are the same as earlier ones
    kinds = ["image", "patch", "answer"] * 40
    memory = EditMemory(across_kinds=across_kinds)
    for i, (row, radius, kind) in enumerate(zip(rows, radii, kinds, strict=True)):
        memory.write(edit(i), [Entry(row, radius, Fact(f"{i}", kind, f"e{i}"))])
    expected = merge_by_hand(rows, radii, kinds, across_kinds)
    assert 8 <= len(expected) < 100
    assert torch.equal(memory.keys, torch.stack([y for y, *_ in expected]))
    assert memory.radii.tolist() == pytest.approx([b for _, b, _, _ in expected], rel=1e-5)
    assert [[int(f.text) for f in facts] for facts in memory.entries] == [v for *_, v in expected]
    # Each fact keeps the kind under which it was written.
    assert all(f.kind == kinds[int(f.text)] for facts in memory.entries for f in facts)
    assert any(len({f.kind for f in facts}) > 1 for facts in memory.entries) == across_kinds
    held = [{kinds[v] for v in values} for *_, values in expected]
    masks = memory.kinds_held[memory.numbers.numpy()].tolist()
    assert masks == [sum(1 << KeyKind(kind).number for kind in of_key) for of_key in held]


def test_without_merging_near_keys_stay_apart():
    memory, row = EditMemory(merge=False), keys(1)
    for i in range(3):
        memory.write(edit(i), [Entry(row[0] + i * 1e-3, 10.0, Fact("x", "image", f"e{i}"))])
    assert len(memory) == 3


def test_a_neighbourhood_misses_nothing():
    rows = torch.randn(500, 40, generator=torch.Generator().manual_seed(0))
    near = NeighbourSearch()
    for size in (1, 3, 200, 500):
        near.update(rows[:size])
        for query in (rows[0], rows[0] + 0.1, torch.zeros(40)):
            every = (rows[:size] - query).norm(dim=1)
            for distance in (0.0, 0.7, 6.0, 9.0):
                found = set(near.within(query, distance).tolist())
                assert set((every <= distance).nonzero()[:, 0].tolist()) <= found


def test_an_augmented_copy_has_a_border_and_is_the_same_for_the_same_seed():
    import random

    image = Image.new("RGB", (100, 60), (200, 30, 30))
    image.paste((20, 40, 200), (0, 0, 50, 60))
    copy = augment(image, random.Random(3))
    again = augment(image, random.Random(3))
    assert copy.size == image.size
    assert copy.tobytes() == again.tobytes() != image.tobytes()


@pytest.mark.parametrize("seed", range(4))
def test_an_augmented_copy_shows_the_image_on_nine_tenths_of_its_area(seed):
    import random

    noise = np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)
    copy = np.asarray(augment(Image.fromarray(noise), random.Random(seed))).astype(int)
    # Within a block of the mosaic border neighbours are equal, within the noise they are not.
    changing = (np.abs(np.diff(copy, axis=1)).sum(2) > 0).mean()
    assert 0.7 < changing < 0.95  # the rotation shows some more of the border in the corners


def test_keys_stay_in_order_while_the_buffer_grows():
    memory, written = EditMemory(), []
    for i in range(90):
        written.append(keys(3, seed=i))
        write(memory, edit(i), written[-1])
    assert torch.equal(memory.keys, torch.cat(written))
    assert len(memory) == 270
    assert list(memory.edits) == [f"e{i}" for i in range(90)]


def test_keys_written_in_inference_mode_are_ordinary_tensors():
    memory = EditMemory()
    with torch.inference_mode():
        write(memory, edit(), keys(3) * 1)
    assert not memory.keys.is_inference()


def test_an_id_cannot_come_twice_and_widths_must_agree():
    memory = EditMemory()
    write(memory, edit(), keys(3))
    with pytest.raises(ReasonEditError, match="edit 'e0' in the codebook already"):
        write(memory, edit(), keys(3, seed=1))
    with pytest.raises(ReasonEditError, match="Keys of 4 and 5 numbers cannot stand in one codebook"):
        write(memory, edit(1), torch.zeros(3, 4))
    assert len(memory) == 3


def test_another_model_is_refused_with_what_differs():
    with pytest.raises(ReasonEditError, match=r"layer: stored 'a', now 'b'"):
        check_fingerprint({"keys_made": 2, "layer": "a"}, {"keys_made": 2, "layer": "b"}, "book")
    check_fingerprint({"keys_made": 2, "layer": "a"}, {"keys_made": 2, "layer": "a"}, "book")
    sums = [{"keys_made": 2, "vision_weights": 16 * "0a"}, {"keys_made": 2, "vision_weights": 16 * "0b"}]
    with pytest.raises(ReasonEditError, match=r"setting \(another vision weights\)"):
        check_fingerprint(*sums, "book")
    with pytest.raises(ReasonEditError, match=r"'book' is of an earlier version.*'reasonedit codebook migrate'"):
        check_fingerprint({"architecture": "A", "weights": "0", "layer": "a"}, sums[0], "book")
