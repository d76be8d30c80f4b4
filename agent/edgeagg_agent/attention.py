"""How often a meter that fails is asked: its failures may cost a bounded share of the bus.

Pure. Every failed question is paid from an account of the meter's own, by the bus time it took. An
account holds two failures at most and is refilled at a steady rate; a meter is asked only when the
account can pay for another failure. What succeeds costs nothing here, since the plan has room for
it. So the bus time that meter i wastes in any span T is at most

    2 c_i + r_i T + c_i,    r_i = max(share / n, c_i / 50 s)

with c_i the time of its dearest failure and n the meters whose accounts are not full: two failures,
the refill, and one by which an account is overdrawn when a failure takes longer than any before.
All of them together waste `share` of the bus in the long run, or n c / 50 s where that is more.
`share` is 1 %, or half of what the plan leaves over.

The second rate is what brings a dead meter back: after at most 50 s its account can pay for one
question again, and it is asked, whether a slot is due or not. It is seen again within 60 s as long
as one read of another meter takes less than 10 s. A noisy meter is treated alike: a question that
brings a bad frame costs what it takes, and a good answer in between does not fill the account.
"""

from __future__ import annotations

from dataclasses import dataclass

SHARE_MIN_PPM = 10_000
FREE_FAILURES = 2
ABSENT_AFTER = 2  # failures in a row before a slot is not read a second time
BACK_MS = 50_000
PROBE_EVERY_MS = 5_000  # for meters that could be asked more often: nobody needs them sooner


@dataclass(slots=True)
class _Account:
    """A meter in trouble: what it may still waste, and how it fared."""

    credit_ns: int
    cost_us: int  # of its dearest failure
    failures: int  # in a row
    asked_ms: int

    @property
    def failure_ns(self) -> int:
        return self.cost_us * 1000

    @property
    def full_ns(self) -> int:
        return FREE_FAILURES * self.failure_ns


class Attention:
    """The accounts of one bus's meters."""

    def __init__(self, now_ms: int, *, spare: float = 0.0) -> None:
        """Begin with nobody in trouble; `spare` is the share of the bus that no plan needs."""
        self.share_ppm = max(SHARE_MIN_PPM, int(spare * 500_000))
        self._accounts: dict[int, _Account] = {}
        self._now_ms = now_ms

    def may_ask(self, meter: int, now_ms: int) -> bool:
        """Tell whether the meter's next failure is paid for."""
        self._refill(now_ms)
        account = self._accounts.get(meter)
        return account is None or account.credit_ns >= account.failure_ns

    def answered(self, meter: int, now_ms: int) -> None:
        """Take in that the meter answered; its account fills with time, not with this."""
        self._refill(now_ms)
        account = self._accounts.get(meter)
        if account is not None:
            account.failures, account.asked_ms = 0, now_ms

    def failed(self, meter: int, now_ms: int, *, cost_us: int) -> None:
        """Take in that the meter gave nothing, and that this took `cost_us` of the bus."""
        self._refill(now_ms)
        account = self._accounts.get(meter)
        if account is None:
            account = _Account(FREE_FAILURES * cost_us * 1000, cost_us, 0, now_ms)
            self._accounts[meter] = account
        account.credit_ns -= cost_us * 1000
        # the dearest one: a question that the bus itself turned down costs next to nothing
        account.cost_us = max(account.cost_us, cost_us)
        account.failures += 1
        account.asked_ms = now_ms

    def is_absent(self, meter: int) -> bool:
        """Tell whether the meter failed again and again up to now."""
        account = self._accounts.get(meter)
        return account is not None and account.failures >= ABSENT_AFTER

    def probe(self, now_ms: int) -> int | None:
        """Return a meter that failed last to ask now although no slot of it is due, or None.

        The one that was not asked for the longest time comes first.
        """
        self._refill(now_ms)
        due = [
            (account.asked_ms, meter)
            for meter, account in self._accounts.items()
            if account.failures and self._probe_ms(account) <= now_ms
        ]
        return min(due)[1] if due else None

    def next_probe_ms(self) -> int | None:
        """Return when the next probe is due, None when every meter answered last."""
        return min(
            (self._probe_ms(account) for account in self._accounts.values() if account.failures),
            default=None,
        )

    def _probe_ms(self, account: _Account) -> int:
        missing_ns = max(0, account.failure_ns - account.credit_ns)
        paid_ms = self._now_ms - -missing_ns // self._rate_ppm(account)
        return max(paid_ms, account.asked_ms + PROBE_EVERY_MS)

    def _rate_ppm(self, account: _Account) -> int:
        shared_ppm = self.share_ppm // len(self._accounts)
        return max(1, shared_ppm, -(-account.cost_us * 1000 // BACK_MS))

    def _refill(self, now_ms: int) -> None:
        passed_ms = max(0, now_ms - self._now_ms)
        self._now_ms = now_ms
        for account in self._accounts.values():
            account.credit_ns += passed_ms * self._rate_ppm(account)  # a millionth of 1 ms is 1 ns
        full = [
            meter
            for meter, account in self._accounts.items()
            if account.credit_ns >= account.full_ns and not account.failures
        ]
        for meter in full:
            del self._accounts[meter]
        for account in self._accounts.values():
            account.credit_ns = min(account.credit_ns, account.full_ns)
