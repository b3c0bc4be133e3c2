"""Tests of how the chat page is served, and of its files."""
