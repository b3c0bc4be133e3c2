"""Blocks: built, validated, decided, committed, told to subscribers."""
