"""Files: written whole, logged by row, locked, fingerprinted; run directories and a teacher's signals on disk."""
