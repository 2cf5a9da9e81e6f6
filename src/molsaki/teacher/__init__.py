"""The teacher: requests for rationales, local and served models, the filter, key words, and reading its signals."""
