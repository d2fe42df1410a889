"""Measured speed: latency, throughput and cost of embedding, reranking and asking, here or at an endpoint.

``plan`` says what is asked for, ``texts`` makes it, ``load`` counts and keeps time without I/O, ``driver`` carries it
out against a ``target`` (``local``: this process; ``remote``: HTTP), ``statistics`` and ``costs`` reckon, ``report``
is what comes out.
"""
