"""``ragstack eval``: measure a pipeline on questions whose answers are known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragstack.cli.eval_options import (
    AskedInOption,
    CorpusOption,
    DatasetOption,
    HtmlOption,
    JsonFileOption,
    LimitOption,
    NoIndexOption,
    SeedOption,
    SplitOption,
    StateDirOption,
    data_of,
    place_of,
    require_writable,
    write_text,
)
from ragstack.cli.eval_output import print_comparison, print_evaluation, print_warnings
from ragstack.cli.eval_progress import EvalProgress
from ragstack.cli.options import ConfigOption, load, with_epilog
from ragstack.cli.output import print_json
from ragstack.errors import InputError

if TYPE_CHECKING:
    from ragstack.evaluation.comparison import ComparisonReport
    from ragstack.evaluation.report import EvaluationReport


@with_epilog("""
Examples:
  ragstack eval --dataset scifact/                          a BEIR folder: nDCG@10, MRR, recall by stage
  ragstack eval --dataset xquad.en.json --html report.html  SQuAD: citations against the gold answers too
  ragstack eval --dataset questions.jsonl --corpus docs/    your own questions about your own files
  ragstack eval --dataset questions.jsonl --no-index        the same, of the index that you have
  ragstack eval --dataset scifact/ --compare a.yaml b.yaml  what differs, and whether it is chance
  ragstack eval --dataset scifact/ --json - > report.json   every figure, and every question

Documents are indexed below .ragstack-eval and found there the next time; your own index is never written to.
A line of questions: {"question": "...", "source_id": "docs/a.md", "quote": "..."} (docs/evaluation.md).
""")
def evaluate(
    dataset: DatasetOption,
    config: ConfigOption = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--compare", metavar="A.yaml B.yaml", help="Evaluate two configs and test their difference."),
    ] = None,
    split: SplitOption = None,
    asked_in: AskedInOption = None,
    corpus: CorpusOption = None,
    no_index: NoIndexOption = False,
    no_answer: Annotated[bool, typer.Option("--no-answer", help="Make no answers; measure retrieval only.")] = False,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    state_dir: StateDirOption = None,
    json_file: JsonFileOption = None,
    html: HtmlOption = None,
) -> int:
    """Measure a pipeline on questions whose answers are known."""
    if compare is not None and config is not None:
        raise InputError("--compare names both configs.", hint="Leave --config out.")
    place = place_of(corpus, state_dir, no_index=no_index)
    loaded = [load(path) for path in (compare if compare is not None else (config,))]
    require_writable(html, json_file)
    from ragstack.cli.interrupt import stopping_on_signals
    from ragstack.evaluation.comparison import compare as compare_reports
    from ragstack.evaluation.evaluate import EvaluationRequest, evaluate
    from ragstack.evaluation.measures import require_library
    from ragstack.indexer.interruption import Interruption

    require_library()
    to_stdout = json_file == "-"
    data = data_of(dataset, split, asked_in, limit, seed)
    request = EvaluationRequest(place, with_answer=not no_answer)
    interruption = Interruption()
    with stopping_on_signals(interruption, as_json=to_stdout), EvalProgress(quiet=to_stdout) as progress:
        reports = [evaluate(each, data, request, progress, interruption) for each in loaded]
    if compare is None:
        _finish(reports[0], json_file, html)
    else:
        _finish(compare_reports(reports[0], reports[1], seed=seed), json_file, html)
    return 0


def _finish(report: EvaluationReport | ComparisonReport, json_file: str | None, html: Path | None) -> None:
    """Write and print the report."""
    import json

    from ragstack.evaluation.comparison import ComparisonReport
    from ragstack.evaluation.html_report import comparison_html, evaluation_html

    text = ""
    if html is not None:
        page = comparison_html(report) if isinstance(report, ComparisonReport) else evaluation_html(report)
        write_text(html, page)
        text = f"\nReport: {html}"
    if json_file == "-":
        print_json(report.to_json())
        return
    if json_file is not None:
        write_text(Path(json_file), json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n")
    if isinstance(report, ComparisonReport):
        print_warnings([*report.a.warnings, *report.b.warnings])
        print_comparison(report)
    else:
        print_warnings(report.warnings)
        print_evaluation(report)
    if text:
        print(text)
