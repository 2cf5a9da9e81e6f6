"""The stepwise attention of a teacher on disk: written row by row, read memory-mapped."""

from molsaki.stores.proof import StoreReport, prove_store
from molsaki.stores.reader import AttentionStore, MissingRowError
from molsaki.stores.writer import AttentionStoreWriter

__all__ = ["AttentionStore", "AttentionStoreWriter", "MissingRowError", "StoreReport", "prove_store"]
