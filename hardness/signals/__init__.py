"""Numbers for each sample, from logits, embeddings, gradients, views and neighbors."""
