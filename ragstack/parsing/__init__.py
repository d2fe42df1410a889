"""Raw bytes to documents: one module per format, tied to media types in :mod:`ragstack.parsing.registry`."""
