"""The fields by which LangChain's objects say what answers: a pipeline here, or a server's URL."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, model_validator
from typing_extensions import Self

from ragstack.errors import InputError
from ragstack.integrations.langchain.backend import Backend, Truncate
from ragstack.integrations.langchain.local import LocalPipeline


class Connection(BaseModel):
    """Either ``pipeline`` or ``url`` is given.

    ``pipeline`` is an opened :class:`ragstack.Pipeline`, which stays open, or what :func:`ragstack.open` takes: the
    path of a YAML file or a mapping. That pipeline is opened on first use and closed by :meth:`close`; with the
    embedded store only one can be open at a time, so objects over the same index share an opened one.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    pipeline: Any = Field(default=None, repr=False)
    """An opened pipeline, a config's path, or a config as a mapping."""

    url: str | None = None
    """Address of a ``ragstack serve``, such as ``http://127.0.0.1:8000``."""

    api_key: SecretStr | None = None
    """The key that the server asks for."""

    timeout_s: float = Field(default=60.0, gt=0)
    """Seconds that one request to the server may take."""

    max_retries: int = Field(default=2, ge=0)
    """Further attempts when the server cannot be reached or is overloaded."""

    _backend: Backend = PrivateAttr()

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.pipeline is None) == (self.url is None):
            raise InputError(
                f"{type(self).__name__} takes either pipeline or url; got {'neither' if self.url is None else 'both'}.",
                hint="Pass pipeline=ragstack.open('ragstack.yaml'), or url='http://127.0.0.1:8000'.",
            )
        return self

    def model_post_init(self, context: Any, /) -> None:
        """Choose what answers; nothing is opened yet."""
        super().model_post_init(context)
        if self.url is None:
            self._backend = LocalPipeline(self.pipeline, self._truncation())
        else:
            from ragstack.integrations.langchain.remote import RemotePipeline  # noqa: PLC0415 - needs httpx

            self._backend = RemotePipeline(
                self.url, self.api_key, self.timeout_s, self.max_retries, self._model(), self._truncation()
            )

    def _model(self) -> str | None:
        """The name under which the server's model is asked for."""
        return None

    def _truncation(self) -> Truncate:
        return "NONE"

    def close(self) -> None:
        """Release what this object opened itself. Idempotent."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ModelConnection(Connection):
    """A connection whose texts a model reads."""

    model: str | None = None
    """The server's model, by one of its names; None: the one it has. A local pipeline's config says which it is."""

    truncate: Truncate = "NONE"
    """What is cut off a text that is longer than the model reads; ``NONE``: such a text is an error."""

    @model_validator(mode="after")
    def _model_is_the_servers(self) -> Self:
        if self.model is not None and self.url is None:
            raise InputError(
                "model names a server's model; a local pipeline has the one of its config.",
                hint="Pass pipeline={'embedder': {'model': ...}}.",
            )
        return self

    def _model(self) -> str | None:
        return self.model

    def _truncation(self) -> Truncate:
        return self.truncate
