"""Decides whether the domes may be open."""

from __future__ import annotations

from dataclasses import dataclass

MAX_CLOUD_PERCENT = 20.0
MAX_HUMIDITY_PERCENT = 85.0
MAX_WIND_M_PER_S = 15.0
REOPEN_DELAY_S = 600


@dataclass(frozen=True)
class Weather:
    """One reading of the weather station and the cloud monitor."""

    cloud_percent: float
    humidity_percent: float
    wind_m_per_s: float
    rain: bool


def reasons_to_close(weather: Weather) -> list[str]:
    """Every reason why the domes must be shut now; empty when it is safe."""
    reasons = []
    if weather.rain:
        reasons.append("rain")
    if weather.humidity_percent > MAX_HUMIDITY_PERCENT:
        reasons.append("humidity")
    if weather.wind_m_per_s > MAX_WIND_M_PER_S:
        reasons.append("wind")
    if weather.cloud_percent > MAX_CLOUD_PERCENT:
        reasons.append("cloud")
    return reasons


def may_reopen(seconds_safe: float) -> bool:
    """True once it has been safe for ``REOPEN_DELAY_S`` seconds without a break."""
    return seconds_safe >= REOPEN_DELAY_S
