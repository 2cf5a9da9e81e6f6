"""Predictions of a model, their scores, and statistics of accuracies and their differences."""
