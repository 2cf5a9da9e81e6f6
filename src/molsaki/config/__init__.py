"""Recipes: their schema, their files and what can be checked without a model."""
