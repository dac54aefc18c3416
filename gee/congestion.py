"""How many requests may be in flight, learnt from those that the service refuses. Pure: time is given, nothing waits.

A service refuses for two reasons that look alike. Its places are taken: then fewer in flight are refused less, and all
that is served is served anyway. Or it refuses a share of everything (another user's load, a storm of its own): then fewer
in flight are only fewer served, and halving at each refusal, as TCP does, ends at nothing. So a refusal lowers the limit
to what was in flight beside it, which is what the service had room for, and the next requests are a trial: only if they
are refused at most half as often does the lower limit stand. Otherwise it was not the load, and the old limit returns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

TOLERATED = 0.05
"""A smaller share of refusals costs less than a place left empty would."""
CONCLUSIVE = 5
"""A trial is judged after as many answers as would have held so many refusals before, by their share."""
TRIAL_AGAIN_S = 60.0
"""After so long, refusals that were not for load are tried again, for the reason may have changed; then after twice that."""

BURST_S = 0.1
"""So many seconds' worth of requests may go at once after a pause."""
SETTLED = 20
"""Before so many requests nothing is cut: when threads are only starting there is little in flight to compare with."""
UNBOUNDED = 1_000
"""A limit that has grown to this is none."""
HARDLY_ANY = 0.75
"""Where more than this share is refused, all places may still be taken: too early to say that it is not for load."""

SMALL_CUTS = 2
"""So often a trial that met hardly anything but refusals lowers the limit to what was in flight: it may be one too high,
with all places taken for the time of an answer. Then the places themselves have gone:"""
CUT = 0.7
"""and each trial takes this part of the limit."""


@dataclass
class Tally:
    """What became of the requests that began under one limit."""

    begun: int = 0
    """Sent."""
    served: int = 0
    """Of these, let in."""
    refused: int = 0
    """Of these, turned away."""

    again: int = 0
    """Repetitions that were sent besides."""
    refused_again: int = 0
    """Of these, turned away."""

    @property
    def answers(self) -> int:
        """First attempts of which it is known."""
        return self.served + self.refused

    @property
    def share(self) -> float:
        """The refused part of all that were sent: refusals come at once and would outnumber what is still computed."""
        return self.refused / self.begun if self.begun else 0.0

    def exceeds(self, share: float) -> bool:
        """Whether more first attempts were refused than a share explains."""
        return self.refused > _at_most(share, self.begun)

    def exceeds_in_all(self, share: float) -> bool:
        """The same of all attempts: those that wait for a place that another always takes are refused again and again."""
        return self.refused + self.refused_again > _at_most(share, self.begun + self.again)


class AdaptiveLimit:
    """The limit of one process. Ask `limit` before every request, tell it of each that begins and is answered.

    Every attempt carries the era in which it began: what it tells of is the limit of that time, not of now. What the
    reason is, is judged by first attempts, for one request that is refused again and again says no more than once.
    """

    def __init__(self) -> None:
        self.limit = math.inf
        """At most so many in flight; infinite until something was refused."""
        self.era = 0
        """Changes with the limit."""
        self._tally = Tally()
        """Of the limit now in force outside a trial."""
        self._trial: Tally | None = None
        self._limit_before = math.inf
        self._good = math.inf
        self._step = self._patience = 1
        self._cut_era = self._trial_era = self._cuts = 0
        self._tolerated = TOLERATED
        self._trial_again_s = -math.inf
        self._trust_s = TRIAL_AGAIN_S

    def begun(self, *, first: bool) -> int:
        """A request is sent, for the first time or again; returns its era."""
        tally = self._tally if self._trial is None else self._trial
        tally.begun, tally.again = tally.begun + first, tally.again + (not first)
        return self.era

    def answered(self, era: int, *, first: bool, refused: bool, others: int, now_s: float) -> None:
        """An attempt that began in `era` was let in or refused, while `others` were in flight."""
        if self._trial is None:
            if era >= self._trial_era:
                self._steady(_added(self._tally, first, refused), refused, others, now_s)
        elif era < self._cut_era:
            _added(self._tally, first, refused)
            if first and refused and others < self.limit:
                self._lower(others)
        elif era >= self._trial_era:
            _added(self._trial, first, refused)
            if first:
                self._judge(self._trial, others, now_s)

    def _steady(self, tally: Tally, refused: bool, others: int, now_s: float) -> None:
        bearable = self._tolerated if now_s < self._trial_again_s else TOLERATED
        if self.limit > self._good and refused and tally.exceeds_in_all(bearable):  # raised too far
            self._step, self._patience = 1, min(2 * self._patience, 16)
            self._begin(self._good)
        elif refused and others and tally.begun >= SETTLED and tally.exceeds(bearable):
            self._limit_before, self._cut_era = self.limit, self.era + 1
            self._lower(others)
        elif tally.answers >= max(CONCLUSIVE / bearable if tally.refused else 0.0, 2 * min(self.limit, 100)):
            self._reconsider(tally, bearable)

    def _reconsider(self, tally: Tally, bearable: float) -> None:
        """After a while under one limit without a reason to cut it."""
        if tally.exceeds_in_all(bearable) and math.isfinite(self.limit):
            self._good = max(1, self.limit - 1)
            self._begin(self._good)
        elif tally.answers >= 2 * min(self.limit, 100) * self._patience:
            if self.limit > self._good:
                self._step, self._patience = 2 * self._step, 1
            self._good = self.limit
            raised = self.limit + self._step
            self._begin(raised if raised < UNBOUNDED else math.inf)

    def _lower(self, others: int) -> None:
        self.limit = self._good = max(1, min(self.limit, others))
        self._begin_era()
        self._trial, self._step = Tally(), 1

    def _judge(self, trial: Tally, others: int, now_s: float) -> None:
        before = self._tally.share
        enough = max(math.ceil(2 * CONCLUSIVE / before), self.limit)
        if trial.refused > max(TOLERATED, before / 2) * max(enough, trial.begun):  # whatever the others will say
            if trial.share > HARDLY_ANY and self.limit > 1:  # all places are taken still: lower
                self._cuts += 1
                self._lower(min(others, int(self.limit) - 1) if self._cuts <= SMALL_CUTS else int(CUT * self.limit))
                return
            self._tolerated = 1.0 if trial.share > HARDLY_ANY else min(HARDLY_ANY, 1.5 * before)
            self._trial_again_s, self._trust_s = now_s + self._trust_s, 2.0 * self._trust_s
            self._good = self._limit_before
            self._begin(self._limit_before)
        elif trial.answers >= enough:
            self._trust_s = TRIAL_AGAIN_S
            self._begin(self.limit)

    def _begin(self, limit: float) -> None:
        self.limit, self._trial, self._tally, self._cuts = limit, None, Tally(), 0
        self._begin_era()

    def _begin_era(self) -> None:
        self.era += 1
        self._trial_era = self.era


def _at_most(share: float, begun: int) -> float:
    """Refusals that a share explains: two standard deviations more than the mean, and two more."""
    return share * begun + 2.0 * math.sqrt(begun * share * (1.0 - share)) + 2.0


def _added(tally: Tally, first: bool, refused: bool) -> Tally:
    if first:
        tally.refused, tally.served = tally.refused + refused, tally.served + (not refused)
    else:
        tally.refused_again += refused
    return tally


def pause_s(times: int, streak: int, present: int, moment_s: float) -> float:
    """How long a request that was just refused for the `times`-th time should wait, before jitter.

    `moment_s`, half as long again each of the next seven times; and doubled whenever as many as are present were refused
    since anybody got through. That one is refused thrice is chance where half of all are, that all are is not.
    """
    return moment_s * 1.5 ** min(times - 1, 7) * math.exp2(min(streak / max(2, present), 60.0))


class TokenBucket:
    """Requests per second: one every 1 / rate seconds, and after a pause the few of `BURST_S` at once."""

    def __init__(self) -> None:
        self._tokens = math.inf
        self._filled_s = 0.0

    def wait_s(self, now_s: float, per_s: float) -> float:
        """Seconds until the next token at this rate, which may be another each time; 0 when there is one."""
        self._tokens = min(max(1.0, per_s * BURST_S), self._tokens + (now_s - self._filled_s) * per_s)
        self._filled_s = now_s
        if self._tokens >= 1.0:
            return 0.0
        return (1.0 - self._tokens) / per_s if per_s > 0.0 else math.inf

    def take(self) -> None:
        """Use the token that `wait_s` said is there."""
        self._tokens -= 1.0
