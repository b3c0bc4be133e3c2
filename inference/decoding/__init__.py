"""How a token follows from logits: the rules of an order, one file each, and the chooser that applies them."""
