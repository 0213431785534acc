import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.fusion import RankedList, fuse_rankings

rankings = st.lists(
    st.builds(
        RankedList,
        st.lists(st.integers(0, 20), unique=True, max_size=12),
        st.sampled_from([0.1, 0.3, 1.0, 1.5]),
    ),
    max_size=5,
)


def test_the_score_is_the_sum_of_weighted_reciprocal_ranks() -> None:
    fused = fuse_rankings([RankedList(["a", "b"]), RankedList(["b", "c"], weight=0.5)], k=60)
    assert fused == pytest.approx({"a": 1 / 61, "b": 1 / 62 + 0.5 / 61, "c": 0.5 / 62})


@given(rankings.flatmap(lambda lists: st.tuples(st.just(lists), st.permutations(lists))))
def test_fusion_ignores_the_order_of_its_lists(orders: tuple[list[RankedList[int]], list[RankedList[int]]]) -> None:
    assert fuse_rankings(orders[0]) == fuse_rankings(orders[1])


@given(rankings)
def test_everything_in_a_list_is_in_the_fusion(lists: list[RankedList[int]]) -> None:
    assert fuse_rankings(lists).keys() == {item for ranked in lists for item in ranked.items}


@given(rankings, st.integers(0, 20))
def test_one_more_list_that_ranks_something_first_never_harms_it(lists: list[RankedList[int]], item: int) -> None:
    before = fuse_rankings(lists).get(item, 0.0)
    assert fuse_rankings([*lists, RankedList([item])])[item] > before


@given(st.lists(st.integers(), unique=True, min_size=1))
def test_a_single_list_keeps_its_order(items: list[int]) -> None:
    fused = fuse_rankings([RankedList(items)])
    assert sorted(fused, key=lambda item: -fused[item]) == items
