"""Which profile runs a model on this machine, and on which devices."""

from __future__ import annotations

from collections.abc import Sequence

from ragstack.inference.engine import Placement
from ragstack.inference.profile import REFERENCE, ModelWeights, Precision, Profile
from ragstack.inference.role import ModelRole
from ragstack.inference.threads import usable_cores

_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
_ON_REQUEST = tuple(Profile("openvino", "cpu", precision) for precision in _PRECISIONS)


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
    found = {one.name: one for one in (REFERENCE, *_ON_REQUEST)}.get(profile or REFERENCE.name)
    if found is None or device not in (None, "cpu", ["cpu"]):
        raise role.input_error("profile", f"{profile!r} on {device!r} cannot be run here.", "Leave both out.")
    return Placement(found, ("cpu",), threads or usable_cores())
