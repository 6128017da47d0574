"""What a person sees: figures, tables on a terminal, lists."""
