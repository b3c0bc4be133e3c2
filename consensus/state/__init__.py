"""The chain's state: typed storage over a nested overlay, and the tree that commits to it. Knows no database."""
