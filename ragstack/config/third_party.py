"""Blocks whose ``type`` chooses their model, and those that name a third party's implementation."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import Discriminator, Field, Tag

from ragstack.config.block import ConfigBlock


class ThirdPartyConfig(ConfigBlock):
    """A block whose ``type`` names an entry point of the group ``ragstack.<family>``.

    ``settings`` are passed to the implementation as keyword arguments.
    """

    type: str = Field(min_length=1, description="Name of the entry point.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of the implementation.")


ThirdParty: TypeAlias = Annotated[ThirdPartyConfig, Tag("third_party")]


def tagged_by(tags: dict[str, str]) -> Discriminator:
    """Choose the union's member by ``type`` (the first by default); a name that is not built in is a third party's."""
    default = next(iter(tags))

    def tag(value: Any) -> str:
        name = value.get("type", default) if isinstance(value, dict) else getattr(value, "type", default)
        return tags.get(name, "third_party") if isinstance(name, str) else "third_party"

    return Discriminator(tag)
