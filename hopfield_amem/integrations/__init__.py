"""WHERE IT MEETS OTHERS: other people's models on these memories."""
