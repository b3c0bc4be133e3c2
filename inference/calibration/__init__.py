"""How far honest work may differ for a model, and how far the nearest cheats do: measured, for its manifest."""
