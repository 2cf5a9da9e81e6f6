"""The stepwise attention of a teacher on disk: written row by row, read memory-mapped."""

from molsaki.stores.reader import AttentionStore, MissingRowError, StoreReport
from molsaki.stores.writer import AttentionStoreWriter

__all__ = ["AttentionStore", "AttentionStoreWriter", "MissingRowError", "StoreReport"]
