"""Reports as one HTML file: it needs no network, no script, and says everything in tables too."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ragstack.config.loader import LoadedConfig
from ragstack.config.models import PipelineConfig
from ragstack.config.show import to_yaml
from ragstack.evaluation import svg
from ragstack.evaluation.comparison import ComparisonReport
from ragstack.evaluation.html_page import notes, page, table
from ragstack.evaluation.measures import RECALL_DEPTHS
from ragstack.evaluation.report import EvaluationReport, Figure, QuestionReport

_WORST_SHOWN = 25
_CHANGED_SHOWN = 50
_CITATION_WORDS = {
    "passage_recall@5": "gold answers whole in one of five passages",
    "cited_recall": "gold answers whole in a quote of the answer",
    "cited_precision": "quotes that share bytes with a gold answer",
    "cited_document_precision": "quotes from a relevant document",
}


def evaluation_html(report: EvaluationReport) -> str:
    """The page of one evaluation."""
    name = report.dataset.name
    body = [
        f"<h1>{escape(name)}: {escape(report.config_origin)}</h1>",
        _about(report),
        notes([*report.warnings, *(f"{count} questions failed: {error}" for error, count in report.errors.items())]),
        _cards(report),
        *_ranking_section(report),
        *_citation_section(report),
        *_latency_section(report),
        *_worst_section(report),
        "<h2>Config</h2>",
        _config_details(report),
    ]
    return page(f"Evaluation of {name}", body)


def comparison_html(report: ComparisonReport) -> str:
    """The page of a comparison: differences first, then both evaluations."""
    a, b = report.a, report.b
    name = a.dataset.name
    rows = [
        (f"{row.stage} {row.measure}", row.difference, row.low, row.high, row.is_significant) for row in report.measures
    ]
    body = [
        f"<h1>{escape(name)}: A against B</h1>",
        f"<p>A is {escape(a.config_origin)}, B is {escape(b.config_origin)}.</p>",
        _about(a),
        notes([*a.warnings, *b.warnings]),
        "<h2>What differs in the config</h2>",
        table(("key", "A", "B"), [(c.key, str(c.a), str(c.b)) for c in report.config_changes], "")
        if report.config_changes
        else "<p>Nothing.</p>",
        "<h2>Differences</h2>",
        "<p>B less A, with 95% bootstrap intervals over the questions. ● differs significantly (paired randomisation"
        " test, Holm's correction for all rows, p &lt; 0.05), ○ does not.</p>",
        svg.differences("Differences, B less A", rows),
        table(
            ("stage", "measure", ">A", ">B", ">B − A", ">95% interval", ">p", ">p (Holm)", ">better / worse / equal"),
            [
                (
                    row.stage, row.measure, f"{row.a:.4f}", f"{row.b:.4f}", f"{row.difference:+.4f}",
                    f"{row.low:+.4f} to {row.high:+.4f}", f"{row.p_value:.4f}", f"{row.p_holm:.4f}",
                    f"{row.wins} / {row.losses} / {row.ties}",
                )
                for row in report.measures
            ],
            "Each measure over the questions for which both define it",
        ),
        "<h2>Question by question</h2>",
        svg.waterfall("Change of nDCG@10 after reranking, each question", _all_differences(report)),
        table(
            ("question", ">nDCG@10 A", ">nDCG@10 B", ">rank A", ">rank B"),
            [
                (q.text, f"{q.a:.3f}", f"{q.b:.3f}", _rank(q.rank_a), _rank(q.rank_b))
                for q in report.changed[:_CHANGED_SHOWN]
            ],
            f"Those that changed most, of {len(report.changed)} that changed",
        ),
    ]  # fmt: skip
    for letter, each in (("A", a), ("B", b)):
        body += [f"<h2>{letter}: {escape(each.config_origin)}</h2>", _cards(each)]
        body += [*_ranking_section(each, "h3"), *_latency_section(each, "h3"), _config_details(each)]
    return page(f"Comparison on {name}", body)


def _about(report: EvaluationReport) -> str:
    data, index = report.dataset, report.index
    words = [f"{data.questions:,} questions"]
    words += [f"{data.unanswerable:,} without an answer in the corpus"] if data.unanswerable else []
    words += [f"{data.documents:,} documents"] if data.documents is not None else []
    if index is not None:
        words.append(
            f"{index.chunk_count:,} chunks, {index.tokens_embedded:,} tokens indexed in {index.seconds:.1f} s"
            f" ({index.tokens_per_second:,.0f} tokens/s{', by an earlier run' if index.reused else ''})"
        )
    words.append(f"ragstack {report.ragstack_version}, {report.created_at}")
    return f'<p class="about">{escape(" · ".join(words))}</p>'


def _cards(report: EvaluationReport) -> str:
    ranked = report.stages.get("reranked", {})
    cards = [(ranked[name], f"{name} reranked") for name in ("nDCG@10", "MRR@10") if name in ranked]
    cards += [(report.citations[n], n) for n in ("passage_recall@5", "cited_recall") if n in report.citations]
    items = [f"<li><b>{figure.mean:.3f}</b>{escape(name)}</li>" for figure, name in cards]
    if report.quotes.exact is not None:
        items.append(f"<li><b>{report.quotes.exact:.1%}</b>quotes exact</li>")
    if "total" in report.latency_ms:
        items.append(f"<li><b>{report.latency_ms['total']['p50']:.0f} ms</b>query, median</li>")
    return f'<ul class="cards">{"".join(items)}</ul>'


def _ranking_section(report: EvaluationReport, heading: str = "h2") -> list[str]:
    if not report.stages:
        return []
    measures = list(dict.fromkeys(name for figures in report.stages.values() for name in figures))
    rows = [(stage, *(_mean(figures.get(name)) for name in measures)) for stage, figures in report.stages.items()]
    bars = [(s, f["nDCG@10"].mean, f["nDCG@10"].low, f["nDCG@10"].high) for s, f in report.stages.items()]
    depths = [f"recall@{k}" for k in RECALL_DEPTHS]
    curves = {
        stage: [figures[name].mean if name in figures else None for name in depths]
        for stage, figures in report.stages.items()
    }
    return [
        f"<{heading}>Ranking by stage</{heading}>",
        "<p>Documents, each by its best chunk. <i>reranked</i> is the order before a refusal, <i>passages</i> what is"
        " left after it. Whiskers are 95% intervals.</p>",
        svg.bars("nDCG@10 by stage", bars),
        table(("stage", *(f">{name}" for name in measures)), rows, "Means over the answerable questions"),
        svg.lines("Recall by depth", [f"@{k}" for k in RECALL_DEPTHS], curves),
    ]


def _citation_section(report: EvaluationReport) -> list[str]:
    rows: list[Sequence[str]] = [
        (name, _CITATION_WORDS[name], f"{f.mean:.3f}", f"{f.low:.3f} to {f.high:.3f}", f"{f.count:,}")
        for name, f in report.citations.items()
    ]
    if report.quotes.exact is not None:
        outcomes = ", ".join(f"{count:,} {status}" for status, count in report.quotes.outcomes.items())
        words = f"places whose bytes in the source are their text ({outcomes})"
        rows.append(("quote_exactness", words, f"{report.quotes.exact:.4f}", "", f"{report.quotes.checked:,}"))
    for kind in ("answerable", "unanswerable"):
        share = getattr(report.refusals, kind)
        if share is not None:
            rows.append((f"refused_{kind}", f"{kind} questions that got no passage", f"{share:.3f}", "", ""))
    columns = ("measure", "what it is", ">mean", ">95% interval", ">over")
    return ["<h2>Citations and refusals</h2>", table(columns, rows, "")] if rows else []


def _latency_section(report: EvaluationReport, heading: str = "h2") -> list[str]:
    if not report.latency_ms:
        return []
    names = list(next(iter(report.latency_ms.values())))
    rows = [(stage, row["p50"], row["p95"], row["p99"]) for stage, row in report.latency_ms.items()]
    return [
        f"<{heading}>Latency by stage</{heading}>",
        "<p>Milliseconds, one question at a time. Bar: median; line: 95th percentile; dot: 99th.</p>",
        svg.percentiles("Latency by stage, ms", rows, "ms"),
        table(
            ("stage", *(f">{name}" for name in names)),
            [(stage, *(f"{row[name]:.1f}" for name in names)) for stage, row in report.latency_ms.items()],
            "Percentiles, ms",
        ),
    ]


def _worst_section(report: EvaluationReport) -> list[str]:
    """The answerable questions that went worst: by nDCG@10 after reranking, then by the rank in the fused order."""
    stages = list(report.stages)
    if not stages:
        return []
    scored = [q for q in report.questions if q.stages]
    missed = [q for q in scored if q.stages["reranked"]["nDCG@10"] < 1 or q.refused]
    missed.sort(key=lambda q: (q.stages["passages"]["nDCG@10"], q.stages["reranked"]["nDCG@10"], q.question_id))
    if not missed:
        return ["<h2>Questions that went worst</h2>", "<p>None: every question found its documents first.</p>"]
    rows = [
        (
            q.text,
            ", ".join(q.relevant[:3]) + (", …" if len(q.relevant) > 3 else ""),
            *(_rank(q.ranks[stage]) for stage in stages),
            _outcome(q),
        )
        for q in missed[:_WORST_SHOWN]
    ]
    return [
        "<h2>Questions that went worst</h2>",
        table(
            ("question", "relevant", *(f">{stage}" for stage in stages), "outcome"),
            rows,
            f"Rank of the first relevant document after each stage; {len(rows)} of {len(missed)} that missed something",
        ),
    ]


def _outcome(question: QuestionReport) -> str:
    if question.error:
        return question.error
    if question.refused:
        return f"refused (relevance {question.relevance:.2f})"
    return f"nDCG@10 {question.stages['reranked']['nDCG@10']:.2f}"


def _config_details(report: EvaluationReport) -> str:
    # Secrets are masked in the report, so its values cannot always be loaded again; they are only shown.
    try:
        text = to_yaml(LoadedConfig(PipelineConfig.model_validate(report.config), report.config_origin))
    except ValueError:
        text = str(report.config)
    return f"<details><summary>Every setting</summary><pre>{escape(text)}</pre></details>"


def _all_differences(report: ComparisonReport) -> list[float]:
    of_a = {q.question_id: q.stages["reranked"]["nDCG@10"] for q in report.a.questions if q.stages}
    return [
        q.stages["reranked"]["nDCG@10"] - of_a[q.question_id]
        for q in report.b.questions
        if q.stages and q.question_id in of_a
    ]


def _mean(figure: Figure | None) -> str:
    return "–" if figure is None else f"{figure.mean:.3f}"


def _rank(rank: int | None) -> str:
    return "–" if rank is None else str(rank)
