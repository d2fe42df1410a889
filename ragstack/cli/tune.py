"""``ragstack tune``: choose chunk size, weights and depth on a user's own questions."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ragstack.cli.eval_options import (
    AskedInOption,
    CorpusOption,
    DatasetOption,
    JsonFileOption,
    LimitOption,
    SeedOption,
    SplitOption,
    StateDirOption,
    data_of,
    place_of,
    require_writable,
    write_text,
)
from ragstack.cli.eval_output import print_warnings
from ragstack.cli.eval_progress import EvalProgress
from ragstack.cli.options import ConfigOption, load, with_epilog
from ragstack.cli.output import counted, print_json, printable
from ragstack.errors import InputError, InterruptedRunError

if TYPE_CHECKING:
    from ragstack.config.loader import LoadedConfig
    from ragstack.evaluation.tuning.search import TuneReport

Measure = Literal["nDCG@10", "MRR@10", "recall@5", "recall@10", "passage_recall@5"]
_GRACE_S = 20.0  # after Ctrl-C, to write what was found


@with_epilog("""
Examples:
  ragstack tune -c ragstack.yaml --dataset questions.jsonl --corpus docs/ -o tuned.yaml
  ragstack tune --dataset scifact/ --limit 300 --chunk-size 150 --chunk-size 300 -o tuned.yaml
  ragstack tune --dataset questions.jsonl --measure passage_recall@5 --budget 10 -o tuned.yaml

Each chunk size is indexed once below .ragstack-eval; weights and depth are then tried on recorded candidates. What is
reported is measured on questions that the choice was made without. Unless it is better beyond noise, the config stays.
Ctrl-C ends the search and keeps what was found (exit status 130).
""")
def tune(
    dataset: DatasetOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where the tuned config is written.")
    ] = Path("tuned.yaml"),
    config: ConfigOption = None,
    split: SplitOption = None,
    asked_in: AskedInOption = None,
    corpus: CorpusOption = None,
    measure: Annotated[Measure, typer.Option("--measure", help="What is to become better.")] = "nDCG@10",
    chunk_size: Annotated[
        list[int] | None,
        typer.Option(
            "--chunk-size",
            min=8,
            metavar="TOKENS",
            help="A chunk size to try; repeatable.",
            show_default="100, 200, 300",
        ),
    ] = None,
    folds: Annotated[int, typer.Option("--folds", min=2, max=20, help="Parts of the cross-validation.")] = 5,
    budget: Annotated[
        float,
        typer.Option("--budget", min=0, metavar="MINUTES", help="Begin nothing that would end later."),
    ] = 30.0,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    state_dir: StateDirOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output file.")] = False,
    json_file: JsonFileOption = None,
) -> int:
    """Choose chunk size, weights and depth on your own questions."""
    place = place_of(corpus, state_dir, no_index=False)
    loaded = load(config)
    if output.exists() and not force:
        raise InputError(f"{output} exists already.", hint="Give --force to overwrite it, or another file with -o.")
    require_writable(output, json_file)
    from ragstack.cli.interrupt import stopping_on_signals
    from ragstack.evaluation.measures import require_library
    from ragstack.evaluation.target import IndexPlace
    from ragstack.evaluation.tuning.search import TuneRequest
    from ragstack.evaluation.tuning.search import tune as run_tune
    from ragstack.indexer.interruption import Interruption

    require_library()
    to_stdout = json_file == "-"
    data = data_of(dataset, split, asked_in, limit, seed)
    request = TuneRequest(place or IndexPlace(), measure, chunk_size, folds, seed, budget * 60)
    interruption = Interruption()
    with (
        stopping_on_signals(interruption, as_json=to_stdout, grace_s=_GRACE_S),
        EvalProgress(quiet=to_stdout) as progress,
    ):
        report = run_tune(loaded, data, request, progress, interruption)
        _write(output, loaded, report)
    if to_stdout:
        print_json(report.to_json())
    else:
        if json_file is not None:
            write_text(Path(json_file), json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n")
        print_warnings(report.notes)
        _print(report, output)
    return InterruptedRunError.exit_status if report.interrupted else 0


def _write(output: Path, loaded: LoadedConfig, report: TuneReport) -> None:
    from ragstack.evaluation.tuning.yaml_file import tuned_text

    original = "" if loaded.path is None else loaded.path.read_bytes().decode("utf-8")
    write_text(output, tuned_text(loaded, original, report.values, _comment(report)))


def _comment(report: TuneReport) -> list[str]:
    """What the file says of itself."""
    lines = [f"ragstack tune: {_verdict(report)}"]
    lines += [f"Set: {key}: {value}" for key, value in report.values.items()]
    return [printable(line) for line in lines]


def _verdict(report: TuneReport) -> str:
    interval = f"difference {report.held_out - report.own:+.4f}, 95% interval {report.low:+.4f} to {report.high:+.4f}"
    held_out = f"held-out {report.measure} {report.held_out:.4f} against {report.own:.4f} ({interval})"
    asked = f"{counted(report.questions, 'question')}, {report.folds} folds, {counted(report.trials, 'setting')}"
    if report.is_better:
        return f"{held_out}; {asked}."
    return f"nothing is better than the config beyond noise: {held_out}; {asked}."


def _print(report: TuneReport, output: Path) -> None:
    sizes = ", ".join(str(size) for size in report.chunk_sizes if size is not None) or "that of the chunker"
    print(f"Tried {counted(report.trials, 'setting')} in {report.seconds:.0f} s; chunk sizes: {sizes}.")
    verdict = _verdict(report)
    print(verdict[0].upper() + verdict[1:])
    if not report.is_better and report.best_values:
        found = ", ".join(f"{key}: {value}" for key, value in report.best_values.items())
        print(f"The best on the questions it was chosen by: {report.best:.4f} with {found}.")
    if report.refusal is not None:
        refusal = report.refusal
        kept = "" if refusal.is_better else "; the config's threshold stays"
        print(
            f"Refusing at min_relevance {refusal.min_relevance}: held-out balanced accuracy {refusal.held_out:.3f}"
            f" against {refusal.own:.3f} (95% interval of the difference {refusal.low:+.3f} to {refusal.high:+.3f})"
            f"{kept}."
        )
    if report.confirmed is not None:
        print(
            f"Asked anew through the whole query path: {report.measure} {report.confirmed['chosen']:.4f} against"
            f" {report.confirmed['own']:.4f}, on all questions."
        )
    for key, value in report.values.items():
        print(f"  {key}: {value}")
    what = "Wrote" if report.values else "Wrote the config as it was to"
    print(f"{what} {printable(str(output))}.")
    if report.interrupted:
        print("Stopped before the search was over; this is what was found until then.", file=sys.stderr)
