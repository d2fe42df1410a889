"""What fits a model's context: passages in rank order, the latest turns of a conversation. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ragstack.generation.base import Turn


def pack(costs: Sequence[int], budget: int) -> list[int]:
    """Which of several parts, given with their tokens in rank order, fit ``budget`` tokens, by index.

    Each is taken that still fits; one that does not makes room for a shorter one of lower rank.
    """
    taken: list[int] = []
    for index, cost in enumerate(costs):
        if cost <= budget:
            taken.append(index)
            budget -= cost
    return taken


def pack_widened(costs: Sequence[int], whole_costs: Sequence[int], budget: int) -> list[tuple[int, bool]]:
    """Like :func:`pack`, for parts that may be shown whole: pairs of an index and whether the whole fits, too.

    As many parts as can be are taken at their smaller cost first; what is left of the budget then goes to the wholes
    in rank order: what a lower part found is worth more than what stands around a higher one.
    """
    taken = pack(costs, budget)
    left = budget - sum(costs[index] for index in taken)
    chosen = []
    for index in taken:
        more = whole_costs[index] - costs[index]
        is_whole = more <= left
        left -= more if is_whole else 0
        chosen.append((index, is_whole))
    return chosen


def recent_turns(turns: Sequence[Turn], budget: int, count: Callable[[str], int]) -> list[Turn]:
    """The latest turns that fit ``budget`` tokens, in order; the earliest of them may lack its end.

    ``count`` gives the tokens of a text; each turn costs 4 more.
    """
    kept: list[Turn] = []
    for turn in reversed(turns):
        budget -= 4
        cost = count(turn.text)
        if cost > budget:
            text = _beginning(turn.text, budget, count)
            if text:
                kept.append(Turn(turn.role, text))
            break
        kept.append(turn)
        budget -= cost
    return kept[::-1]


def _beginning(text: str, budget: int, count: Callable[[str], int]) -> str:
    """The longest beginning of ``text`` that has ``budget`` tokens with the ellipsis behind it, or nothing."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if count(text[:middle] + " …") <= budget:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + " …" if low else ""
