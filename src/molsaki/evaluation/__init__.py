"""Predictions, scores, and intervals of accuracies and of their differences."""
