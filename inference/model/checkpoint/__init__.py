"""Published checkpoints: GGUF files and Hugging Face directories, read tensor by tensor."""
