"""The answer parser: markers, numbers, choices, bounded arithmetic. Filtering and scoring share it."""
