"""Which replies may still come, and what must not be asked before they have.

Sans-IO: questions and times come in. A Modbus RTU or ASCII reply does not say which registers it
carries, so after a time-out the old reply would fit the next question of the same shape (unit,
function, count). Such a question is asked in another shape, where the meter's profile allows one,
so that the late reply cannot be taken for its answer; where it does not, the meter is held back.

The bound: a reply that comes up to `guard_s` behind its deadline is never taken for another's. The
guard is 4 s, or twice the latest reply ever seen of the meter, at most 30 s; with shapes to choose
from it is a minute. Replies of DL/T 645 and CJ/T 188 name what they answer, so that only the very
same question waits there.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeagg_agent.protocol import is_anonymous

if TYPE_CHECKING:
    from edgeagg_agent.protocol import Question, Shape

GUARD_MIN_S = 4.0  # reaches 3 s of lateness, as radio links and busy serial servers have it
GUARD_MAX_S = 30.0
REMEMBERED_S = 60.0  # a late reply is recognised this long, to learn how late a meter can be
UNANSWERED_MAX = 8  # of one meter: a dead one is asked again and again
UNSEEN_MAX_S = 1.0  # nobody knows when a byte came that lay unread for longer


@dataclass(slots=True)
class _Unanswered:
    question: Question
    shape: Shape | bytes
    deadline_s: float
    is_seen: bool = False  # a late reply to it has come


class Doubts:
    """The questions of one line whose replies may still come; times are those of its clock."""

    def __init__(self) -> None:
        """Begin with a line that owes nothing."""
        self._unanswered: defaultdict[str, list[_Unanswered]] = defaultdict(list)
        self._lateness_s: dict[str, float] = {}
        self._looked_s = 0.0

    def guard_s(self, meter: str) -> float:
        """Return how long behind its deadline a reply of this meter is still guarded against."""
        learned_s = 2 * self._lateness_s.get(meter, 0.0)
        return min(GUARD_MAX_S, max(GUARD_MIN_S, learned_s))

    def held_until_s(self, question: Question) -> float:
        """Return when the question may be asked; 0 for now, in its own shape or in another."""
        if question.meter not in self._unanswered or self._other_shape(question, 0.0):
            return 0.0
        guard_s, shape = self.guard_s(question.meter), _shape(question)
        return max(
            (
                one.deadline_s + guard_s
                for one in self._unanswered[question.meter]
                if one.shape == shape
            ),
            default=0.0,
        )

    def ask_as(self, question: Question, now_s: float) -> Question:
        """Return the question in a shape that no reply under way has, if there is one."""
        if question.meter not in self._unanswered or not self.is_owed_alike(question, now_s):
            return question
        return self._other_shape(question, now_s) or question

    def expect(self, question: Question, deadline_s: float) -> None:
        """Take a question that is about to be asked; its reply is due at `deadline_s`."""
        known = self._unanswered[question.meter]
        known[:] = [one for one in known if one.deadline_s + REMEMBERED_S > deadline_s]
        known[:] = known[-(UNANSWERED_MAX - 1) :]
        known.append(_Unanswered(question, _shape(question), deadline_s))

    def answered(self, question: Question) -> None:
        """Strike out the question asked last: its reply has come."""
        known = self._unanswered[question.meter]
        known.pop()
        if not known:
            del self._unanswered[question.meter]

    def owes_nothing_else(self, question: Question) -> bool:
        """Tell whether `question`, asked last, is the only one the meter has not answered."""
        return len(self._unanswered[question.meter]) == 1

    def is_owed_alike(self, question: Question, now_s: float) -> bool:
        """Tell whether a reply of the question's shape may still come, guarded against or not."""
        shape = _shape(question)
        return any(
            one.shape == shape and one.deadline_s + REMEMBERED_S > now_s
            for one in self._unanswered.get(question.meter, ())
            if one.question is not question
        )

    def is_owed_by_others(self, meter: str, now_s: float) -> bool:
        """Tell whether a reply of another meter may come any moment."""
        return any(
            one.deadline_s + self.guard_s(other) > now_s
            for other, known in self._unanswered.items()
            if other != meter
            for one in known
        )

    def take_noise(self, noise: bytes | bytearray, now_s: float) -> int:
        """Recognise late replies in what nobody asked for, learn from them; return how many.

        The debt stays: a serial server that repeats its requests gets a late reply for each.
        """
        came_s = min(now_s, self._looked_s + UNSEEN_MAX_S)
        self._looked_s = now_s
        late = 0
        for meter, known in self._unanswered.items() if noise else ():
            for one in known:
                found = None if one.is_seen else one.question.find(noise)
                if found is None:
                    continue
                one.is_seen = True
                late += 1
                behind_s = max(0.0, came_s - one.deadline_s)
                self._lateness_s[meter] = max(self._lateness_s.get(meter, 0.0), behind_s)
                noise = noise[: found.start] + noise[found.end :]
        return late

    def _other_shape(self, question: Question, now_s: float) -> Question | None:
        known = self._unanswered[question.meter]
        if not is_anonymous(question) or len(known) >= UNANSWERED_MAX:
            return None
        owed = (one.question for one in known if one.deadline_s + REMEMBERED_S > now_s)
        return question.reshaped({one.shape for one in owed if is_anonymous(one)})


def _shape(question: Question) -> Shape | bytes:
    return question.shape if is_anonymous(question) else question.request
