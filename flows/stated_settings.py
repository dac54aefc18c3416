"""The settings that change a result, as its facts state them."""

from __future__ import annotations

from collections.abc import Collection

from flows.settings import Settings


def stated_settings(settings: Settings, groups: Collection[str], *, model: str, rules: str) -> dict[str, str]:
    """`group.name` -> value, as text, of the settings in `groups`, which hold `model`.

    Instead of `model.weights` and `model.rules`, which may be paths of a user's files, stand the names of what mapped.
    """
    stated = settings.model_dump(mode="json", include=set(groups))
    stated["model"] |= {"weights": model, "rules": rules}
    del stated["model"]["zoo"]
    return {f"{group}.{name}": str(value) for group, fields in stated.items() for name, value in fields.items()}
