"""Whatever is sent, each route answers with a status, a content type and a body that the OpenAPI document names."""

from __future__ import annotations

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import ragstack
from ragstack.api.app import create_app

schema = schemathesis.openapi.from_dict(create_app(ragstack.open({})).openapi())
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@schema.parametrize()
@settings(
    max_examples=12,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    database=None,
)
def test_every_answer_is_documented(case: schemathesis.Case, shared_url: str) -> None:
    response = case.call(base_url=shared_url)
    case.validate_response(response, checks=CHECKS)
