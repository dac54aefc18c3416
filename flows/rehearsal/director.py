"""The director: moves the time, lets the story happen, hands out the work as Prefect's automation does, and kills.

The clock runs as always while anything is at work, and leaps while nothing is; so leases, renewals and retries see the
time that they are made for.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flows.errors import FlowError
from flows.rehearsal import state as states
from flows.rehearsal.auditor import incomplete
from flows.rehearsal.clock import Clock, where
from flows.rehearsal.crew import Answer, Worker
from flows.rehearsal.kills import SERVICES, Kill, delay_s
from flows.rehearsal.state import Progressed
from flows.rehearsal.story import Off, Story, Trouble
from flows.rehearsal.world import World
from flows.storage import Store

SAVE_S, TELL_S, NAP_S = 5.0, 10.0, 0.003
HELD_BACK = dt.timedelta(minutes=1)
"""A campaign whose step could not even begin is not tried again before."""
TWICE = 0.03
"""Share of the steps that are started twice at once, as an event that is delivered twice would do."""
DOWN_S = (0.3, 6.0)
"""How long a service that was killed stays away, in seconds."""
LATER = dt.timedelta(days=3650)


class Director:
    """One rehearsal from its state to its end."""

    def __init__(
        self, home: Path, story: Story, kills: Sequence[Kill], state: Progressed, world: World, store: Store,
        environment: Mapping[str, str], *, steppers: int, every: dt.timedelta, tell: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._home, self._story, self._kills, self._state = home, story, kills, state
        self._world, self._store, self._every, self._tell = world, store, every, tell
        self._clock = Clock(state.now)
        self._next_poll = self._next_due = state.now
        self._calm_at: dict[str, dt.datetime] = {}
        self._off_until = state.now
        self._fresh = self._ask_due = False
        self._due: list[str] = []
        self._not_before: dict[str, dt.datetime] = {}
        self._suspects: set[str] = set()
        self._down: dict[str, float] = {}
        self._draw = random.Random(f"director {state.options.get('seed')} {state.killed}")  # noqa: S311
        self._delays: dict[tuple[str, float], float] = {}
        self._begun_s, self._spent_s = time.monotonic(), state.spent_s
        self._saved_s = self._told_s = 0.0
        self._begun_at = state.now
        log = home / "logs"
        self._watch = Worker("watch", environment, log / "watch.log")
        self._steppers = [Worker(f"step {n}", environment, log / f"step-{n}.log") for n in range(steppers)]

    def run(self) -> None:
        """To the end of the story, and until nothing is due any more; whatever ends it, the state is kept."""
        try:
            self._replay()
            while not self._over():
                self._round()
            self._check_suspects(last=True)
        finally:
            self._save()
            for worker in self._workers:
                worker.close()

    @property
    def _workers(self) -> list[Worker]:
        return [self._watch, *self._steppers]

    # ---- one round

    def _round(self) -> None:
        now = self._clock.now()
        self._happen(now)
        for worker in self._workers:
            while (answer := worker_answer(worker)) is not None:
                self._answered(worker, *answer, now)
        self._kill(now)
        self._revive()
        self._check_suspects()
        if now >= self._off_until:
            self._hand_out(now)
        self._keep(now)
        if self._over():  # before the clock leaps to what is due after the end, again and again
            return
        if not self._at_work() and (moment := self._next_moment(now)) > now:
            self._clock.leap(moment)
        else:
            time.sleep(NAP_S)

    def _hand_out(self, now: dt.datetime) -> None:
        """What there is to do, to those who have nothing to do."""
        if self._watch.idle:
            if self._next_poll <= min(now, self._story.end):
                self._world.set_clock(now)
                self._watch.ask(do="poll", now=now.isoformat())
                self._next_poll = now + self._every
            elif self._ask_due or now >= self._next_due:
                self._ask_due = False
                self._watch.ask(do="due", now=now.isoformat())
        under_way = {str(one.wanted["campaign"]) for one in self._steppers if one.wanted is not None}
        for worker in (one for one in self._steppers if one.idle):
            chosen = next((name for name in self._due if name not in under_way and self._may(name, now)), None)
            if chosen is None:
                return
            if self._draw.random() >= TWICE:
                self._due.remove(chosen)
                under_way.add(chosen)
            worker.ask(do="step", now=now.isoformat(), campaign=chosen)
            self._state.counts["steps begun"] += 1

    def _answered(self, worker: Worker, wanted: Mapping[str, object] | None, answer: Answer, now: dt.datetime) -> None:
        counts = self._state.counts
        if "peak_mb" in answer:
            role = "watch" if worker is self._watch else "step"
            self._state.remember((now - self._story.start) // dt.timedelta(days=1), role, answer["peak_mb"])
        did = str(answer.get("do"))
        self._state.worked_s[did] = round(self._state.worked_s.get(did, 0.0) + float(answer.get("took_s", 0.0)), 3)
        campaign = str((wanted or {}).get("campaign", ""))
        if "error" in answer:
            counts[f"{did}: {answer['type']}"] += 1
            states.note(self._home, now, f"{did} failed", campaign=campaign, error=answer["error"])
            self._not_before[campaign] = now + HELD_BACK
            self._ask_due = self._ask_due or did != "poll"
        elif did == "poll":
            counts["looks at the USGS"] += 1
            self._fresh = False
            for kind, name in answer["changes"]:
                counts[f"campaigns {kind}"] += 1
                states.note(self._home, now, kind, campaign=name)
            self._ask_due = self._ask_due or bool(answer["changes"])
        elif did == "due":
            self._due = list(answer["due"])
            self._next_due = dt.datetime.fromisoformat(answer["next"])
            counts["most campaigns open at once"] = max(counts["most campaigns open at once"], int(answer["open"]))
        elif did == "step":
            said = str(answer["said"])
            counts[f"steps: {re.match('[a-z]*', said)[0]}"] += 1  # type: ignore[index]
            states.note(self._home, now, "step", campaign=campaign, said=said, took_s=answer["took_s"])
            self._ask_due = True

    # ---- what happens

    def _replay(self) -> None:
        """After an interruption: what a moment may have lost is told again, and faults that lasted begin again."""
        state = self._state
        state.played = max(0, state.played - 50)
        for one in self._story.happenings[: state.played]:
            if isinstance(one, Off) and one.until > state.now:
                self._off_until = one.until
            if isinstance(one, Trouble) and one.until is not None and one.until > state.now:
                self._world.let(one)
                self._calm_at[one.service] = one.until

    def _happen(self, now: dt.datetime) -> None:
        state, happenings = self._state, self._story.happenings
        first = state.played
        while state.played < len(happenings) and happenings[state.played].at <= now:
            one = happenings[state.played]
            self._world.let(one)
            if isinstance(one, Off):
                self._off_until = max(self._off_until, one.until)
                states.note(self._home, now, "off", until=one.until.isoformat())
            if isinstance(one, Trouble):
                states.note(self._home, now, "trouble", service=one.service, fault=dict(one.fault))
                if one.until is not None:
                    self._calm_at[one.service] = max(one.until, self._calm_at.get(one.service, one.until))
            state.played += 1
        self._fresh = self._fresh or state.played > first
        for service in [name for name, until in self._calm_at.items() if until <= now]:
            del self._calm_at[service]
            self._world.calm(service)

    def _kill(self, now: dt.datetime) -> None:
        if self._state.killed >= len(self._kills) or self._kills[self._state.killed].at > now:
            return
        kill = self._kills[self._state.killed]
        target = kill.target
        victim = self._victim(kill, now)
        if victim is None:
            return
        doing, after_s = dict(victim.wanted or {}), victim.busy_s
        if target in SERVICES or target == "everything":
            for service in SERVICES if target == "everything" else (target,):
                self._world.kill(service)
                self._down[service] = time.monotonic() + self._draw.uniform(*DOWN_S)
        killed = self._workers if target == "everything" else [] if target in SERVICES else [victim]
        for worker in killed:
            if worker.wanted is not None and "campaign" in worker.wanted:
                self._suspects.add(str(worker.wanted["campaign"]))
            worker.kill()
        states.note(self._home, now, "kill", target=target, doing=doing, after_s=round(after_s, 3))
        self._state.killed += 1
        self._state.counts[f"kills: {target}"] += 1
        self._ask_due = True
        self._delays.clear()

    def _victim(self, kill: Kill, now: dt.datetime) -> Worker | None:
        """Who is to be killed now, or is at work with what is to be killed; None for nobody yet."""
        group = [self._watch] if kill.target == "watch" else self._steppers
        for worker in group:
            if worker.wanted is None or (kill.target == "watch" and (worker.wanted["do"] != "poll" or not self._fresh)):
                continue
            key = (worker.name, worker.begun_s)
            if key not in self._delays:
                self._delays[key] = delay_s(kill, now, self._draw)
            if worker.busy_s >= self._delays[key]:
                return worker
        return None

    def _revive(self) -> None:
        if not self._down or min(self._down.values()) > time.monotonic():
            return
        self._down = {name: until for name, until in self._down.items() if until > time.monotonic()}
        if not self._down:
            self._world.revive()
            self._world.set_clock(self._clock.now())

    def _check_suspects(self, *, last: bool = False) -> None:
        """Whether what the killed ones have left visible is complete."""
        if not self._suspects or (self._down and not last):
            return
        name = self._suspects.pop()
        with contextlib.suppress(FlowError):  # an outage: the end of the rehearsal looks at everything anyway
            self._state.half_visible += incomplete(self._store, name)

    # ---- time

    def _may(self, name: str, now: dt.datetime) -> bool:
        return self._not_before.get(name, now) <= now

    def _at_work(self) -> bool:
        now = self._clock.now()
        if any(not worker.ready or worker.wanted is not None for worker in self._workers) or self._down:
            return True
        return now >= self._off_until and (self._ask_due or any(self._may(name, now) for name in self._due))

    def _next_moment(self, now: dt.datetime) -> dt.datetime:
        """When there is something to do again; only asked while nothing is."""
        if now < self._off_until:
            return min(self._off_until, self._story.end)
        held = [until for name, until in self._not_before.items() if name in self._due and until > now]
        due = [self._next_due] if self._next_due <= self._story.end or now >= self._story.end else []
        poll = [self._next_poll] if now < self._story.end else []
        return min((*poll, *due, *held), default=now)

    def _over(self) -> bool:
        now = self._clock.now()
        polled = self._next_poll > self._story.end
        waits = any(self._may(name, now) or name in self._not_before for name in self._due)
        return now >= self._story.end and polled and not self._at_work() and not waits and self._next_due > now

    def _keep(self, now: dt.datetime) -> None:
        self._state.now = now
        moment = time.monotonic()
        if moment - self._saved_s > SAVE_S:
            self._saved_s = moment
            self._save()
        if moment - self._told_s > TELL_S:
            self._told_s = moment
            since_s = moment - self._begun_s
            said = where(self._state, self._story, self._begun_at, since_s, len(self._kills), len(self._due))
            self._tell(said)

    def _save(self) -> None:
        self._state.spent_s = self._spent_s + time.monotonic() - self._begun_s
        self._state.save(self._home)


def worker_answer(worker: Worker) -> tuple[Mapping[str, object] | None, Answer] | None:
    """What a worker was asked and has answered, None for nothing yet."""
    wanted = worker.wanted
    answer = worker.answer()
    return None if answer is None else (wanted, answer)
