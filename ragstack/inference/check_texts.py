"""What models are asked in a self-check: short and long, several languages and scripts, numbers, code."""

CHECK_TEXTS: tuple[str, ...] = (
    "Paris",
    "How do I restart the service after an update?",
    "Restart the service with systemctl restart after every update, then read the journal for errors.",
    "The melting point of gallium is 29.76 °C, so a spoon made of it disappears in a cup of hot tea.",
    "Le chat dort sur le canapé pendant que la pluie tombe sur les toits de la ville.",
    "人工知能は大量の文書から必要な情報を探し出すのに役立つ。",
    "def mean(values: list[float]) -> float:\n    return sum(values) / len(values)",
    "Records of invoices, payroll and customs are kept for ten years from the end of the year in which they were made;"
    " correspondence is kept for six. A shorter time may be agreed where the law allows it, and a longer one where a"
    " dispute is open. What is kept on paper may be destroyed once a scan of it was checked page by page and signed.",
)

CHECK_QUERY = "How long must invoices be kept?"


def long_text(words: int) -> str:
    """Plain English of so many words, by which speed is measured."""
    plain = " ".join(text for text in CHECK_TEXTS if text.isascii()).split()
    return " ".join(plain[index % len(plain)] for index in range(words))
