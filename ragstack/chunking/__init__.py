"""Documents to chunks: one module per chunker, by name in :mod:`ragstack.chunking.registry`."""
