"""Clients that others wrote against a gateway before a real network with real models."""
