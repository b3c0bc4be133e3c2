"""Dishonest parties that tests and `myelin demo --cheat` start. Part of the checkout, never of the wheel."""
