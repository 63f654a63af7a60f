import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distreid.common.errors import UserError
from distreid.data.sampling import BalancedStream, PKStream, PlainStream, make_stream, plan_mixed, plan_one, shard


@given(st.integers(1, 40), st.integers(0, 100), st.integers(1, 90))
def test_a_stream_is_its_passes_one_after_another(n: int, start: int, count: int) -> None:
    stream = PlainStream(n, [3])
    whole = np.concatenate([stream.draw_pass(k) for k in range((start + count) // n + 1)])
    assert np.array_equal(stream.take(start, count), whole[start : start + count])
    assert sorted(stream.draw_pass(2)) == list(range(n))


def test_passes_and_seeds_differ() -> None:
    assert not np.array_equal(PlainStream(50, [0]).draw_pass(0), PlainStream(50, [0]).draw_pass(1))
    assert not np.array_equal(PlainStream(50, [0]).draw_pass(0), PlainStream(50, [1]).draw_pass(0))


def test_pk_keeps_identities_together_and_shows_every_image() -> None:
    labels = np.array([5, 1, 5, 5, 1, 2, 9, 9, 9, 9, 9, 2, 2, 2])
    stream = PKStream(labels, 4, [0])
    rows = stream.draw_pass(0)
    assert len(rows) == stream.length == 4 * (1 + 1 + 1 + 2)
    assert set(rows) == set(range(len(labels)))
    chunks = labels[rows].reshape(-1, 4)
    assert (chunks == chunks[:, :1]).all()
    assert sorted(chunks[:4, 0]) == [1, 2, 5, 9], "every identity once before any comes again"
    assert isinstance(make_stream(labels, "pk", 4, [0]), PKStream)


SIZES, PLACES = st.lists(st.integers(1, 30), min_size=2, max_size=4), st.integers(0, 30)


@settings(deadline=None, max_examples=50)
@given(SIZES, st.integers(1, 4), st.booleans(), PLACES, PLACES)
def test_balanced_sets_take_turns(sizes: list[int], instances: int, pk: bool, start: int, count: int) -> None:
    """Against a loop that asks the sets' own streams in turn, one image (pk: one identity's images) at a time."""
    rng = np.random.default_rng(len(sizes))
    sets = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    labels = sets * 100 + rng.integers(0, 5, len(sets))
    stream = make_stream(labels, "pk" if pk else "plain", instances, [7], sets)
    chunk = instances if pk else 1
    own = []
    for number in range(len(sizes)):
        rows = np.flatnonzero(sets == number)
        alone = PKStream(labels[rows], instances, [7, number]) if pk else PlainStream(len(rows), [7, number])
        own.append(rows[np.concatenate([alone.draw_pass(k) for k in range(40)])].tolist())
    assert stream.length == len(sizes) * max(
        sum(-(-int(n) // instances) * instances for n in np.unique(labels[sets == number], return_counts=True)[1]) if pk else size
        for number, size in enumerate(sizes)
    )
    expected: list[int] = []
    while len(expected) < start + count:
        for queue in own:
            expected += [queue.pop(0) for _ in range(chunk)]
    taken = stream.take(start, count)
    assert taken.tolist() == expected[start : start + count]
    counts = [int((sets[taken] == number).sum()) for number in range(len(sizes))]
    assert max(counts) - min(counts) <= chunk


@pytest.mark.parametrize("sampler", ["plain", "pk"])
def test_each_batchnorm_group_is_balanced_and_no_image_is_left_out(sampler: str) -> None:
    """Sets of 40, 8 and 8 images: an epoch shows every one of them, and the small ones five times."""
    sets = np.repeat([0, 1, 2], [40, 8, 8])
    source = make_stream(np.arange(56) // 2, sampler, 2, [0], sets)
    plan = plan_mixed(source, PlainStream(120, [1]), epoch=0, batch=24, group=12)
    assert isinstance(source, BalancedStream) and source.length == len(plan) * 12 == 120
    for group in plan.index_SB.reshape(-1, 12):
        assert np.bincount(sets[group[:6]]).tolist() == [2, 2, 2]
    shown = np.bincount(plan.index_SB[plan.domain_SB == 0], minlength=56)
    assert shown.tolist() == [1] * 40 + [5] * 16


def test_a_plan_of_one_domain() -> None:
    plan = plan_one(PlainStream(20, [0]), epoch=1, batch=6)
    assert plan.index_SB.shape == (3, 6) and (plan.domain_SB == 0).all()
    assert not np.array_equal(plan.index_SB, plan_one(PlainStream(20, [0]), epoch=0, batch=6).index_SB)
    assert len(plan_one(PlainStream(4, [0]), 0, 6)) == 1, "a set smaller than the batch repeats"


def test_every_batchnorm_group_is_half_source_half_target() -> None:
    plan = plan_mixed(PlainStream(11, [0]), PlainStream(40, [1]), epoch=0, batch=16, group=4)
    assert len(plan) == 5
    assert (plan.domain_SB.reshape(5, 4, 4).sum(2) == 2).all()
    target = plan.index_SB[plan.domain_SB == 1]
    assert sorted(target) == list(range(40)), "an epoch is one pass over the target"
    assert np.array_equal(np.sort(np.bincount(plan.index_SB[plan.domain_SB == 0])), np.sort(np.bincount(np.arange(40) % 11)))


def test_groups_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(UserError, match="groups of 3"):
        plan_mixed(PlainStream(9, [0]), PlainStream(9, [1]), 0, 9, 3)


@given(st.integers(0, 1000), st.integers(1, 17))
def test_shards_cover_everything_once_in_order(n: int, world: int) -> None:
    parts = [np.arange(n)[shard(n, rank, world)] for rank in range(world)]
    assert np.array_equal(np.concatenate(parts), np.arange(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_random_numbers_of_a_seed_stay_as_they_are() -> None:
    """numpy may change what ``default_rng`` draws; a run of this seed would become another."""
    assert PlainStream(8, [0, 1]).draw_pass(2).tolist() == [7, 5, 1, 4, 0, 3, 6, 2]
