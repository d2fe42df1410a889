"""An encoder's session: token ids in, one hidden state per token out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ragstack.errors import EmbeddingError
from ragstack.inference.role import EMBEDDER
from ragstack.inference.session import Int64Array, TextModelSession, open_session
from ragstack.types import Float32Array

_TOKEN_OUTPUTS = ("last_hidden_state", "token_embeddings")


@dataclass(frozen=True)
class EncoderSession:
    """A loaded encoder. :meth:`run` may be called from several threads at once."""

    _session: TextModelSession
    _output: str

    def run(self, ids: Int64Array, counts: Int64Array) -> Float32Array:
        """Hidden states ``(n, longest, dim) float32`` of padded ``ids`` ``(n, longest)``.

        Row i holds ``counts[i]`` tokens, special ones included.
        Raises EmbeddingError when the runtime fails.
        """
        hidden = self._session.run(self._output, ids, counts)
        if hidden.ndim != 3:
            raise EmbeddingError(
                f"the model's output {self._output!r} has shape {hidden.shape}, expected (texts, tokens, dim).",
                hint="Export the model for feature extraction, so that it gives one vector per token.",
            )
        return hidden


def load_session(weights: bytes | Path, threads: int) -> EncoderSession:
    """Load an encoder on the CPU with ``threads`` threads for each call.

    Raises EmbeddingError when the file is not a model that can be run, or reads inputs other than
    token ids, mask, types and positions.
    """
    session = open_session(weights, threads, EMBEDDER)
    return EncoderSession(session, session.output(_TOKEN_OUTPUTS))
