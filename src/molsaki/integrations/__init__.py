"""The attention loss in trainers of other libraries."""
