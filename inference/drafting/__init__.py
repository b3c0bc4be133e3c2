"""What may come next in an answer, guessed cheaply: drafts, and how long they should be."""
