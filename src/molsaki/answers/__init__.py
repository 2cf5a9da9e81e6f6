"""What a text answers: markers, numbers, choices, bounded arithmetic. One parser for filtering and for scoring."""
