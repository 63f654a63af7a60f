import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distreid.common.errors import UserError
from distreid.data.sampling import PKStream, PlainStream, make_stream, plan_mixed, plan_one, shard


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
