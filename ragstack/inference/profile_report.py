"""Profiles in words, as NIM's ``list-model-profiles`` has them: for the log, and for ``ragstack profiles``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ragstack.inference.hardware import Hardware
from ragstack.inference.profiles import ModelProfile


def log_lines(
    profiles: Sequence[ModelProfile], selected: ModelProfile, asked_by: str, model: str, hardware: Hardware
) -> list[str]:
    """What a start logs: what can run, what was chosen, and on what."""
    return [
        "MODEL PROFILES",
        f"- Model: {model}",
        f"- System: {'; '.join(hardware.describe())}",
        *section("Compatible with system and runnable", (found for found in profiles if found.runnable)),
        *selected_lines(selected, asked_by),
    ]


def section(
    title: str, profiles: Iterable[ModelProfile], remark: Callable[[ModelProfile], str] = lambda found: ""
) -> list[str]:
    """A title and a line for each profile: its id, its name, and what is remarked of it."""
    lines = []
    for found in profiles:
        more = remark(found)
        lines.append(f"- {found.id} ({found.name})" + (f" [{more}]" if more else ""))
    return [f"- {title}:", *lines] if lines else []


def selected_lines(selected: ModelProfile, asked_by: str) -> list[str]:
    """The chosen profile and what it is."""
    told = {
        "backend": selected.profile.backend,
        "precision": selected.profile.precision,
        "device": ", ".join(selected.devices),
        "gpu": selected.gpu or "none",
        **({"gpus": str(selected.count), "architecture": selected.architecture} if selected.gpu else {}),
        **({"asked for by": asked_by} if asked_by else {}),
    }
    return [
        f"Selected profile: {selected.id} ({selected.name})",
        "Profile metadata:",
        *(f"- {key}: {value}" for key, value in told.items()),
    ]
