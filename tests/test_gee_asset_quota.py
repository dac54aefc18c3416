"""gee/asset_quota.py: which words speak of a limit, and which figures go with them."""

from __future__ import annotations

import pytest

from gee.asset_quota import AssetQuota, _quota, queue_is_full


@pytest.mark.parametrize(
    ("words", "full"),
    [
        ("Too many tasks already in the queue (3000). Please wait for some of them to complete.", True),
        ("The maximum number of 3000 queued tasks is reached", True),
        ("Asset count quota exceeded.", False),
        ("Too many concurrent aggregations.", False),
        ("Cannot overwrite asset 'projects/p/assets/tasks_queue'.", False),
    ],
)
def test_a_full_queue_is_known_by_its_words(words: str, full: bool) -> None:
    assert queue_is_full(words) is full


def test_figures_arrive_as_text_and_under_two_names() -> None:
    told = {"assetCount": "9999", "maxAssets": "10000", "sizeBytes": "1000000000", "maxSizeBytes": "250000000000"}
    quota = _quota(told)
    assert quota == AssetQuota(9999, 10_000, 10**9, 250 * 10**9)
    assert quota == _quota({**{k: v for k, v in told.items() if k != "maxAssets"}, "maxAssetCount": "10000"})
    assert quota.words == "9,999 of 10,000 assets and 1 of 250 GB"


@pytest.mark.parametrize(
    ("assets", "size_bytes", "lacks"),
    [(1, 0, False), (2, 0, True), (1, 249 * 10**9, False), (1, 249 * 10**9 + 1, True), (0, 0, False)],
)
def test_room_is_counted_to_the_last_asset_and_byte(assets: int, size_bytes: int, lacks: bool) -> None:
    assert AssetQuota(9999, 10_000, 10**9, 250 * 10**9).lacks(assets, size_bytes) is lacks
    assert not AssetQuota(9999, 0, 10**9, 0).lacks(assets, size_bytes), "an unknown limit is none"
