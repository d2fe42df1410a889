"""Which profile runs a model on this machine, and on which devices."""

from __future__ import annotations

from collections.abc import Sequence

from ragstack.inference.engine import Placement
from ragstack.inference.profile import REFERENCE, ModelWeights
from ragstack.inference.role import ModelRole
from ragstack.inference.threads import usable_cores


def select_placement(
    weights: ModelWeights,
    role: ModelRole,
    *,
    profile: str | None = None,
    device: str | Sequence[str] | None = None,
    threads: int | None = None,
) -> Placement:
    """The best profile that this machine can run, or the one asked for by name or id, and its devices.

    Raises InputError for a profile or device that is impossible here; the message lists what is possible.
    """
    if profile not in (None, REFERENCE.name) or device not in (None, "cpu", ["cpu"]):
        raise role.input_error("profile", f"{profile!r} on {device!r} cannot be run here.", "Leave both out.")
    return Placement(REFERENCE, ("cpu",), threads or usable_cores())
