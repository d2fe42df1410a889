"""Chooses the next field for the survey camera."""

from __future__ import annotations

from dataclasses import dataclass

MIN_ALTITUDE_DEG = 30.0
MOON_AVOIDANCE_DEG = 25.0
REVISIT_HOURS = 60.0


@dataclass(frozen=True)
class Field:
    """A patch of sky that the camera covers in one exposure."""

    name: str
    altitude_deg: float
    moon_distance_deg: float
    hours_since_visit: float
    priority: int = 0


def observable(field: Field) -> bool:
    """True when the field is high enough and far enough from the moon."""
    return field.altitude_deg >= MIN_ALTITUDE_DEG and field.moon_distance_deg >= MOON_AVOIDANCE_DEG


def merit(field: Field) -> float:
    """How much the field deserves to be next; larger is better.

    A field that was seen less than ``REVISIT_HOURS`` ago loses merit in proportion, so that the survey
    returns to each field about every two and a half days.
    """
    freshness = min(field.hours_since_visit / REVISIT_HOURS, 1.0)
    airmass_loss = 1.0 - field.altitude_deg / 90.0
    return field.priority + freshness - 0.5 * airmass_loss


def next_field(fields: list[Field]) -> Field | None:
    """The observable field with the largest merit, or None when nothing is up. Ties go to the first name."""
    candidates = [field for field in fields if observable(field)]
    return min(candidates, key=lambda field: (-merit(field), field.name), default=None)
