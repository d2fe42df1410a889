"""``ragstack profiles``: how a model can run, on this machine or on one that is described."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragstack.cli.options import ConfigOption, JsonOption, load, with_epilog
from ragstack.cli.output import print_json, printable
from ragstack.errors import InputError

if TYPE_CHECKING:
    from ragstack.cli.profile_targets import Target
    from ragstack.inference.check_records import CheckRecords
    from ragstack.inference.hardware import Hardware
    from ragstack.inference.profiles import ModelProfile
    from ragstack.inference.runtimes import Runtimes
    from ragstack.inference.selection import Selection


@with_epilog("""
Examples:
  ragstack profiles                            the models of the config, on this machine
  ragstack profiles --model ./bge-m3           another model
  ragstack profiles --gpu h100-sxm --gpus 2    on a machine with two of these, everything installed
  ragstack profiles --gpu 8.9:24 --cpu avx512  a GPU by compute capability and GiB
  ragstack profiles --measure                  check every profile that can run here, and take its speed

Ask for one by name or id: `profile:` in the block of the model, or RAGSTACK_MODEL_PROFILE (the embedder's) and
RAGSTACK_RERANKER_PROFILE. A profile in lower precision than fp32 is unverified until its results were compared with
fp32; on a GPU that is done when it would first be chosen.
""")
def profiles(
    config: ConfigOption = None,
    model: Annotated[
        str | None, typer.Option("--model", help="A model: registered name, folder, or Hugging Face id.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Commit or tag of a Hugging Face id given by --model.")
    ] = None,
    gpu: Annotated[str | None, typer.Option("--gpu", help="Describe a machine: its GPUs, such as l40s.")] = None,
    gpus: Annotated[int, typer.Option("--gpus", min=1, max=64, help="How many of them.")] = 1,
    cpu: Annotated[
        str | None, typer.Option("--cpu", help="Describe a machine: baseline, avx2, avx512, vnni, amx, neon.")
    ] = None,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Run every profile that can run here; the faster one is used from then on."),
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """List how a model can run, what cannot and why, and what is chosen."""
    from ragstack.cli.profile_targets import config_targets, named_target
    from ragstack.inference.check_records import CheckRecords
    from ragstack.inference.hardware import detect_hardware
    from ragstack.inference.known_hardware import described_hardware
    from ragstack.inference.runtimes import ALL_INSTALLED, find_runtimes

    described = gpu is not None or cpu is not None
    if gpus > 1 and gpu is None:
        raise InputError("--gpus counts the GPUs that --gpu names.", hint="Add --gpu, such as --gpu h100-sxm.")
    if measure and described:
        raise InputError(
            "--measure runs profiles, which a described machine cannot.", hint="Leave out --gpu and --cpu."
        )
    here = detect_hardware()
    hardware = described_hardware(here, gpu, gpus, cpu) if described else here
    records = CheckRecords.here(hardware)
    loaded = load(config)
    targets = [named_target(model, revision)] if model else list(config_targets(loaded.config, fetch=True))
    if not targets:
        raise InputError("the config names no model that runs on this machine.", hint="Name one with --model.")
    reports = []
    for target in targets:
        if measure:
            _measure(target, hardware, records, quiet=as_json)
        reports.append(_Report(target, hardware, ALL_INSTALLED if described else find_runtimes(), records, described))
    if as_json:
        print_json({"system": _system_json(hardware), "models": [report.to_json() for report in reports]})
        return max((report.error.exit_status for report in reports if report.error is not None), default=0)
    print("\n\n".join(printable("\n".join(report.lines())) for report in reports))
    for report in reports:
        if report.error is not None:
            raise report.error
    return 0


class _Report:
    """One model's profiles, and the one that is chosen: none where that is an error."""

    def __init__(
        self, target: Target, hardware: Hardware, runtimes: Runtimes, records: CheckRecords, described: bool
    ) -> None:
        from ragstack.inference.profiles import list_profiles
        from ragstack.inference.selection import expected_selection

        self.target, self.hardware, self.records, self.described = target, hardware, records, described
        self.profiles = list_profiles(target.facts, hardware, runtimes)
        self.selection: Selection | None = None
        self.error: InputError | None = None
        try:
            self.selection = expected_selection(target.facts, target.role, hardware, runtimes, target.wanted, records)
        except InputError as error:
            self.error = error

    def lines(self) -> list[str]:
        """The report for people."""
        from ragstack.inference.profile_report import section, selected_lines

        return [
            "MODEL PROFILES",
            f"- Model: {self.target.role.name} {self.target.name}",
            f"- System: {'; '.join(self.hardware.describe())}",
            *section(
                "Compatible with system and runnable",
                [found for found in self.profiles if found.runnable],
                self._state,
            ),
            *section(
                "Compatible with system, but not runnable",
                [found for found in self.profiles if found.compatible and not found.runnable],
                lambda found: found.reason,
            ),
            *section(
                "Incompatible with system",
                [found for found in self.profiles if not found.compatible],
                lambda found: found.reason,
            ),
            *([] if self.selection is None else selected_lines(self.selection.selected, self.selection.asked_by)),
        ]

    def to_json(self) -> dict[str, Any]:
        """The report for programs."""
        selected = None if self.selection is None else self.selection.selected
        return {
            "role": self.target.role.key,
            "model": self.target.name,
            "profiles": [self._profile_json(found) for found in self.profiles],
            "selected": None if selected is None else {"id": selected.id, "name": selected.name},
            "error": None if self.error is None else self.error.message,
        }

    def _state(self, found: ModelProfile) -> str:
        from ragstack.inference.runtimes import extra_of

        extra = extra_of(found.profile.backend, found.profile.device_type)
        return ", ".join(
            part for part in (f"ragstack[{extra}]" if self.described and extra else "", self._check(found)) if part
        )

    def _check(self, found: ModelProfile) -> str:
        record = self.records.find(found)
        if record is None and found.profile.precision == "fp32":
            return ""
        if record is None:
            return "unverified" if found.profile.device_type == "cuda" else "unverified, on request only"
        speed = "" if record.tokens_per_second is None else f", {record.tokens_per_second:,.0f} tokens/s"
        return (f"agreement {record.agreement:.5f}" if record.passed else f"refused: {record.reason}") + speed

    def _profile_json(self, found: ModelProfile) -> dict[str, Any]:
        record = self.records.find(found)
        return {
            "id": found.id,
            "name": found.name,
            "backend": found.profile.backend,
            "device_type": found.profile.device_type,
            "precision": found.profile.precision,
            "architecture": found.architecture,
            "gpus": found.count if found.profile.device_type == "cuda" else 0,
            "gpu": found.gpu,
            "devices": list(found.devices),
            "memory_bytes": found.memory_bytes,
            "compatible": found.compatible,
            "runnable": found.runnable,
            "obstacles": [asdict(obstacle) for obstacle in found.obstacles],
            "check": None if record is None else {**asdict(record), "passed": record.passed},
        }


def _system_json(hardware: Hardware) -> dict[str, Any]:
    return {
        "gpus": [
            {
                "device": gpu.device,
                "name": gpu.name,
                "compute_capability": ".".join(map(str, gpu.compute_capability)),
                "memory_bytes": gpu.memory_bytes,
            }
            for gpu in hardware.gpus
        ],
        "cpu": {
            "vendor": hardware.cpu.vendor,
            "model": hardware.cpu.model,
            "cores": hardware.cpu.cores,
            "features": sorted(hardware.cpu.features),
        },
        "memory_bytes": hardware.memory_bytes,
        "remark": hardware.remark,
    }


def _measure(target: Target, hardware: Hardware, records: CheckRecords, *, quiet: bool) -> None:
    """Check every profile that can run here on one device, and take its speed."""
    import sys

    from ragstack.inference.profiles import list_profiles
    from ragstack.inference.runtimes import find_runtimes
    from ragstack.inference.selection import fp32_profiles
    from ragstack.inference.self_check import SelfCheck
    from ragstack.inference.threads import usable_cores

    if target.local is None:
        raise InputError(f"the weights of {target.name} are not here.", hint="Give a folder, or an id with --revision.")
    runtimes = find_runtimes()
    check = SelfCheck(
        target.local.weights,
        target.role,
        target.local.probe,
        fp32_profiles(target.facts, hardware, runtimes),
        usable_cores(),
        records,
    )
    for found in list_profiles(target.facts, hardware, runtimes):
        if found.runnable and found.count == 1:
            if not quiet:
                print(f"measuring {found.name} ...", file=sys.stderr, flush=True)
            check.check(found, measure=True)
