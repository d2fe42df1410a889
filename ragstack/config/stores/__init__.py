"""The ``store`` block, one module for each kind of store."""
