"""The generators, by the name that a config's ``generator.type`` uses."""

from __future__ import annotations

from ragstack.registry import Entry, Registry

GENERATORS = Registry(
    "generators",
    {
        "extractive": Entry("ragstack.generation.extractive:ExtractiveGenerator"),
        "openai": Entry("ragstack.generation.openai:OpenAIGenerator", extra="llm"),
    },
)
