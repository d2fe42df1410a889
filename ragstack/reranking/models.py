"""The registry of rerankers: data, one card per model. Listing it imports no runtime and reads no file.

Lengths, licences and revisions are those of the models' own cards (``source``) and of MTEB's registry
(github.com/embeddings-benchmark/mteb, rerankers_custom.py); lengths of NVIDIA's are those of
https://docs.nvidia.com/nim/nemo-retriever/text-reranking/1.6.0/support-matrix.html.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ragstack.inference.model_cards import (
    NVIDIA_LANGUAGES,
    QWEN3_LANGUAGES,
    HubFiles,
    RemoteName,
    language_codes,
    named_by,
)

RerankerType: TypeAlias = Literal["cross_encoder", "llm_yes_no"]
"""The ``type`` of the config's block that runs the model."""


@dataclass(frozen=True, slots=True)
class RerankerCard:
    """What must be known to run a reranker and to judge whether it fits.

    ``files`` is None for a model that is to be had over HTTP only, whose ``not_local`` says why. ``max_tokens`` counts
    query and passage together, special tokens too. Scores are logits, whose logistic function is the relevance.
    ``instruction`` is what a language model is told by default. ``languages`` are ISO 639-1 codes; empty: the makers
    do not name them.
    """

    name: str
    files: HubFiles | None
    type: RerankerType
    max_tokens: int
    languages: tuple[str, ...]
    licence: str
    size_bytes: int
    parameters: int
    architecture: str
    source: str
    description: str
    instruction: str = ""
    remote: tuple[RemoteName, ...] = ()
    not_local: str = ""


def _qwen3(size: str, parameters: int) -> RerankerCard:
    name = f"Qwen3-Reranker-{size}"
    return RerankerCard(
        name=name,
        files=HubFiles(f"Qwen/{name}", ("safetensors",)),
        type="llm_yes_no",
        max_tokens=32_768,
        languages=QWEN3_LANGUAGES,
        licence="Apache-2.0",
        size_bytes=2 * parameters,
        # Those of the embedding model of this size: the same backbone, whose output layer is the input's.
        parameters=parameters,
        architecture="Qwen3ForCausalLM",
        source=f"https://huggingface.co/Qwen/{name}",
        description="Over 100 languages and code; follows an instruction, best in English.",
        instruction="Given a web search query, retrieve relevant passages that answer the query",
    )


RERANKER_MODELS: dict[str, RerankerCard] = {
    card.name: card
    for card in (
        RerankerCard(
            name="nv-rerankqa-mistral-4b-v3",
            files=None,
            type="cross_encoder",
            max_tokens=512,
            languages=(),
            licence="NVIDIA AI Foundation Models Community License and Apache-2.0",
            # Mistral 7B's first 16 layers of 218,112,000 parameters each, and its input's.
            size_bytes=2 * 3_620_868_096,
            parameters=3_620_868_096,
            architecture="MistralForSequenceClassification",
            source="https://docs.api.nvidia.com/nim/reference/nvidia-nv-rerankqa-mistral-4b-v3",
            description="Several languages; the first 16 layers of Mistral 7B, fine-tuned.",
            remote=(RemoteName("nim", "nvidia/nv-rerankqa-mistral-4b-v3"),),
            not_local="NVIDIA serves it as a NIM only.",
        ),
        RerankerCard(
            name="llama-3.2-nv-rerankqa-1b-v2",
            # The same model under its later name.
            files=HubFiles("nvidia/llama-nemotron-rerank-1b-v2", ("safetensors",)),
            type="cross_encoder",
            max_tokens=8192,
            languages=NVIDIA_LANGUAGES,
            licence="NVIDIA Open Model License and Llama 3.2 Community License",
            size_bytes=2 * 1_236_000_000,
            parameters=1_236_000_000,
            architecture="LlamaBidirectionalForSequenceClassification",
            source="https://build.nvidia.com/nvidia/llama-nemotron-rerank-1b-v2/modelcard",
            description="26 languages, across languages too; Llama 3.2 1B that reads in both directions.",
            remote=(RemoteName("nim", "nvidia/llama-3.2-nv-rerankqa-1b-v2"),),
        ),
        _qwen3("0.6B", 595_776_512),
        _qwen3("4B", 4_021_774_336),
        RerankerCard(
            name="bge-reranker-v2-m3",
            files=HubFiles("BAAI/bge-reranker-v2-m3", ("safetensors",), "953dc6f6f85a1b2dbfca4c34a2796e7dde08d41e"),
            type="cross_encoder",
            max_tokens=8192,
            languages=language_codes(
                "ar bn da de en es fa fi fr he hi hu id it ja km ko ms nl no pl pt ru sv sw te th tr vi yo zh"
            ),
            licence="Apache-2.0",
            size_bytes=4 * 568_000_000,
            parameters=568_000_000,
            architecture="XLMRobertaForSequenceClassification",
            source="https://huggingface.co/BAAI/bge-reranker-v2-m3",
            description="Many languages; bge-m3 with a head. 24 layers.",
        ),
        RerankerCard(
            name="jina-reranker-v2-base-multilingual",
            # Its safetensors need code of the repository, which is never run; the graph needs none.
            files=HubFiles(
                "jinaai/jina-reranker-v2-base-multilingual", ("onnx",), "126747772a932960028d9f4dc93bd5d9c4869be4"
            ),
            type="cross_encoder",
            max_tokens=1024,
            languages=(),
            licence="CC-BY-NC-4.0",
            size_bytes=4 * 278_000_000,
            parameters=278_000_000,
            architecture="XLMRobertaForSequenceClassification",
            source="https://huggingface.co/jinaai/jina-reranker-v2-base-multilingual",
            description="Over 100 languages, code and tables; not for commercial use.",
            remote=(RemoteName("cohere", "jina-reranker-v2-base-multilingual"),),
        ),
        RerankerCard(
            name="ms-marco-MiniLM-L-12-v2",
            files=HubFiles(
                "cross-encoder/ms-marco-MiniLM-L12-v2",
                ("onnx", "safetensors"),
                "7b0235231ca2674cb8ca8f022859a6eba2b1c968",
            ),
            type="cross_encoder",
            max_tokens=512,
            languages=("en",),
            licence="Apache-2.0",
            size_bytes=4 * 33_360_385,
            parameters=33_360_385,
            architecture="BertForSequenceClassification",
            source="https://huggingface.co/cross-encoder/ms-marco-MiniLM-L12-v2",
            description="English, small and fast. 12 layers.",
        ),
    )
}
"""Every registered reranker by name."""


def reranker_card(model: str) -> RerankerCard | None:
    """The card of a ``model`` setting: a registered name, the repository of such a model, or its name at an API."""
    name = named_by(RERANKER_MODELS, model)
    return None if name is None else RERANKER_MODELS[name]
