"""The curl lines of docs/model-server.md work as typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import httpx
import pytest

PAGE = Path(__file__).parents[3] / "docs" / "model-server.md"


def curl_lines() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", "").splitlines() if line.startswith("curl")]


def test_the_page_has_lines() -> None:
    assert len(curl_lines()) >= 12


@pytest.mark.parametrize("line", curl_lines())
def test_a_line_works_as_typed(model_url: str, line: str) -> None:
    words = shlex.split(line)
    url = next(word for word in words if word.startswith("http"))
    content = words[words.index("-d") + 1] if "-d" in words else None
    headers = dict([words[words.index("-H") + 1].split(": ", 1)]) if "-H" in words else {}
    path = url.removeprefix("http://127.0.0.1:8000")
    assert path != url
    answer = httpx.request("GET" if content is None else "POST", model_url + path, content=content, headers=headers)
    assert answer.status_code == 200, answer.text
