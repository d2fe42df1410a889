"""Embedding models whose weights are on the Hugging Face hub, or behind an API.

Sizes, lengths, licences and revisions are those of the models' own cards (``source``) and of MTEB's registry of models
(github.com/embeddings-benchmark/mteb, mteb/models/model_implementations); parameters and lengths of NVIDIA's are those
of https://docs.nvidia.com/nim/nemo-retriever/text-embedding/2.0.0/support-matrix.html.
"""

from __future__ import annotations

from ragstack.embedding.model_card import ModelCard
from ragstack.embedding.packaged_models import XLM_R_LANGUAGES
from ragstack.inference.model_cards import NVIDIA_LANGUAGES, QWEN3_LANGUAGES, HubFiles, RemoteName, language_codes

# Languages of the training data with a code of two letters, and ckb:
# https://huggingface.co/BAAI/bge-m3/discussions/29, as MTEB's bge_models.py repeats it.
_BGE_M3_LANGUAGES = language_codes(
    "af am an ar as av az ba be bg bh bn bo br bs ca ce ckb co cs cv cy da de dv el en eo es et eu fa fi fr fy ga gd gl"
    " gn gu gv he hi hr ht hu hy ia id ie io is it ja jv ka kk km kn ko ku kv kw ky la lb li lo lt lv mg mk ml mn mr ms"
    " mt my ne nl nn no oc or os pa pl ps pt qu rm ro ru sa sc sd sh si sk sl so sq sr su sv sw ta te tg th tk tl tr tt"
    " ug uk ur uz vi vo wa yi yo zh"
)

_QWEN3_QUERY = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"


def _qwen3(size: str, dim: int, parameters: int, revision: str) -> ModelCard:
    name = f"Qwen3-Embedding-{size}"
    return ModelCard(
        name=name,
        files=HubFiles(f"Qwen/{name}", ("safetensors",), revision),
        dim=dim,
        # 32,768 positions, one of them for <|endoftext|>, whose state is the vector.
        max_tokens=32_767,
        pooling="last",
        languages=QWEN3_LANGUAGES,
        licence="Apache-2.0",
        size_bytes=2 * parameters,
        query_prompt=_QWEN3_QUERY,
        parameters=parameters,
        architecture="Qwen3ForCausalLM",
        matryoshka=range(32, dim),
        source=f"https://huggingface.co/Qwen/{name}",
        description="Over 100 languages and code; queries carry an instruction, best in English.",
    )


def _multilingual_e5(size: str, dim: int, parameters: int, revision: str) -> ModelCard:
    name = f"multilingual-e5-{size}"
    return ModelCard(
        name=name,
        files=HubFiles(f"intfloat/{name}", ("onnx", "safetensors"), revision),
        dim=dim,
        # 514 positions, counted from 2; <s> and </s>.
        max_tokens=510,
        pooling="mean",
        languages=XLM_R_LANGUAGES,
        licence="MIT",
        size_bytes=4 * parameters,
        query_prompt="query: ",
        passage_prompt="passage: ",
        parameters=parameters,
        architecture="XLMRobertaModel",
        source=f"https://huggingface.co/intfloat/{name}",
        description="93 languages, across languages too.",
    )


HUB_MODELS = (
    ModelCard(
        name="nv-embedqa-e5-v5",
        files=None,
        dim=1024,
        max_tokens=510,
        pooling="mean",
        languages=("en",),
        licence="NVIDIA AI Foundation Models Community License and MIT",
        size_bytes=2 * 335_000_000,
        parameters=335_000_000,
        architecture="BertModel",
        remote=(RemoteName("nim", "nvidia/nv-embedqa-e5-v5"),),
        not_local="NVIDIA serves it as a NIM, which puts the prompt of input_type before the text itself.",
        source="https://docs.api.nvidia.com/nim/reference/nvidia-nv-embedqa-e5-v5",
        description="English questions and passages; E5-Large-Unsupervised, fine-tuned. 24 layers.",
    ),
    ModelCard(
        name="llama-3.2-nv-embedqa-1b-v2",
        # The same model under its later name.
        files=HubFiles("nvidia/llama-nemotron-embed-1b-v2", ("safetensors",)),
        dim=2048,
        # 8,192 tokens, one of them <|begin_of_text|>.
        max_tokens=8191,
        pooling="mean",
        languages=NVIDIA_LANGUAGES,
        licence="NVIDIA Open Model License and Llama 3.2 Community License",
        size_bytes=2 * 1_236_000_000,
        query_prompt="query: ",
        passage_prompt="passage: ",
        parameters=1_236_000_000,
        architecture="LlamaBidirectionalModel",
        matryoshka=(384, 512, 768, 1024),
        remote=(RemoteName("nim", "nvidia/llama-3.2-nv-embedqa-1b-v2"),),
        source="https://build.nvidia.com/nvidia/llama-nemotron-embed-1b-v2/modelcard",
        description="26 languages, across languages too; Llama 3.2 1B that reads in both directions.",
    ),
    _qwen3("0.6B", 1024, 595_776_512, "b22da495047858cce924d27d76261e96be6febc0"),
    _qwen3("4B", 2560, 4_021_774_336, "636cd9bf47d976946cdbb2b0c3ca0cb2f8eea5ff"),
    _qwen3("8B", 4096, 7_567_295_488, "4e423935c619ae4df87b646a3ce949610c66241c"),
    ModelCard(
        name="bge-m3",
        # Beside ONNX the repository has a pickle, which is never loaded.
        files=HubFiles("BAAI/bge-m3", ("onnx",), "5617a9f61b028005a4858fdac845db406aefb181"),
        dim=1024,
        # 8,194 positions, counted from 2; <s> and </s>.
        max_tokens=8190,
        pooling="cls",
        languages=_BGE_M3_LANGUAGES,
        licence="MIT",
        size_bytes=4 * 568_000_000,
        parameters=568_000_000,
        architecture="XLMRobertaModel",
        outputs=("dense", "sparse", "multi-vector"),
        remote=(RemoteName("nim", "baai/bge-m3"),),
        source="https://huggingface.co/BAAI/bge-m3",
        description="Over 100 languages, long texts, no prompts. Sparse search is BM25's here, not the model's.",
    ),
    ModelCard(
        name="bge-large-en-v1.5",
        files=HubFiles("BAAI/bge-large-en-v1.5", ("onnx", "safetensors"), "d4aa6901d3a41ba39fb536a557fa166f842b0e09"),
        dim=1024,
        max_tokens=510,
        pooling="cls",
        languages=("en",),
        licence="MIT",
        size_bytes=4 * 335_000_000,
        query_prompt="Represent this sentence for searching relevant passages: ",
        parameters=335_000_000,
        architecture="BertModel",
        source="https://huggingface.co/BAAI/bge-large-en-v1.5",
        description="English, 24 layers.",
    ),
    ModelCard(
        name="jina-embeddings-v4",
        files=None,
        dim=2048,
        max_tokens=32_768,
        pooling="mean",
        languages=(),
        licence="Qwen Research License",
        size_bytes=2 * 3_800_000_000,
        query_prompt="Query: ",
        passage_prompt="Passage: ",
        parameters=3_800_000_000,
        architecture="JinaEmbeddingsV4Model",
        matryoshka=(128, 256, 512, 1024),
        outputs=("dense", "multi-vector"),
        task_adapters=("retrieval", "text-matching", "code"),
        remote=(RemoteName("openai", "jina-embeddings-v4"),),
        not_local="its task adapters need code of its repository, and such code is never run.",
        source="https://huggingface.co/jinaai/jina-embeddings-v4",
        description="Over 30 languages, text and images; Qwen2.5-VL-3B with an adapter for each task.",
    ),
    _multilingual_e5("base", 768, 278_000_000, "d13f1b27baf31030b7fd040960d60d909913633f"),
    _multilingual_e5("large", 1024, 560_000_000, "ab10c1a7f42e74530fe7ae5be82e6d4f11a719eb"),
)
"""Sizes on disk are those of the precision in which the weights are published."""
