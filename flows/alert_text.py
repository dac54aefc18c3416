"""What people are told of a campaign: one subject and a few lines. Pure wording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flows.logs import redacted

LONGEST = 1500
"""Characters of a message: chat services cut longer ones at places of their own."""

_SHARES_SHOWN = 4


@dataclass(frozen=True)
class Message:
    """A message to people."""

    subject: str
    """One line."""
    text: str
    """Some lines, `LONGEST` characters at most."""


def message(kind: str, campaign_id: str, payload: Mapping[str, Any]) -> Message:
    """What is told of an event of this kind; what the payload lacks is left out, and what looks like a secret."""
    title = _line(payload.get("title") or campaign_id)
    says: list[str] = []
    if kind == "opened":
        subject = f"{title}: taken up"
        says = [_line(payload.get("reason", "")), "The first version follows when there is imagery."]
    elif kind == "joined":
        subject = f"{title}: joins a sequence"
        says = [
            _line(payload.get("reason", "")),
            f"Its area is mapped with that of its campaign: quakeslide status {campaign_id}",
        ]
    elif kind == "published":
        subject = f"{title}: version {payload.get('version', '?')} published{_numbers(payload)}"
        says = [_line(payload.get("reason", "")), _shares(payload), _line(payload.get("url", ""))]
    elif kind == "failed":
        subject = f"{title}: a step failed"
        says = [_line(payload.get("error", "")), "It is tried again by itself; see the flow run for the whole story."]
    elif kind == "quota":
        subject = f"{title}: a quota is used up"
        says = [
            _line(payload.get("error", "")),
            "Nothing is lost: it goes on by itself when the quota is renewed or raised.",
        ]
    elif kind == "asking":
        subject = f"{title}: a limit is reached"
        says = [_line(payload.get("question", "")), f"To go on: quakeslide approve {campaign_id}"]
    else:
        subject = f"{title}: {kind}"
        says = [_line(payload.get("reason", ""))]
    if payload.get("simulated"):
        subject = f"SIMULATED {subject}"
    text = "\n".join([*(line for line in says if line), f"Campaign {campaign_id}"])
    return Message(redacted(_line(subject))[:200], redacted(text)[:LONGEST])


def _line(value: Any) -> str:
    return " ".join(str(value).split())


def _numbers(payload: Mapping[str, Any]) -> str:
    count, area = payload.get("landslides"), payload.get("landslide_area_m2")
    if not isinstance(count, int):
        return ""
    size = f", {area / 1e6:,.3g} km²" if isinstance(area, (int, float)) else ""
    return f": {count:,} landslide{'' if count == 1 else 's'}{size}"


def _shares(payload: Mapping[str, Any]) -> str:
    shares = payload.get("shares")
    if not isinstance(shares, Mapping):
        return ""
    largest = sorted(shares.items(), key=lambda item: (item[0] != "observed", -float(item[1])))[:_SHARES_SHOWN]
    return "Of the area: " + ", ".join(f"{name} {100 * float(share):.0f} %" for name, share in largest)
