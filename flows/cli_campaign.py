"""`quakeslide status`, `approve`, `close`, `reopen` and `compare`: what becomes of each earthquake that was taken up."""

from __future__ import annotations

import datetime as dt
import getpass
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flows.settings import Settings
    from flows.storage import Store

CampaignId = Annotated[str, typer.Argument(help="Campaign: the id by which its earthquake was first taken up.")]
By = Annotated[str, typer.Option(help="Who does this, for the record; default: your user name.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (status, approve, close, reopen, compare):
        app.command()(command)


def status(
    campaign: Annotated[
        str, typer.Argument(help="One campaign, by any id of its earthquakes; all when left out.")
    ] = "",
    all_: Annotated[bool, typer.Option("--all", help="Closed and withdrawn campaigns, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON: a list, or one campaign's whole document.")] = False,
) -> None:
    """Show the campaigns: what each waits for, its versions and what they saw, the next passes, what it has cost.

    Example: quakeslide status us7000abcd
    """
    from flows.campaign import store as campaigns
    from flows.campaign.telling import details, overview
    from flows.run import CONSOLE, say

    now = dt.datetime.now(dt.UTC)
    with _opened() as (_, store):
        if campaign:
            found = campaigns.load(store, _named(store, campaign))
            if as_json:
                typer.echo(found.model_dump_json(indent=1))
                return
            for table in details(found, now):
                CONSOLE.print(table)
            return
        listed = campaigns.all_campaigns(store) if all_ else campaigns.open_campaigns(store)
    if as_json:
        typer.echo(json.dumps([one.model_dump(mode="json") for one in listed], indent=1))
    elif listed:
        CONSOLE.print(overview(sorted(listed, key=lambda one: (-one.urgency, one.id)), now))
    else:
        say("no campaign" if all_ else "no open campaign (--all shows those that have ended)")


def approve(
    campaign: CampaignId,
    requests: Annotated[int | None, typer.Option(min=1, help="So many more requests to Earth Engine.")] = None,
    gigabytes: Annotated[float | None, typer.Option("--gb", min=0, help="So many more GB pulled.")] = None,
    eecu_hours: Annotated[float | None, typer.Option(min=0, help="So many more EECU-hours.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="So many more minutes of the device that maps.")] = None,
    stored_gb: Annotated[float | None, typer.Option(min=0, help="So many more GB kept in the bucket.")] = None,
    by: By = "",
) -> None:
    """Allow a campaign that has stopped at its budget, or after failures, to go on.

    Without numbers it may use twice what it asked for.
    """
    from flows.campaign import store as campaigns
    from flows.campaign.budget import GB
    from flows.campaign.hand import approved
    from flows.campaign.model import Cost
    from flows.campaign.telling import cost_words
    from flows.run import say

    given = {
        "requests": requests, "bytes": None if gigabytes is None else int(gigabytes * GB), "eecu_hours": eecu_hours,
        "network_minutes": minutes, "stored_bytes": None if stored_gb is None else int(stored_gb * GB),
    }  # fmt: skip
    named = {name: value for name, value in given.items() if value is not None}
    more = Cost(**named) if named else None
    now = dt.datetime.now(dt.UTC)
    with _opened() as (settings, store):
        name = _named(store, campaign)
        after = campaigns.change(store, name, lambda one: approved(one, settings.campaign, by or _user(), now, more))
    if after.approval is not None and after.approval.limit is not None:
        say(f"campaign {name} goes on; in all it may use {cost_words(after.approval.limit)}")


def close(campaign: CampaignId, by: By = "") -> None:
    """End a campaign: no further version is made, what was published stays. Only `reopen` opens it again."""
    from flows.campaign import store as campaigns
    from flows.campaign.hand import closed
    from flows.run import say

    now = dt.datetime.now(dt.UTC)
    with _opened() as (_, store):
        name = _named(store, campaign)
        after = campaigns.change(store, name, lambda one: closed(one, by or _user(), now))
    say(f"campaign {name} is closed with {len(after.versions)} versions")


def reopen(
    campaign: CampaignId,
    days: Annotated[float, typer.Option(min=0, help="For so many days from now at least.")] = 30.0,
    by: By = "",
) -> None:
    """Take a closed campaign up again."""
    from flows.campaign import store as campaigns
    from flows.campaign.hand import reopened
    from flows.run import say

    now = dt.datetime.now(dt.UTC)
    with _opened() as (_, store):
        name = _named(store, campaign)
        after = campaigns.change(store, name, lambda one: reopened(one, by or _user(), now, days))
    say(f"campaign {name} is open until {after.horizon:%Y-%m-%d} at the latest")


def compare(
    campaign: CampaignId,
    first: Annotated[int, typer.Argument(min=1, help="The earlier version.")],
    second: Annotated[int, typer.Argument(min=1, help="The later version.")],
    out: Annotated[Path, typer.Option(help="Folder for compare.json, compare.tif and compare.png.")] = Path("compare"),
) -> None:
    """Show what changed from one version of an event to another: a map, counts and areas.

    Ground that only one of the two saw is told apart from ground on which they differ.
    """
    from flows.compare import compare_versions
    from flows.compare_shown import comparison_png, comparison_table
    from flows.out_folder import require_folder
    from flows.run import CONSOLE, say

    require_folder(out)
    with _opened() as (settings, store):
        found = compare_versions(store, _named(store, campaign), (first, second), out, settings.work)
    (out / "compare.png").write_bytes(comparison_png(found, out / "compare.tif"))
    CONSOLE.print(comparison_table(found))
    say(f"map: {out / 'compare.tif'}, picture: {out / 'compare.png'}")


@contextmanager
def _opened() -> Iterator[tuple[Settings, Store]]:
    from flows.services import services
    from flows.settings import load_settings
    from flows.storage import Store

    with services(load_settings(), None, prefect=False) as settings:
        bucket = f"gs://{settings.storage.bucket}"
        with Store(bucket, settings.storage.endpoint, retry_s=5.0) as store:
            yield settings, store


def _named(store: Store, name: str) -> str:
    """The campaign that goes by a name: its own id, or one of its earthquakes'."""
    from flows.campaign import store as campaigns

    return campaigns.index(store).named([name]) or name


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"
