"""Which profile runs a model on this machine, and on which devices."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from ragstack.errors import InputError
from ragstack.inference.check_records import CheckRecords
from ragstack.inference.engine import Placement
from ragstack.inference.hardware import Hardware, detect_hardware
from ragstack.inference.profile import REFERENCE, DeviceType, ModelWeights, Profile
from ragstack.inference.profile_report import log_lines
from ragstack.inference.profiles import ModelFacts, ModelProfile, list_profiles, named
from ragstack.inference.role import ModelRole
from ragstack.inference.runtimes import Runtimes, find_runtimes
from ragstack.inference.self_check import Probe, SelfCheck
from ragstack.inference.threads import usable_cores

_log = logging.getLogger(__name__)

PROFILE_VARIABLES = {"embedder": "RAGSTACK_MODEL_PROFILE", "reranker": "RAGSTACK_RERANKER_PROFILE"}
"""The environment variable that names the profile of each role's model; it outranks the config."""


_LARGE = 10**9
"""Parameters from which on a CPU is a slow judge."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for: a profile by name or id, devices (``cpu``, ``cuda``, ``cuda:1``, or a list of GPUs).

    ``asked_by`` is the setting or variable that names the profile, for messages.
    """

    profile: str | None = None
    device: str | Sequence[str] | None = None
    asked_by: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is known of profiles beside what they need.

    ``passes`` says whether one of lower precision passed its self-check, which may be run for it now; ``refused``
    whether one is known to have failed; ``speed`` its tokens a second, where they were measured.
    """

    passes: Callable[[ModelProfile], bool]
    refused: Callable[[ModelProfile], bool]
    speed: Callable[[ModelProfile], float | None]


@dataclass(frozen=True, slots=True)
class Selection:
    """The profile chosen among ``profiles``, all that the model has here, the better ones first."""

    profiles: tuple[ModelProfile, ...]
    selected: ModelProfile
    asked_by: str


def select_placement(
    weights: ModelWeights,
    role: ModelRole,
    *,
    profile: str | None = None,
    device: str | Sequence[str] | None = None,
    threads: int | None = None,
    probe: Callable[[], Probe] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Placement:
    """The best profile that this machine can run, or the one asked for by name or id, and its devices.

    On a GPU the best may be one of lower precision, which is checked before it is first chosen: ``probe`` gives what
    the model is asked. Without it such a profile is not chosen by itself. Nothing is loaded for a CPU.

    Raises InputError for a profile or device that is impossible here, and for a model that nothing here can run; the
    message lists what is possible.
    """
    hardware, facts, runtimes = detect_hardware(), ModelFacts.of(weights), find_runtimes()
    records = CheckRecords.here(hardware)
    used_threads = threads or usable_cores()
    check: SelfCheck | None = None

    def passes(candidate: ModelProfile) -> bool:
        nonlocal check
        if probe is None:
            record = records.find(candidate)
            return record is not None and record.passed
        if check is None:  # one for all candidates: the reference is run once
            references = fp32_profiles(facts, hardware, runtimes)
            check = SelfCheck(weights, role, probe, references, used_threads, records)
        return check.passes(candidate)

    wanted = wanted_by(role, profile, device, environ)
    found = select(facts, role, hardware, runtimes, wanted, judged_by(records, passes))
    _announce(found, role, hardware)
    return Placement(found.selected.profile, found.selected.devices, used_threads, _stand_in(found))


def wanted_by(
    role: ModelRole, profile: str | None, device: str | Sequence[str] | None, environ: Mapping[str, str]
) -> Wanted:
    """What a block's settings and the environment ask for."""
    variable = PROFILE_VARIABLES[role.key]
    if environ.get(variable):
        return Wanted(environ[variable].strip().lower(), device, variable)
    return Wanted(profile, device, f"{role.key}.profile" if profile is not None else "")


def judged_by(records: CheckRecords, passes: Callable[[ModelProfile], bool]) -> Judgement:
    """What the ``records`` of this machine say of profiles."""

    def refused(candidate: ModelProfile) -> bool:
        record = records.find(candidate)
        return record is not None and not record.passed

    def speed(candidate: ModelProfile) -> float | None:
        record = records.find(candidate)
        return None if record is None else record.tokens_per_second

    return Judgement(passes, refused, speed)


def select(
    facts: ModelFacts,
    role: ModelRole,
    hardware: Hardware,
    runtimes: Runtimes,
    wanted: Wanted,
    judgement: Judgement,
) -> Selection:
    """Choose a profile of a model for a machine.

    One that is asked for is taken as it is. Else the first is taken that can run and is either fp32 or on a GPU and
    passed its check; of several in fp32 on a CPU, the fastest where their speeds are known. A CPU's lower precision is
    never chosen by itself: an index made on one CPU would not fit another. Raises InputError.
    """
    shown, device_type, together = _shown(hardware, role, wanted.device)
    listed = list_profiles(facts, shown, runtimes, together=together)
    profiles = [found for found in listed if device_type in (None, found.profile.device_type)]
    if wanted.profile is not None:
        return Selection(tuple(profiles), _asked(profiles, wanted, wanted.profile, role), wanted.asked_by)
    runnable = [found for found in profiles if found.runnable]
    for found in _by_speed(runnable, judgement):
        on_gpu = found.profile.device_type == "cuda"
        if on_gpu and (not judgement.refused(found) if _is_exact(found) else judgement.passes(found)):
            return Selection(tuple(profiles), found, "")
        if not on_gpu and _is_exact(found):
            return Selection(tuple(profiles), found, "")
    raise _nothing(profiles, runnable, role, wanted)


def expected_selection(
    facts: ModelFacts, role: ModelRole, hardware: Hardware, runtimes: Runtimes, wanted: Wanted, records: CheckRecords
) -> Selection:
    """What would be chosen if every check that was not made yet were passed. Loads nothing. Raises InputError."""

    def may_pass(candidate: ModelProfile) -> bool:
        record = records.find(candidate)
        return record is None or record.passed

    return select(facts, role, hardware, runtimes, wanted, judged_by(records, may_pass))


def fp32_profiles(facts: ModelFacts, hardware: Hardware, runtimes: Runtimes) -> list[ModelProfile]:
    """What others are compared with: fp32 profiles that can run here, those of the CPU and of ONNX Runtime first.

    Of a large model those of a GPU come first: a CPU would take minutes.
    """
    exact = [found for found in list_profiles(facts, hardware, runtimes) if found.runnable and _is_exact(found)]
    trusted = ("onnxruntime", "torch", "openvino", "tensorrt")
    first: DeviceType = "cuda" if facts.parameters > _LARGE else "cpu"
    return sorted(
        exact, key=lambda found: (found.profile.device_type != first, trusted.index(found.profile.backend), found.count)
    )


def _stand_in(found: Selection) -> Profile | None:
    """ONNX Runtime beside OpenVINO, which takes longer to load, gives the same in fp32, and knows fewer operators.

    A command that asks one question ends before OpenVINO's start is earned back. Who asked for a profile gets that
    alone.
    """
    if found.asked_by or found.selected.profile != Profile("openvino", "cpu", "fp32"):
        return None
    return next((other.profile for other in found.profiles if other.profile == REFERENCE and other.runnable), None)


def _is_exact(found: ModelProfile) -> bool:
    return found.profile.precision == "fp32"


def _by_speed(runnable: Sequence[ModelProfile], judgement: Judgement) -> list[ModelProfile]:
    """The profiles in their order, but a CPU's exact ones by speed where all speeds are known.

    Of these the refused are left out, unless all were: where two runtimes disagree, neither is known to be right.
    """
    exact = [found for found in runnable if _is_exact(found) and found.profile.device_type == "cpu"]
    others = [found for found in runnable if found not in exact]
    if len(exact) > 1:  # with one there is no choice, and nothing is read
        kept = [found for found in exact if not judgement.refused(found)] or exact
        speeds = [judgement.speed(found) for found in kept]
        known = [speed for speed in speeds if speed is not None]
        if len(known) == len(kept):
            kept = [found for _, found in sorted(zip(known, kept, strict=True), key=lambda pair: -pair[0])]
        exact = kept
    return [*others, *exact]


def _shown(
    hardware: Hardware, role: ModelRole, device: str | Sequence[str] | None
) -> tuple[Hardware, DeviceType | None, bool]:
    """The part of a machine that a setting ``device`` names, its type, and whether these GPUs work together."""
    if device is None:
        return hardware, None, False
    names = [device] if isinstance(device, str) else list(device)
    if names == ["cpu"]:
        return hardware, "cpu", False
    if names == ["cuda"]:
        if not hardware.gpus:
            raise _no_device(hardware, role, names)
        return hardware, "cuda", False
    by_name = {gpu.device: gpu for gpu in hardware.gpus}
    if len(set(names)) < len(names) or not all(re.fullmatch(r"cuda:\d+", name) for name in names):
        raise role.input_error(
            "device",
            f"expected cpu, cuda, or different GPUs (cuda:0, cuda:1), got {', '.join(names)}.",
            f"On this machine there are: {', '.join([*by_name, 'cpu'])}.",
        )
    missing = [name for name in names if name not in by_name]
    if missing:
        raise _no_device(hardware, role, missing)
    return replace(hardware, gpus=tuple(by_name[name] for name in names)), "cuda", True


def _no_device(hardware: Hardware, role: ModelRole, missing: Sequence[str]) -> InputError:
    here = [*(f"{gpu.device} ({gpu.name})" for gpu in hardware.gpus), "cpu"]
    why = f" ({hardware.remark})" if hardware.remark else ""
    return role.input_error(
        "device", f"there is no {', '.join(missing)} on this machine{why}.", f"There are: {', '.join(here)}."
    )


def _asked(profiles: Sequence[ModelProfile], wanted: Wanted, name: str, role: ModelRole) -> ModelProfile:
    matching = [found for found in profiles if named(found, name)]
    chosen = next((found for found in matching if found.runnable), None)
    if chosen is not None:
        return chosen
    on = "" if wanted.device is None else f" on {_device_name(wanted.device)}"
    if matching:
        message = f"{name} cannot run{on} here: {matching[0].reason}."
    else:
        message = f"this model has no profile {name!r}{on}."
    raise InputError(f"{wanted.asked_by}: {message}", hint=f"{_possible(profiles)} Or leave it out, for the best one.")


def _possible(profiles: Sequence[ModelProfile]) -> str:
    names = [found.name for found in profiles if found.runnable]
    return f"Possible here: {', '.join(names)}." if names else "Nothing of it can run here (see: ragstack profiles)."


def _nothing(
    profiles: Sequence[ModelProfile], runnable: Sequence[ModelProfile], role: ModelRole, wanted: Wanted
) -> InputError:
    on = "here" if wanted.device is None else f"on {_device_name(wanted.device)} here"
    if runnable:
        return role.input_error(
            "profile",
            f"no profile that can run {on} is chosen by itself: in lower precision it must have passed its self-check.",
            f"Ask for one, or look again with: ragstack profiles --measure. {_possible(profiles)}",
        )
    lacking: dict[str, list[str]] = {}
    for found in profiles:
        lacking.setdefault(found.reason, []).append(found.name)
    reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in lacking.items())
    return role.input_error("model", f"nothing can run it {on}.", f"What is missing: {reasons}.")


def _device_name(device: str | Sequence[str]) -> str:
    return device if isinstance(device, str) else ", ".join(device)


@lru_cache(maxsize=64)
def _announce_once(lines: tuple[str, ...]) -> None:
    for line in lines:
        _log.info("%s", line)


def _announce(found: Selection, role: ModelRole, hardware: Hardware) -> None:
    """Say once in a process which profiles there are and which was chosen."""
    if _log.isEnabledFor(logging.INFO):
        _announce_once(tuple(log_lines(found.profiles, found.selected, found.asked_by, role.name, hardware)))
