"""Text generation and classification for languages that large models do not speak."""
