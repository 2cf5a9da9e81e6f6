"""Recipes: their schema, their files, and all checks that need no model."""
