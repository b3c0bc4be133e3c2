"""Tests of keys, budgets, rates and usage."""
