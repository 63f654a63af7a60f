import numpy as np
import torch

from distreid.data.loader import Augmentation, View, plain_batches, prefetch, training_batches
from distreid.data.sampling import PlainStream, plan_mixed
from distreid.data.transforms import normalize


class Coloured:
    """Image i of domain d has every pixel equal to 10 d + i."""

    def __init__(self, base: int) -> None:
        self.base = base

    def read(self, indices: np.ndarray, height: int, width: int) -> torch.Tensor:
        return torch.from_numpy((self.base + indices).astype(np.uint8))[:, None, None, None].expand(-1, 3, height, width).clone()


COLOURS = {"mean": (0.4, 0.5, 0.6), "std": (0.1, 0.2, 0.3)}
PLAIN = Augmentation(height=8, width=4, flip=0.5, pad=0, erase=0.0, **COLOURS)
FULL = Augmentation(height=8, width=4, flip=0.5, pad=2, erase=0.5, **COLOURS)


def test_each_image_comes_from_its_own_domain() -> None:
    plan = plan_mixed(PlainStream(10, [0]), PlainStream(10, [1]), 0, 8, 4)
    for step, batch in enumerate(training_batches([Coloured(0), Coloured(100)], plan, PLAIN, [0])):
        pixels = plan.index_SB[step] + 100 * plan.domain_SB[step]
        expected = normalize(torch.from_numpy(pixels.astype(np.uint8))[:, None, None, None].expand(-1, 3, 8, 4), **COLOURS)
        torch.testing.assert_close(batch.images_BCHW, expected)
        assert np.array_equal(batch.index_B, plan.index_SB[step])
        assert np.array_equal(batch.domain_B, plan.domain_SB[step])


def test_workers_together_see_what_one_sees() -> None:
    plan = plan_mixed(PlainStream(10, [0]), PlainStream(10, [1]), 0, 8, 4)
    domains = [Coloured(0), Coloured(100)]
    whole = list(training_batches(domains, plan, FULL, [7, 1]))
    parts = [list(training_batches(domains, plan, FULL, [7, 1], rank=rank, world=2)) for rank in range(2)]
    for one, halves in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(one.images_BCHW, torch.cat([half.images_BCHW for half in halves]))


def test_plain_batches_keep_the_order() -> None:
    view = View(Coloured(0), np.array([9, 3, 5, 1, 7]))
    out = torch.cat(list(plain_batches(view, slice(1, 5), 3, 8, 4, **COLOURS)))
    torch.testing.assert_close(out, normalize(Coloured(0).read(np.array([3, 5, 1, 7]), 8, 4), **COLOURS))


def test_prefetch_keeps_order_and_passes_errors_on() -> None:
    assert list(prefetch(lambda i: i * i, range(7))) == [i * i for i in range(7)]

    def broken(i: int) -> int:
        if i == 3:
            raise ValueError("three")
        return i

    seen = []
    try:
        for value in prefetch(broken, range(7)):
            seen.append(value)
    except ValueError:
        pass
    assert seen == [0, 1, 2]
